//! Phase 2: followers get the leader's history, put it on disk, then make the epoch current, then say so.

use super::{Body, Follower, FollowerStage, PartState, Stage, Zab, Zxid};
use crate::effect::Effect;
use crate::entry::Entry;
use crate::flow::Flow;
use crate::id::{Index, MemberId};
use crate::log::LogRead;
use crate::mutants::mutant;

impl Zab {
    pub(super) fn synchronise_all(&mut self, log: &dyn LogRead) {
        let PartState::Leading(leading) = &self.part else { return };
        let ids: Vec<MemberId> = leading.followers.keys().copied().collect();
        for id in ids {
            self.synchronise(id, log);
        }
    }

    /// DIFF if the follower's last entry is in this history, TRUNC if a part of its end is not, SNAP if what follows is gone.
    pub(super) fn synchronise(&mut self, id: MemberId, log: &dyn LogRead) {
        let (own_last, now) = (self.last(log), self.now);
        let view = self.view(log);
        let PartState::Leading(leading) = &self.part else { return };
        let Some(FollowerStage::Accepted(theirs)) = leading.followers.get(&id).map(|it| it.stage) else {
            return;
        };
        let known = view.epoch(theirs.index) == Ok(theirs.epoch)
            || mutant!(Zookeeper4925) && theirs.index <= view.last_index();
        let held = theirs.index >= view.snapshot_index() && known;
        let to = self.newest_until(theirs, log);
        // They meet inside the snapshot: even its last entry is newer than what the follower has there.
        let gone = theirs.index < view.snapshot_index() || to.epoch > theirs.epoch;
        let snapshot_next = view.snapshot_index().next();
        let PartState::Leading(leading) = &mut self.part else { return };
        let Some(follower) = leading.followers.get_mut(&id) else { return };
        if held {
            follower.stage = FollowerStage::Syncing(own_last);
            follower.progress.fell_back(theirs.index, now);
            self.replicate_to(id, log);
            self.send(id, Body::NewLeader { last: own_last });
        } else if gone {
            if follower.progress.flow != Flow::Snapshot {
                follower.progress.probe(snapshot_next, now);
                follower.progress.snapshot();
                self.outbox.push(Effect::SendSnapshot { to: id });
            }
        } else {
            self.send(id, Body::Truncate { to });
        }
    }

    /// A follower's history after TRUNC or SNAP, or where it stands when it lacks what NEWLEADER names or what comes before a
    /// proposal.
    pub(super) fn history_told(&mut self, from: MemberId, last: Zxid, log: &dyn LogRead) {
        let PartState::Leading(leading) = &mut self.part else { return };
        if leading.stage < Stage::Synchronisation {
            return;
        }
        let patience_ms = 2 * self.config.heartbeat_interval_ms;
        let Some(follower) = leading.followers.get_mut(&from) else { return };
        let expected = match follower.stage {
            // What it told before was answered, and is said again from time to time.
            FollowerStage::Accepted(told) => told != last,
            // What was sent may still be on its way, unless it was here and was cut off by a late TRUNC.
            FollowerStage::Syncing(_) => {
                let waited = self.now.since_ms(follower.progress.moved_at) >= patience_ms;
                waited || last.index < follower.progress.matched
            }
            FollowerStage::Synced => return self.missed(from, last.index, log),
            FollowerStage::Informed => false,
        };
        if expected {
            follower.stage = FollowerStage::Accepted(last);
            if follower.progress.flow == Flow::Snapshot {
                follower.progress.probe(last.index.next(), self.now);
            }
            self.synchronise(from, log);
        }
    }

    /// A follower dropped a proposal, since it has nothing behind `last`: what follows is sent at once, unless it has been sent again
    /// already. That its log ends there is no acknowledgement.
    fn missed(&mut self, from: MemberId, last: Index, log: &dyn LogRead) {
        let now = self.now;
        let PartState::Leading(leading) = &mut self.part else { return };
        let Some(Follower { progress, .. }) = leading.followers.get_mut(&from) else { return };
        if progress.flow == Flow::Pipeline && last >= progress.matched && last.next() < progress.next {
            progress.probe(last.next(), now);
            self.replicate_to(from, log);
        }
    }

