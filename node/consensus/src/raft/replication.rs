//! Appending: the leader's side, the follower's side, and commitment.

use super::{Body, PartState, Raft, not_leader};
use crate::effect::{Effect, Refusal};
use crate::entry::{Entry, Kind, headers};
use crate::flow::Flow;
use crate::id::{Epoch, Index, MemberId};
use crate::input::Proposal;
use crate::log::{LogRead, Missing};
use crate::mutants::mutant;

impl Raft {
    pub(super) fn propose(&mut self, proposals: Vec<Proposal>, log: &dyn LogRead) {
        let mut next = self.view(log).last_index().next();
        for Proposal { id, payload } in proposals {
            let refusal = match &self.part {
                PartState::Leader(leading) if leading.transfer.is_some() => Some(Refusal::Transferring),
                PartState::Leader(leading) => {
                    (leading.backlog.room_bytes(&self.config) == 0).then_some(Refusal::Overloaded)
                }
                PartState::Follower | PartState::Candidate(_) => Some(not_leader(self)),
            };
            if let Some(refusal) = refusal {
                self.outbox.push(Effect::Refuse { id, refusal });
                continue;
            }
            self.lead_entry(Entry { index: next, epoch: self.term, kind: Kind::Command, payload });
            self.outbox.push(Effect::Accepted { id, index: next, epoch: self.term });
            next = next.next();
        }
        self.replicate(log);
    }

    /// Appends an entry of this leader's own.
    pub(super) fn lead_entry(&mut self, entry: Entry) {
        let (index, bytes) = (entry.index, entry.payload.len());
        self.write_entry(entry);
        if let PartState::Leader(leading) = &mut self.part {
            leading.backlog.push(index, bytes);
        }
    }

    /// Sends everybody what flow control allows.
    pub(super) fn replicate(&mut self, log: &dyn LogRead) {
        let PartState::Leader(leading) = &self.part else { return };
        let ids: Vec<MemberId> =
            leading.progress.keys().copied().filter(|id| *id != self.config.id).collect();
        for id in ids {
            self.replicate_to(id, false, log);
        }
    }

    /// Sends one member what flow control allows; `probe` sends an empty append if there is nothing.
    fn replicate_to(&mut self, id: MemberId, probe: bool, log: &dyn LogRead) {
        let mut probe = probe;
        loop {
            let last = self.view(log).last_index();
            let PartState::Leader(leading) = &self.part else { return };
            let Some(progress) = leading.progress.get(&id) else { return };
            let probing = probe || matches!(progress.flow, Flow::Probe { sent: false });
            if !progress.may_send(self.config.inflight_appends_max, self.config.inflight_bytes_max)
                || (progress.next > last && !probing)
            {
                return;
            }
            let next = progress.next;
            match self.gather(next, last, log) {
                Ok((previous_term, entries)) => {
                    let witness = self.present().1.is_witness(id);
                    let entries = if witness { headers(entries) } else { entries };
                    let sent = entries.last().map_or(next.previous(), |entry| entry.index);
                    let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
                    let commit = self.commit;
                    self.send(id, Body::Append { previous: next.previous(), previous_term, entries, commit });
                    let now = self.now;
                    if let Some(progress) = self.progress(id) {
                        progress.sent(sent, bytes, now);
                        progress.told = progress.told.max(commit.min(sent));
                    }
                }
                Err(Missing::Compacted) => {
                    if let Some(progress) = self.progress(id) {
                        progress.snapshot();
                    }
                    self.outbox.push(Effect::SendSnapshot { to: id });
                    return;
                }
                // Nothing can be sent from a damaged place; the caller repairs it or ends the member.
                Err(Missing::Faulty | Missing::Beyond) => return,
            }
            probe = false;
        }
    }

    fn gather(&self, next: Index, last: Index, log: &dyn LogRead) -> Result<(Epoch, Vec<Entry>), Missing> {
        let view = self.view(log);
        if next.previous() < view.snapshot_index() {
            return Err(Missing::Compacted);
        }
        let previous_term = view.epoch(next.previous())?;
        let entries =
            if next > last { Vec::new() } else { view.entries(next, self.config.append_bytes_max)? };
        Ok((previous_term, entries))
    }

    fn progress(&mut self, id: MemberId) -> Option<&mut super::Progress> {
        match &mut self.part {
            PartState::Leader(leading) => leading.progress.get_mut(&id),
            PartState::Follower | PartState::Candidate(_) => None,
        }
    }

