//! How a member comes to lead: it canvasses, then prepares a ballot of its own.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Backlog, Body, Leading, PartState, Paxos, Progress, Rounds};
use crate::entry::{Entry, Kind};
use crate::id::{Epoch, Index, MemberId, Time, WriteId};
use crate::log::{Layout, LogRead};
use crate::membership::Membership;
use crate::mutants::mutant;
use crate::quorum::Outcome;

/// Phase 1 of a ballot.
#[derive(Clone, Debug, Hash)]
pub(super) struct Preparing {
    from: Index,
    /// By member, the first slot that it has not told of; `None` when it told of all.
    open: BTreeMap<MemberId, Option<Index>>,
    /// In each slot the value of the highest ballot that was told of.
    best: BTreeMap<Index, Entry>,
    /// In each slot the ballots that witnesses told of, without a value.
    headers: BTreeMap<Index, BTreeMap<MemberId, Epoch>>,
    /// The write that makes this member's own promise durable; it counts only then.
    own_promise: Option<WriteId>,
    pub(super) ask_again_at: Time,
}

impl Preparing {
    /// Whether a member has promised, and told of all that it accepted.
    fn promised(&self, id: MemberId, own: MemberId) -> bool {
        if id == own {
            self.own_promise.is_none() || mutant!(OwnPromiseBeforeSync)
        } else {
            self.open.get(&id) == Some(&None)
        }
    }
}

impl Paxos {
    /// No leader was heard for too long. Whoever gets a quorum of others that hear none either may prepare, so a ballot
    /// disturbs no leader that has a quorum.
    pub(super) fn stand(&mut self, log: &dyn LogRead) {
        self.hurry.stood();
        self.become_acceptor(self.promised, None, None);
        self.ask_to_leave();
        if !self.may_lead() || !self.disk.may_stand(self.now, &self.config) {
            return;
        }
        self.part = PartState::Canvassing(BTreeMap::from([(self.config.id, true)]));
        let ballot = Epoch(self.promised.0 + 1);
        for voter in self.others() {
            self.send_in(ballot, voter, Body::Canvass);
        }
        self.count_canvass(log);
    }

    fn others(&self) -> Vec<MemberId> {
        self.quorum.voters().into_iter().filter(|id| *id != self.config.id).collect()
    }

    pub(super) fn canvassed(&mut self, from: MemberId, ballot: Epoch) {
        if ballot <= self.promised {
            return self.send(from, Body::Refused);
        }
        // One that is about to lead itself does not make it a duel.
        let granted = !self.leader_is_alive() && !matches!(self.part, PartState::Preparing(_));
        self.send_in(ballot, from, Body::CanvassReply { granted });
    }

    pub(super) fn canvass_answered(&mut self, from: MemberId, ballot: Epoch, granted: bool) {
        if let PartState::Canvassing(answers) = &mut self.part
            && ballot.0 == self.promised.0 + 1
        {
            answers.insert(from, granted);
        }
    }

    /// Goes on if a quorum hears no leader.
    pub(super) fn count_canvass(&mut self, log: &dyn LogRead) {
        let PartState::Canvassing(answers) = &self.part else { return };
        match self.quorum.outcome(|id| answers.get(&id).copied()) {
            Outcome::Won => self.prepare_next(log),
            Outcome::Lost => self.part = PartState::Acceptor,
            Outcome::Open => {}
        }
    }

    /// The leader wants this member to succeed it.
    pub(super) fn told_to_take_over(&mut self, from: MemberId, log: &dyn LogRead) {
        let fit = self.disk.is_fit(self.now, &self.config);
        if self.leader == Some(from) && self.may_lead() && fit {
            self.prepare_next(log);
        }
    }

    /// A voter says that the ballot is not this leader's there: it promised the same number to somebody whom the voters before the
    /// last stop elected, or does not know any more to whom. A higher ballot settles it.
    pub(super) fn refused_while_leading(&mut self, from: MemberId, log: &dyn LogRead) {
        if matches!(self.part, PartState::Leader(_)) && self.quorum.contains(from) && self.may_lead() {
            self.prepare_next(log);
        }
    }

