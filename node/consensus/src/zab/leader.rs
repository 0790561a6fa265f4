//! Phase 3, broadcast, and what a leader does from time to time in every phase.

use super::{Body, Follower, FollowerStage, PartState, Stage, State, Zab, Zxid};
use crate::effect::{Effect, Refusal};
use crate::entry::{Entry, Kind, headers};
use crate::flow::Flow;
use crate::id::{Index, MemberId};
use crate::input::Proposal;
use crate::log::{LogRead, Missing};
use crate::mutants::mutant;

impl Zab {
    pub(super) fn propose(&mut self, proposals: Vec<Proposal>, log: &dyn LogRead) {
        let mut next = self.view(log).last_index().next();
        for Proposal { id, payload } in proposals {
            let refusal = match &self.part {
                PartState::Leading(leading) if leading.transfer.is_some() => Some(Refusal::Transferring),
                PartState::Leading(leading) if leading.stage == Stage::Broadcast => {
                    (leading.backlog.room_bytes(&self.config) == 0).then_some(Refusal::Overloaded)
                }
                PartState::Looking(_) | PartState::Following(_) | PartState::Leading(_) => {
                    Some(self.not_leader())
                }
            };
            if let Some(refusal) = refusal {
                self.outbox.push(Effect::Refuse { id, refusal });
                continue;
            }
            let epoch = self.accepted_epoch;
            self.lead_entry(Entry { index: next, epoch, kind: Kind::Command, payload });
            self.outbox.push(Effect::Accepted { id, index: next, epoch });
            next = next.next();
        }
        self.replicate(log);
    }

    pub(super) fn is_established(&self) -> bool {
        matches!(&self.part, PartState::Leading(leading) if leading.stage == Stage::Broadcast)
    }

    /// What may still be proposed.
    pub(super) fn room(&self) -> usize {
        match &self.part {
            PartState::Leading(leading) => leading.backlog.room_bytes(&self.config),
            PartState::Looking(_) | PartState::Following(_) => 0,
        }
    }

    /// The refusal of one who does not lead.
    pub(super) fn not_leader(&self) -> Refusal {
        Refusal::NotLeader { leader: self.leader }
    }

    /// Appends an entry of this leader's own.
    pub(super) fn lead_entry(&mut self, entry: Entry) {
        let (index, bytes) = (entry.index, entry.payload.len());
        self.write_entry(entry);
        if let PartState::Leading(leading) = &mut self.part {
            leading.backlog.push(index, bytes);
        }
    }

    fn follower(&mut self, id: MemberId) -> Option<&mut Follower> {
        match &mut self.part {
            PartState::Leading(leading) => leading.followers.get_mut(&id),
            PartState::Looking(_) | PartState::Following(_) => None,
        }
    }

    /// A follower spoke. Whether this member leads it.
    pub(super) fn note_active(&mut self, from: MemberId) -> bool {
        let now = self.now;
        self.follower(from).map(|follower| follower.progress.active_at = now).is_some()
    }

    pub(super) fn synced_followers(&self) -> Vec<MemberId> {
        let PartState::Leading(leading) = &self.part else { return Vec::new() };
        let synced = leading.followers.iter().filter(|(_, it)| it.stage == FollowerStage::Synced);
        synced.map(|(&id, _)| id).collect()
    }

    /// Sends everybody what flow control allows.
    pub(super) fn replicate(&mut self, log: &dyn LogRead) {
        let PartState::Leading(leading) = &self.part else { return };
        let ids: Vec<MemberId> = leading.followers.keys().copied().collect();
        for id in ids {
            self.replicate_to(id, log);
        }
    }

    pub(super) fn replicate_to(&mut self, id: MemberId, log: &dyn LogRead) {
        loop {
            let last = self.view(log).last_index();
            let PartState::Leading(leading) = &self.part else { return };
            let Some(Follower { stage, progress }) = leading.followers.get(&id) else { return };
            let in_phase = matches!(stage, FollowerStage::Syncing(_) | FollowerStage::Synced);
            let may = progress.may_send(self.config.inflight_appends_max, self.config.inflight_bytes_max);
            if !in_phase || !may || progress.next > last {
                return;
            }
            let next = progress.next;
            match self.gather(next, log) {
                Ok((previous, entries)) => {
                    let witness = self.present().1.is_witness(id);
                    let entries = if witness { headers(entries) } else { entries };
                    let sent = entries.last().map_or(next, |entry| entry.index);
                    let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
                    let (commit, now) = (self.commit, self.now);
                    self.send(id, Body::Propose { previous, entries, commit });
                    if let Some(follower) = self.follower(id) {
                        follower.progress.sent(sent, bytes, now);
                    }
                }
                Err(Missing::Compacted) => return self.start_over(id),
                // Nothing can be sent from a damaged place; the caller repairs it or ends the member.
                Err(Missing::Faulty | Missing::Beyond) => return,
            }
        }
    }