    /// A follower's side (thesis 3.5): `previous` matches, or the leader hears where it may.
    pub(super) fn append(
        &mut self,
        from: MemberId,
        (previous, previous_term): (Index, Epoch),
        entries: Vec<Entry>,
        commit: Index,
        log: &dyn LogRead,
    ) {
        if previous < self.commit {
            // Committed entries match every later leader's log.
            let matched = self.commit;
            return self.send(from, Body::Appended { matched });
        }
        let view = self.view(log);
        let matches = view.epoch(previous) == Ok(previous_term)
            || mutant!(NoLogMatching) && previous <= view.last_index();
        if !matches {
            let hint = hint(&view, previous.min(view.last_index()), previous_term);
            let hint_term = view.epoch(hint).unwrap_or_default();
            return self.send(from, Body::Rejected { previous, hint, hint_term });
        }
        let matched = Index(previous.0 + entries.len() as u64);
        let mut conflict = entries.iter().position(|entry| view.epoch(entry.index) != Ok(entry.epoch));
        if mutant!(CutWithoutConflict) {
            conflict = entries.iter().position(|entry| entry.index > self.commit);
        }
        for entry in entries.into_iter().skip(conflict.unwrap_or(usize::MAX)) {
            assert!(entry.index > self.commit, "a leader replaces committed entry {}", entry.index);
            self.write_entry(entry);
        }
        self.commit_to(commit.min(matched));
        self.send(from, Body::Appended { matched });
    }

    pub(super) fn appended(&mut self, from: MemberId, matched: Index, log: &dyn LogRead) {
        let view = self.view(log);
        let (now, last, compacted) = (self.now, view.last_index(), view.snapshot_index());
        let Some(progress) = self.progress(from) else { return };
        progress.active_at = now;
        if matched <= last && progress.acknowledged(matched, compacted, now) {
            self.advance_commit(log);
            self.tell_commit();
        }
        self.replicate_to(from, false, log);
        self.continue_transfer(from, log);
    }

    pub(super) fn rejected(
        &mut self,
        from: MemberId,
        previous: Index,
        hint: Index,
        hint_term: Epoch,
        log: &dyn LogRead,
    ) {
        let now = self.now;
        let Some(progress) = self.progress(from) else { return };
        progress.active_at = now;
        let stale = match progress.flow {
            Flow::Probe { .. } => previous != progress.next.previous(),
            Flow::Pipeline => previous <= progress.matched,
            Flow::Snapshot => true,
        };
        if stale {
            return;
        }
        let view = self.view(log);
        let mut agreed = self::hint(&view, hint.min(view.last_index()), hint_term);
        if view.epoch(agreed).is_ok_and(|term| term > hint_term) {
            // They can only agree inside the snapshot, so that is what it needs.
            agreed = agreed.previous();
        }
        if let Some(progress) = self.progress(from) {
            progress.probe(agreed.next(), now);
        }
        self.replicate_to(from, false, log);
    }

    /// This leader's own entries became durable.
    pub(super) fn own_log_persisted(&mut self, log: &dyn LogRead) {
        let (own, durable, now) = (self.config.id, self.outbox.durable(), self.now);
        if let Some(mine) = self.progress(own)
            && mine.acknowledged(durable, log.snapshot_index(), now)
        {
            self.advance_commit(log);
        }
    }

    /// Thesis 3.6.2: an entry is committed when a quorum has it and it is of the leader's own term (figure 8).
    pub(super) fn advance_commit(&mut self, log: &dyn LogRead) {
        let PartState::Leader(leading) = &self.part else { return };
        let reached = self
            .present()
            .1
            .quorum()
            .reached_value(|id| leading.progress.get(&id).map_or(Index(0), |progress| progress.matched));
        let own = self.view(log).epoch(reached) == Ok(self.term) || mutant!(CommitOlderTermByCounting);
        if reached <= self.commit || !own {
            return;
        }
        let was_established = self.is_established();
        self.commit_to(reached);
        if let PartState::Leader(leading) = &mut self.part {
            leading.backlog.decided(reached);
        }
        if !was_established && self.is_established() {
            self.start_round();
        }
        self.settle_membership(log);
        self.replicate(log);
        self.tell_commit();
    }

    /// Followers that nothing more is sent to learn the commit index at the next tick, without waiting for a heartbeat; also
    /// those whose acknowledgement came when it was decided already.
    fn tell_commit(&mut self) {
        let PartState::Leader(leading) = &mut self.part else { return };
        leading.tell_commit = true;
    }