    /// Phase 1a in the next ballot.
    fn prepare_next(&mut self, log: &dyn LogRead) {
        let ballot = Epoch(self.promised.0 + 1);
        self.become_acceptor(ballot, Some(self.config.id), None);
        let own_promise = Some(self.outbox.this_write());
        self.prepare(own_promise, log);
    }

    /// Phase 1a in the promised ballot, from the first slot that is not known to be chosen.
    pub(super) fn prepare(&mut self, own_promise: Option<WriteId>, log: &dyn LogRead) {
        self.leader = None;
        self.owner_stop = self.owner_stop.max(self.membership.voters_since);
        let from = if mutant!(PrepareFromLogEnd) { self.view(log).last_index() } else { self.commit };
        self.part = PartState::Preparing(Box::new(Preparing {
            from: from.next(),
            open: BTreeMap::new(),
            best: BTreeMap::new(),
            headers: BTreeMap::new(),
            own_promise,
            ask_again_at: self.now,
        }));
        self.reset_election_timer();
        self.ask_promises();
        self.count_promises(log);
    }

    /// Asks every voter for what it has not told yet.
    pub(super) fn ask_promises(&mut self) {
        let again_at = self.now.after_ms(self.config.heartbeat_interval_ms);
        let (voters, stop) = (self.others(), self.membership.voters_since);
        let PartState::Preparing(preparing) = &mut self.part else { return };
        preparing.ask_again_at = again_at;
        let from = preparing.from;
        let open: Vec<(MemberId, Index)> = voters
            .into_iter()
            .filter_map(|id| Some((id, preparing.open.get(&id).copied().unwrap_or(Some(from))?)))
            .collect();
        for (voter, from) in open {
            self.send(voter, Body::Prepare { from, stop });
        }
    }

    pub(super) fn promised_by(
        &mut self,
        from: MemberId,
        slot: Index,
        entries: Vec<Entry>,
        next: Index,
        last: Index,
        log: &dyn LogRead,
    ) {
        let PartState::Preparing(preparing) = &mut self.part else { return };
        let expected = preparing.open.get(&from).copied().unwrap_or(Some(preparing.from));
        if expected != Some(slot) || next < slot {
            return;
        }
        for entry in entries.into_iter().filter(|entry| (slot..next).contains(&entry.index)) {
            if entry.kind == Kind::Header {
                preparing.headers.entry(entry.index).or_default().insert(from, entry.epoch);
                continue;
            }
            let known = preparing.best.get(&entry.index).map(|entry| entry.epoch);
            if known.is_none_or(|epoch| entry.epoch > epoch) {
                preparing.best.insert(entry.index, entry);
            }
        }
        let open = (next <= last).then_some(next);
        preparing.open.insert(from, open);
        match open {
            Some(from_slot) => {
                // Slots come to an end; another ballot would begin with the first of them again.
                self.reset_election_timer();
                let stop = self.membership.voters_since;
                self.send(from, Body::Prepare { from: from_slot, stop });
            }
            None => self.count_promises(log),
        }
    }

    /// A write became durable: this member's own promise may count now, or its last stop be stored.
    pub(super) fn promise_persisted(&mut self, log: &dyn LogRead) {
        let PartState::Preparing(preparing) = &mut self.part else { return };
        preparing.own_promise.take_if(|write| self.outbox.is_persisted(*write));
        self.count_promises(log);
    }

    fn count_promises(&mut self, log: &dyn LogRead) {
        let PartState::Preparing(preparing) = &self.part else { return };
        let own = self.config.id;
        // What it proposes behind a stop, it accepts itself, and must find the stop chosen when it starts again.
        let enough = self.stop.is_stored() && self.quorum.reached(|id| preparing.promised(id, own));
        let unknown = |slot: &Index| self.may_hide_a_choice(preparing, *slot, log);
        if enough && (mutant!(HeaderHidesChoice) || !preparing.headers.keys().any(unknown)) {
            let PartState::Preparing(preparing) = &mut self.part else { return };
            let mut best = std::mem::take(&mut preparing.best);
            if mutant!(PromisedValuesForgotten) {
                best.clear();
            }
            self.lead(best, log);
        }
    }