    fn gather(&self, next: Index, log: &dyn LogRead) -> Result<(Zxid, Vec<Entry>), Missing> {
        let view = self.view(log);
        let index = next.previous();
        if index < view.snapshot_index() {
            return Err(Missing::Compacted);
        }
        let previous = Zxid { epoch: view.epoch(index)?, index };
        Ok((previous, view.entries(next, self.config.append_bytes_max)?))
    }

    /// A follower goes through discovery and synchronisation again: what it lacks is gone from the log.
    fn start_over(&mut self, id: MemberId) {
        if let Some(follower) = self.follower(id) {
            follower.stage = FollowerStage::Informed;
            self.send(id, Body::LeaderInfo);
        }
    }

    pub(super) fn acknowledged(&mut self, from: MemberId, matched: Index, current: bool, log: &dyn LogRead) {
        let view = self.view(log);
        let (now, last, compacted) = (self.now, view.last_index(), view.snapshot_index());
        let Some(follower) = self.follower(from) else { return };
        if mutant!(Zookeeper4685) && matches!(follower.stage, FollowerStage::Syncing(_)) {
            return self.look(false, log);
        }
        let counts = match follower.stage {
            FollowerStage::Informed | FollowerStage::Accepted(_) => false,
            FollowerStage::Syncing(_) => true,
            FollowerStage::Synced => current,
        };
        if counts && matched <= last && follower.progress.acknowledged(matched, compacted, now) {
            self.advance_commit(log);
        }
        self.replicate_to(from, log);
        self.continue_transfer(from, log);
    }

    /// This leader's own entries became durable.
    pub(super) fn own_log_persisted(&mut self, log: &dyn LogRead) {
        if self.is_established() {
            self.advance_commit(log);
        }
    }

    /// An entry is committed when a quorum for which the epoch is current has it; those before it are then.
    pub(super) fn advance_commit(&mut self, log: &dyn LogRead) {
        let (own, durable) = (self.config.id, self.outbox.durable());
        let PartState::Leading(leading) = &self.part else { return };
        if leading.stage != Stage::Broadcast {
            return;
        }
        let matched = |id| match leading.followers.get(&id) {
            _ if id == own => durable,
            Some(follower) if follower.stage == FollowerStage::Synced || mutant!(CommitFromUnsynced) => {
                follower.progress.matched
            }
            Some(_) | None => Index(0),
        };
        let reached = self.present().1.quorum().reached_value(matched);
        if reached <= self.commit {
            return;
        }
        self.commit_to(reached);
        if let PartState::Leading(leading) = &mut self.part {
            leading.backlog.decided(reached);
            leading.beat_at = self.now;
        }
        self.settle_membership(log);
        self.replicate(log);
    }

    /// The periodic part: what was not answered is said again, pings, lost quorum.
    pub(super) fn tick_leader(&mut self, log: &dyn LogRead) {
        let PartState::Leading(leading) = &mut self.part else { return };
        if let Some(transfer) = leading.transfer.take_if(|transfer| self.now >= transfer.give_up_at)
            && transfer.must
        {
            return self.look(false, log);
        }
        if leading.stage < Stage::Broadcast && self.now >= leading.establish_by {
            return self.look(false, log);
        }
        if self.now >= leading.check_quorum_at {
            leading.check_quorum_at = self.now.after_ms(self.config.election_timeout_ms);
            if !self.hears_quorum() {
                return self.look(false, log);
            }
        }
        let PartState::Leading(leading) = &mut self.part else { return };
        if self.now >= leading.beat_at {
            leading.beat_at = self.now.after_ms(self.config.heartbeat_interval_ms);
            self.say_again(log);
            self.ping(false);
            self.hand_over_if_due(log);
        }
    }

