//! The leader: proposals, counting acceptances slot by slot, and beats.

use super::{Body, PartState, Paxos};
use crate::effect::{Effect, Refusal};
use crate::entry::{Entry, Kind, headers};
use crate::flow::{Flow, Progress};
use crate::id::{Index, MemberId};
use crate::input::Proposal;
use crate::log::{LogRead, Missing};
use crate::mutants::mutant;
use crate::protocol::Protocol as _;

impl Paxos {
    pub(super) fn propose(&mut self, proposals: Vec<Proposal>, log: &dyn LogRead) {
        let mut next = self.view(log).last_index().next();
        for proposal in proposals {
            let refusal = match &self.part {
                PartState::Leader(leading) if leading.transfer.is_some() => Some(Refusal::Transferring),
                PartState::Leader(_) => (self.room_bytes() == 0).then_some(Refusal::Overloaded),
                PartState::Acceptor | PartState::Canvassing(_) | PartState::Preparing(_) => {
                    Some(Refusal::NotLeader { leader: self.leader })
                }
            };
            let Proposal { id, payload } = proposal;
            if let Some(refusal) = refusal {
                self.outbox.push(Effect::Refuse { id, refusal });
            } else if self.is_stopping() && !mutant!(StopBypassed) {
                self.held_bytes += payload.len();
                self.held.push(Proposal { id, payload });
            } else {
                let epoch = self.promised;
                self.lead_value(Entry { index: next, epoch, kind: Kind::Command, payload });
                self.outbox.push(Effect::Accepted { id, index: next, epoch });
                next = next.next();
            }
        }
        self.replicate(log);
    }

    /// Proposes what waited for new voters.
    pub(super) fn propose_held(&mut self, log: &dyn LogRead) {
        if !self.held.is_empty() && !self.is_stopping() {
            self.held_bytes = 0;
            let held = std::mem::take(&mut self.held);
            self.propose(held, log);
        }
    }

    /// Accepts a value of this leader's own.
    pub(super) fn lead_value(&mut self, value: Entry) {
        let (index, bytes) = (value.index, value.payload.len());
        self.write_value(value);
        if let PartState::Leader(leading) = &mut self.part {
            leading.end = leading.end.max(index);
            leading.backlog.push(index, bytes);
        }
    }

    fn progress(&mut self, id: MemberId) -> Option<&mut Progress> {
        match &mut self.part {
            PartState::Leader(leading) => leading.progress.get_mut(&id),
            PartState::Acceptor | PartState::Canvassing(_) | PartState::Preparing(_) => None,
        }
    }

    /// Phase 2a to everybody, as flow control allows.
    pub(super) fn replicate(&mut self, log: &dyn LogRead) {
        let PartState::Leader(leading) = &self.part else { return };
        let own = self.config.id;
        let ids: Vec<MemberId> = leading.progress.keys().copied().filter(|id| *id != own).collect();
        for id in ids {
            self.replicate_to(id, log);
        }
    }