    /// Whether a value may be chosen in a slot that only witnesses told of. It was, if at all, by a quorum of members that accepted
    /// in a ballot above that of the best value known: those are witnesses that told of one, or members that promised nothing
    /// yet. Whoever else promised did not accept there, and will not.
    fn may_hide_a_choice(&self, preparing: &Preparing, slot: Index, log: &dyn LogRead) -> bool {
        let own = self.config.id;
        let known = [preparing.best.get(&slot).cloned(), self.accepted_at(slot, log)];
        let known = known.into_iter().flatten().map(|entry| entry.epoch).max().unwrap_or_default();
        let Some(told) = preparing.headers.get(&slot) else { return false };
        let above = |id| told.get(&id).is_some_and(|ballot| *ballot > known);
        told.values().any(|ballot| *ballot > known)
            && self.quorum.reached(|id| above(id) || !preparing.promised(id, own))
    }

    /// An acceptor has slots in its snapshot only: this member waits for that snapshot, and for another turn. A witness has none to
    /// send; its promise is missing, and others may do.
    pub(super) fn told_behind(&mut self, from: MemberId) {
        let helps = self.quorum.contains(from) && !self.is_witness(from);
        if matches!(self.part, PartState::Preparing(_)) && helps {
            self.become_acceptor(self.promised, None, None);
        }
    }

    /// Phase 2 begins: every slot that may hold a chosen value is proposed again with the value of the highest ballot, and
    /// a slot that nobody told of with a no-op.
    fn lead(&mut self, mut best: BTreeMap<Index, Entry>, log: &dyn LogRead) {
        let view = self.view(log);
        let told = best.last_key_value().map_or(Index(0), |(slot, _)| *slot);
        let last = view.last_index().max(told);
        let (mut values, mut present) = (Vec::new(), self.membership.clone());
        let (mut stopped, mut settled) = (false, false);
        let mut slot = self.commit.next();
        while slot <= last && !stopped {
            let own = self.accepted_at(slot, log);
            let mut highest = own.iter().cloned().chain(best.remove(&slot)).max_by_key(|entry| entry.epoch);
            if mutant!(OwnValueFirst) {
                highest = own.or(highest);
            }
            let hole =
                || Entry { index: slot, epoch: self.promised, kind: Kind::NoOp, payload: Bytes::new() };
            let value = Entry { epoch: self.promised, ..highest.unwrap_or_else(hole) };
            let next =
                Membership::of(&value).ok().flatten().filter(|next| next.follows(&present, Layout::Slots));
            stopped = next.as_ref().is_some_and(Membership::is_joint);
            settled |= next.is_some();
            present = next.unwrap_or(present);
            values.push(value);
            slot = slot.next();
        }
        self.begin_leading(values.first().map_or(slot, |value| value.index));
        for value in values {
            self.lead_value(value);
        }
        if !stopped {
            self.propose_barrier(slot);
            if !settled {
                self.propose_settled(slot.next());
            }
        }
        self.tick_leader(log);
        self.propose_held(log);
        self.replicate(log);
    }

    fn begin_leading(&mut self, first: Index) {
        let (own, now) = (self.config.id, self.now);
        let receivers = self.receivers();
        self.leader = Some(own);
        self.part = PartState::Leader(Box::new(Leading {
            progress: receivers.into_iter().map(|id| (id, Progress::new(first, now))).collect(),
            ahead: BTreeMap::new(),
            stop: self.membership.voters_since,
            end: first.previous(),
            barrier: None,
            beat_at: now,
            check_quorum_at: now.after_ms(self.config.election_timeout_ms),
            transfer: None,
            reads: Rounds::after(self.newest_round),
            backlog: Backlog::default(),
        }));
    }

    /// The value that separates this leader's from those before it. It names the ballot, since a later leader may propose it
    /// again in its own.
    fn propose_barrier(&mut self, slot: Index) {
        let payload = Bytes::copy_from_slice(&self.promised.0.to_le_bytes());
        self.lead_value(Entry { index: slot, epoch: self.promised, kind: Kind::NoOp, payload });
        if let PartState::Leader(leading) = &mut self.part {
            leading.barrier = Some(slot);
        }
    }
}