    /// A follower drops what its leader's history does not have; the leader asks until they meet in an entry. Once the epoch is
    /// current the log is a part of the leader's and its acknowledgements count: a TRUNC that comes then is a late one.
    pub(super) fn truncate(&mut self, from: MemberId, to: Zxid, log: &dyn LogRead) {
        if self.is_current() && !mutant!(LateTruncObeyed) {
            let last = self.last(log);
            return self.send(from, Body::History { last });
        }
        // What is committed is in every leader's history.
        let committed =
            Zxid { epoch: self.view(log).epoch(self.commit).unwrap_or_default(), index: self.commit };
        let to = to.max(committed);
        // The leader has nothing between `to` and this log's end: what is newer than `to` is not in its history.
        let newest = self.newest_until(to, log);
        if self.view(log).last_index() > newest.index {
            self.memberships.replaced_from(newest.index.next());
            self.outbox.truncate(newest.index);
        }
        self.send(from, Body::History { last: newest });
    }

    /// Entries behind `previous`, in phase 2 and 3 alike. What does not follow the last entry is dropped; it comes again, as soon as
    /// the leader hears where the log ends.
    pub(super) fn proposed(
        &mut self,
        from: MemberId,
        previous: Zxid,
        entries: Vec<Entry>,
        commit: Index,
        log: &dyn LogRead,
    ) {
        let view = self.view(log);
        let last = view.last_index();
        let (follows, known) = if previous.index < self.commit {
            (true, entries.iter().filter(|entry| entry.index <= last).count())
        } else {
            let same = |entry: &&Entry| view.epoch(entry.index) == Ok(entry.epoch);
            let follows = view.epoch(previous.index) == Ok(previous.epoch)
                || mutant!(Zookeeper4925) && previous.index <= last;
            (follows, entries.iter().take_while(same).count())
        };
        let matched = Index(previous.index.0 + entries.len() as u64);
        let grows = entries.get(known).is_some_and(|entry| entry.index == last.next());
        if !follows || (known < entries.len() && !grows) {
            return self.tell_matched(from, previous.index > last, log);
        }
        for entry in entries.into_iter().skip(known) {
            self.write_entry(entry);
        }
        self.try_make_current(log);
        let current = self.is_current();
        self.send(from, Body::Ack { matched, current });
        self.commit_told(commit.min(matched));
    }

    /// After NEWLEADER the log is a part of the leader's: the leader may send on from its end, and must if something is `missing`.
    fn tell_matched(&mut self, leader: MemberId, missing: bool, log: &dyn LogRead) {
        let last = self.last(log);
        let PartState::Following(following) = &self.part else { return };
        if following.stage >= Stage::Acknowledged {
            let acknowledgement = Body::Ack { matched: last.index, current: true };
            self.send(leader, if missing { Body::History { last } } else { acknowledgement });
        }
    }

    /// NEWLEADER: the history up to `last` is to be put on disk.
    pub(super) fn new_leader(&mut self, last: Zxid, log: &dyn LogRead) {
        let PartState::Following(following) = &mut self.part else { return };
        let leader = following.leader;
        following.new_leader = Some(last);
        following.history = None;
        let held = self.view(log).epoch(last.index) == Ok(last.epoch);
        if mutant!(Zookeeper3023) {
            self.current_epoch = self.accepted_epoch;
            self.acknowledge_new_leader(leader, log);
        } else if held && self.is_current() {
            self.acknowledge_new_leader(leader, log);
        } else if held {
            self.try_make_current(log);
        } else {
            let newest = self.newest_until(last, log);
            self.send(leader, Body::History { last: newest });
        }
    }

    /// History persisted, then epoch, then ACK-LD: each waits for the write before.
    pub(super) fn try_make_current(&mut self, log: &dyn LogRead) {
        let this_write = self.outbox.newest_write();
        let view = self.view(log);
        let PartState::Following(following) = &self.part else { return };
        let Some(last) = following.new_leader.filter(|_| following.stage == Stage::Synchronisation) else {
            return;
        };
        if view.epoch(last.index) != Ok(last.epoch) {
            return;
        }
        let PartState::Following(following) = &mut self.part else { return };
        let history = *following.history.get_or_insert(this_write);
        let leader = following.leader;
        if mutant!(Zookeeper4646) && !self.outbox.is_persisted(history) {
            let matched = self.view(log).last_index();
            return self.send(leader, Body::AckNewLeader { matched });
        }
        if self.outbox.is_persisted(history) || mutant!(Zookeeper3911, Zookeeper4643) {
            self.current_epoch = self.accepted_epoch;
            self.acknowledge_new_leader(leader, log);
        }
    }