    /// The periodic part: heartbeats, lost messages, lost quorum.
    pub(super) fn tick_leader(&mut self, log: &dyn LogRead) {
        let PartState::Leader(leading) = &mut self.part else { return };
        if let Some(transfer) = leading.transfer.take_if(|transfer| self.now >= transfer.give_up_at)
            && transfer.must
        {
            return self.become_follower(self.term, None);
        }
        let check = self.now >= leading.check_quorum_at;
        if check {
            leading.check_quorum_at = self.now.after_ms(self.config.election_timeout_ms);
            if !self.hears_quorum() {
                return self.become_follower(self.term, None);
            }
        }
        let PartState::Leader(leading) = &mut self.part else { return };
        if self.now >= leading.heartbeat_at {
            leading.heartbeat_at = self.now.after_ms(self.config.heartbeat_interval_ms);
            self.heartbeat();
            self.hand_over_if_due(log);
        }
        let PartState::Leader(leading) = &mut self.part else { return };
        if std::mem::take(&mut leading.tell_commit) {
            let commit = self.commit;
            self.beat(|_, progress| progress.told < commit.min(progress.matched));
        }
    }

    fn hears_quorum(&self) -> bool {
        let PartState::Leader(leading) = &self.part else { return false };
        self.present().1.quorum().reached(|id| {
            let heard = |progress: &super::Progress| {
                self.now.since_ms(progress.active_at) <= self.config.election_timeout_ms
            };
            id == self.config.id || leading.progress.get(&id).is_some_and(heard)
        })
    }

    /// Tells everybody that the leader lives; carries the newest round of reads.
    pub(super) fn heartbeat(&mut self) {
        self.beat(|_, _| true);
    }

    /// Tells some that the leader lives.
    pub(super) fn beat(&mut self, chosen: impl Fn(MemberId, &super::Progress) -> bool) {
        let (own, commit) = (self.config.id, self.commit);
        let PartState::Leader(leading) = &mut self.part else { return };
        let round = leading.reads.newest();
        let mut beats = Vec::new();
        for (&id, progress) in leading.progress.iter_mut().filter(|(id, _)| **id != own) {
            if chosen(id, progress) {
                let known = commit.min(progress.matched);
                progress.told = progress.told.max(known);
                beats.push((id, if mutant!(CommitBeyondMatched) { commit } else { known }));
            }
        }
        for (id, commit) in beats {
            self.send(id, Body::Heartbeat { commit, round });
        }
    }

    pub(super) fn heartbeat_answered(&mut self, from: MemberId, round: u64, log: &dyn LogRead) {
        let (now, last) = (self.now, self.view(log).last_index());
        let patience_ms = 2 * self.config.heartbeat_interval_ms;
        let Some(progress) = self.progress(from) else { return };
        progress.active_at = now;
        progress.round = progress.round.max(round);
        // What was sent and not acknowledged for this long is taken for lost.
        let lost = progress.matched < last && now.since_ms(progress.moved_at) >= patience_ms;
        if lost && !matches!(progress.flow, Flow::Snapshot) {
            let next = progress.matched.next();
            progress.probe(next, now);
        }
        self.replicate_to(from, false, log);
        self.confirm_reads();
    }

    pub(super) fn snapshot_sent(&mut self, to: MemberId, ok: bool, log: &dyn LogRead) {
        let now = self.now;
        let restart = if ok { log.snapshot_index().next() } else { Index(1) };
        if let Some(progress) = self.progress(to)
            && progress.flow == Flow::Snapshot
        {
            progress.probe(restart, now);
            if let Flow::Probe { sent } = &mut progress.flow {
                // After a failure the next heartbeat's answer is the earliest time to try again.
                *sent = !ok;
            }
        }
    }

    pub(super) fn unreachable(&mut self, peer: MemberId, reset: bool) {
        let now = self.now;
        if reset && self.leader == Some(peer) {
            self.leader_heard_at = None;
            self.hurry.leader_gone(now);
            self.reset_election_timer();
        }
        if let Some(progress) = self.progress(peer)
            && progress.flow == Flow::Pipeline
        {
            let next = progress.matched.next();
            progress.probe(next, now);
        }
    }
}

/// The largest index up to `from` whose term is at most `term`: no entry behind it can match (thesis 3.5, end).
fn hint(view: &super::View<'_>, from: Index, term: Epoch) -> Index {
    let mut index = from;
    while index > view.snapshot_index() {
        match view.epoch(index) {
            Ok(found) if found > term => index = index.previous(),
            Ok(_) | Err(_) => break,
        }
    }
    index
}