    fn replicate_to(&mut self, id: MemberId, log: &dyn LogRead) {
        loop {
            let PartState::Leader(leading) = &self.part else { return };
            let Some(progress) = leading.progress.get(&id) else { return };
            let may = progress.may_send(self.config.inflight_appends_max, self.config.inflight_bytes_max);
            let (next, stop) = (progress.next, leading.stop);
            let end = if mutant!(UnproposedBehindStop) { self.view(log).last_index() } else { leading.end };
            if !may || next > end {
                return;
            }
            match self.view(log).entries(next, self.config.append_bytes_max) {
                Ok(mut entries) => {
                    entries.retain(|entry| entry.index <= end);
                    let entries = if self.is_witness(id) { headers(entries) } else { entries };
                    let sent = entries.last().map_or(next, |entry| entry.index);
                    let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
                    let (commit, now) = (self.commit, self.now);
                    self.send(id, Body::Accept { entries, commit, stop });
                    if let Some(progress) = self.progress(id) {
                        progress.sent(sent, bytes, now);
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
        }
    }

    pub(super) fn accepted_by(
        &mut self,
        from: MemberId,
        prefix: Index,
        (first, last): (Index, Index),
        log: &dyn LogRead,
    ) {
        let (now, compacted) = (self.now, self.view(log).snapshot_index());
        let PartState::Leader(leading) = &mut self.part else { return };
        let end = leading.end;
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        // An acceptor may know more to be chosen than a leader has proposed yet, which waits for its stop entry.
        let (prefix, last) = (prefix.min(end), last.min(end));
        progress.active_at = now;
        let ahead = leading.ahead.entry(from).or_default();
        *ahead = ahead.split_off(&prefix.next());
        ahead.extend((first.0.max(prefix.0 + 1)..=last.0).map(Index));
        let lacks = matches!(progress.flow, Flow::Probe { .. }) && prefix.next() < progress.next;
        if lacks {
            progress.fell_back(prefix, now);
        } else {
            progress.acknowledged(prefix, compacted, now);
        }
        self.count_accepted(log);
        self.replicate_to(from, log);
        self.continue_transfer(from, log);
    }

    /// This leader's own values became durable.
    pub(super) fn own_values_persisted(&mut self, log: &dyn LogRead) {
        let (own, durable, now) = (self.config.id, self.outbox.durable(), self.now);
        if let Some(mine) = self.progress(own)
            && mine.acknowledged(durable, log.snapshot_index(), now)
        {
            self.count_accepted(log);
        }
    }

    /// A value is chosen when a quorum accepted it in one ballot, whatever became of the slots before; applied is the prefix.
    fn count_accepted(&mut self, log: &dyn LogRead) {
        let PartState::Leader(leading) = &self.part else { return };
        let matched = |id| leading.progress.get(&id).map_or(Index(0), |progress| progress.matched);
        let accepted = |id, slot| {
            matched(id) >= slot || leading.ahead.get(&id).is_some_and(|ahead| ahead.contains(&slot))
        };
        let mut chosen = self.quorum.reached_value(matched).min(leading.end).max(self.commit);
        while chosen < leading.end && self.quorum.reached(|id| accepted(id, chosen.next())) {
            chosen = chosen.next();
        }
        if chosen <= self.commit {
            return;
        }
        let was_established = self.is_established();
        let stopping = self.is_stopping();
        self.commit_to(chosen);
        if let PartState::Leader(leading) = &mut self.part {
            leading.backlog.decided(chosen);
            leading.beat_at = self.now;
        }
        if stopping && !self.is_stopping() {
            return self.change_voters(log);
        }
        if !was_established && self.is_established() {
            self.start_round();
        }
        self.follow_receivers();
        self.replicate(log);
    }

    /// The periodic part: beats, lost messages, lost quorum.
    pub(super) fn tick_leader(&mut self, log: &dyn LogRead) {
        let PartState::Leader(leading) = &mut self.part else { return };
        if let Some(transfer) = leading.transfer.take_if(|transfer| self.now >= transfer.give_up_at)
            && transfer.must
        {
            return self.become_acceptor(self.promised, None, None);
        }
        if self.now >= leading.check_quorum_at {
            leading.check_quorum_at = self.now.after_ms(self.config.election_timeout_ms);
            if !self.hears_quorum() {
                return self.become_acceptor(self.promised, None, None);
            }
        }
        let PartState::Leader(leading) = &mut self.part else { return };
        if self.now >= leading.beat_at {
            leading.beat_at = self.now.after_ms(self.config.heartbeat_interval_ms);
            self.beat(false);
            self.replicate(log);
            self.hand_over_if_due(log);
        }
    }

    fn hears_quorum(&self) -> bool {
        let PartState::Leader(leading) = &self.part else { return false };
        let recent =
            |progress: &Progress| self.now.since_ms(progress.active_at) <= self.config.election_timeout_ms;
        self.quorum.reached(|id| id == self.config.id || leading.progress.get(&id).is_some_and(recent))
    }

    /// Tells that the leader lives; carries the chosen prefix and the newest round of reads.
    pub(super) fn beat(&mut self, voters_only: bool) {
        let PartState::Leader(leading) = &self.part else { return };
        let (commit, round, stop) = (self.commit, leading.reads.newest(), leading.stop);
        let ids: Vec<MemberId> = leading.progress.keys().copied().collect();
        for id in ids {
            if id != self.config.id && (!voters_only || self.quorum.contains(id)) {
                self.send(id, Body::Beat { commit, round, stop });
            }
        }
    }

    pub(super) fn beat_answered(&mut self, from: MemberId, prefix: Index, round: u64, log: &dyn LogRead) {
        let (now, patience_ms) = (self.now, 2 * self.config.heartbeat_interval_ms);
        let PartState::Leader(leading) = &mut self.part else { return };
        let end = leading.end;
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        progress.round = progress.round.max(round);
        let waited = now.since_ms(progress.moved_at) >= patience_ms;
        if prefix < progress.matched && waited {
            // After a restart it does not know any more that slots of lower ballots are chosen.
            progress.fell_back(prefix, now);
        } else if progress.matched < end && waited && !matches!(progress.flow, Flow::Snapshot) {
            // What was sent and not acknowledged for this long is taken for lost.
            let next = progress.matched.max(prefix).next();
            progress.probe(next, now);
        }
        self.accepted_by(from, prefix, (prefix, prefix), log);
        self.confirm_reads();
    }

    pub(super) fn snapshot_sent(&mut self, to: MemberId, ok: bool, log: &dyn LogRead) {
        self.helping.remove(&to);
        let now = self.now;
        let restart = if ok { log.snapshot_index().next() } else { Index(1) };
        if let Some(progress) = self.progress(to)
            && progress.flow == Flow::Snapshot
        {
            progress.probe(restart, now);
            if let Flow::Probe { sent } = &mut progress.flow {
                // After a failure the next beat's answer is the earliest time to try again.
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