    fn acknowledge_new_leader(&mut self, leader: MemberId, log: &dyn LogRead) {
        if let PartState::Following(following) = &mut self.part {
            following.stage = following.stage.max(Stage::Acknowledged);
        }
        let matched = self.view(log).last_index();
        self.send(leader, Body::AckNewLeader { matched });
    }

    /// The same rule for the leader itself.
    pub(super) fn make_own_current(&mut self, log: &dyn LogRead) {
        let newest = self.outbox.newest_write();
        let (this_write, current) = (self.outbox.this_write(), self.is_current());
        let PartState::Leading(leading) = &mut self.part else { return };
        if !self.outbox.is_persisted(newest) {
            leading.own_write = Some(newest);
        } else if current {
            self.count_synced(log);
        } else {
            self.current_epoch = self.accepted_epoch;
            leading.own_write = Some(this_write);
        }
    }

    /// ACK-LD: from here on what it acknowledges counts. What it acknowledged before may have been cut off again.
    pub(super) fn new_leader_acknowledged(&mut self, from: MemberId, matched: Index, log: &dyn LogRead) {
        let (commit, now) = (self.commit, self.now);
        let PartState::Leading(leading) = &mut self.part else { return };
        let Some(follower) = leading.followers.get_mut(&from) else { return };
        if !matches!(follower.stage, FollowerStage::Syncing(_)) {
            return;
        }
        follower.stage = FollowerStage::Synced;
        follower.progress.fell_back(matched, now);
        if leading.stage == Stage::Broadcast {
            self.send(from, Body::UpToDate { commit });
            self.advance_commit(log);
            self.replicate_to(from, log);
        } else {
            self.count_synced(log);
        }
    }

    /// Phase 2 ends when the epoch is current on a quorum: then the whole initial history is committed. The leader itself must be
    /// one of them: from here on its own copy of an entry counts, which it may only while elections see the epoch in its vote.
    fn count_synced(&mut self, log: &dyn LogRead) {
        let (own, quorum) = (self.config.id, self.present().1.quorum());
        let own_current = self.is_current();
        let PartState::Leading(leading) = &mut self.part else { return };
        let synced = |id| {
            if id == own {
                own_current && leading.own_write.is_none()
            } else {
                leading.followers.get(&id).is_some_and(|it| it.stage == FollowerStage::Synced)
            }
        };
        if leading.stage != Stage::Synchronisation || !synced(own) || !quorum.reached(synced) {
            return;
        }
        leading.stage = Stage::Broadcast;
        let initial = leading.initial;
        self.leader = Some(own);
        self.commit_to(initial);
        let commit = self.commit;
        for id in self.synced_followers() {
            self.send(id, Body::UpToDate { commit });
        }
        self.settle_membership(log);
        self.tick_leader(log);
    }

    /// Part of a bug: NEWLEADER was acknowledged, and UPTODATE has not come.
    pub(super) fn awaits_up_to_date(&self) -> bool {
        matches!(&self.part, PartState::Following(following) if following.stage == Stage::Acknowledged)
    }

    /// UPTODATE, or a ping that says as much.
    pub(super) fn up_to_date(&mut self, commit: Index, log: &dyn LogRead) {
        let last = self.view(log).last_index();
        // One that comes back in the same epoch acknowledged NEWLEADER before: its log is a part of the leader's already.
        let acknowledged = self.is_current();
        let PartState::Following(following) = &mut self.part else { return };
        if acknowledged && following.stage > Stage::Discovery {
            following.stage = Stage::Broadcast;
        }
        self.commit_told(commit.min(last));
    }

    /// The leader's commit index, as far as this log goes. It counts in phase 3 only.
    fn commit_told(&mut self, commit: Index) {
        let PartState::Following(following) = &self.part else { return };
        if following.stage == Stage::Broadcast {
            self.commit_to(commit);
        }
    }
}