    /// Repeats what followers in earlier phases may have lost; tells those who follow nobody that this member leads. Who fell
    /// silent may look for a leader by now, and may know of nobody who could name this one.
    fn say_again(&mut self, log: &dyn LogRead) {
        let (own, epoch_found) = match &self.part {
            PartState::Leading(leading) => (self.config.id, leading.infos.is_empty()),
            PartState::Looking(_) | PartState::Following(_) => return,
        };
        let (now, patience_ms) = (self.now, 2 * self.config.heartbeat_interval_ms);
        for id in self.present().1.receivers() {
            let follower = self.follower(id);
            let silent =
                follower.as_ref().is_none_or(|it| now.since_ms(it.progress.active_at) >= patience_ms);
            let stage = follower.map(|follower| follower.stage);
            if silent && id != own {
                let notification =
                    super::Notification { round: self.round, state: State::Leading, vote: None };
                self.send(id, Body::Notification(notification));
            }
            match stage {
                _ if id == own => {}
                Some(FollowerStage::Informed) if epoch_found => self.send(id, Body::LeaderInfo),
                None | Some(FollowerStage::Informed | FollowerStage::Synced) => {}
                Some(FollowerStage::Accepted(_)) => {
                    if matches!(&self.part, PartState::Leading(it) if it.stage > Stage::Discovery) {
                        self.synchronise(id, log);
                    }
                }
                Some(FollowerStage::Syncing(last)) => {
                    self.send_lost_again(id, log);
                    self.send(id, Body::NewLeader { last });
                }
            }
        }
    }

    fn hears_quorum(&self) -> bool {
        let PartState::Leading(leading) = &self.part else { return false };
        let heard = |follower: &Follower| {
            self.now.since_ms(follower.progress.active_at) <= self.config.election_timeout_ms
        };
        let quorum = self.present().1.quorum();
        quorum.reached(|id| {
            let informed = leading.infos.contains_key(&id);
            id == self.config.id || informed || leading.followers.get(&id).is_some_and(heard)
        })
    }

    /// Tells synced followers that the leader lives; carries the commit index and the newest round of reads.
    pub(super) fn ping(&mut self, voters_only: bool) {
        let quorum = self.present().1.quorum();
        let PartState::Leading(leading) = &self.part else { return };
        let (commit, round) = (self.commit, leading.reads.newest());
        if leading.stage != Stage::Broadcast {
            return;
        }
        for id in self.synced_followers() {
            if !voters_only || quorum.contains(id) {
                self.send(id, Body::Ping { commit, round });
            }
        }
    }

    pub(super) fn pinged(&mut self, from: MemberId, round: u64, matched: Index, log: &dyn LogRead) {
        let Some(follower) = self.follower(from) else { return };
        if follower.stage != FollowerStage::Synced {
            return;
        }
        follower.progress.round = follower.progress.round.max(round);
        self.acknowledged(from, matched, true, log);
        self.send_lost_again(from, log);
        self.confirm_reads();
    }

    /// What was sent and not acknowledged for two beats is taken for lost.
    fn send_lost_again(&mut self, id: MemberId, log: &dyn LogRead) {
        let (now, last) = (self.now, self.view(log).last_index());
        let patience_ms = 2 * self.config.heartbeat_interval_ms;
        let Some(follower) = self.follower(id) else { return };
        let progress = &mut follower.progress;
        let lost = progress.matched < last && now.since_ms(progress.moved_at) >= patience_ms;
        if lost && progress.flow != Flow::Snapshot {
            let next = progress.matched.next();
            progress.probe(next, now);
            self.replicate_to(id, log);
        }
    }

    /// Whether it arrived or not, the follower is asked what it has.
    pub(super) fn snapshot_sent(&mut self, to: MemberId, ok: bool) {
        let now = self.now;
        if let Some(follower) = self.follower(to)
            && follower.progress.flow == Flow::Snapshot
        {
            let next = follower.progress.next;
            follower.progress.probe(next, now);
            follower.stage = FollowerStage::Informed;
            if ok {
                self.send(to, Body::LeaderInfo);
            }
        }
    }

    /// A follower whose connection to its leader was reset looks for another one at once; if the leader still leads, it says so
    /// at its next beat.
    pub(super) fn unreachable(&mut self, peer: MemberId, reset: bool, log: &dyn LogRead) {
        let now = self.now;
        if reset && matches!(&self.part, PartState::Following(following) if following.leader == peer) {
            self.gone = Some((peer, now));
            return self.look(false, log);
        }
        if let Some(follower) = self.follower(peer)
            && follower.progress.flow == Flow::Pipeline
        {
            let next = follower.progress.matched.next();
            follower.progress.probe(next, now);
        }
    }
}
