//! The acceptor's rules: promises, accepted values, and the chosen prefix as a leader tells it.

use bytes::Bytes;

use super::reconfiguration::may_stop;
use super::{Body, PartState, Paxos};
use crate::effect::Effect;
use crate::entry::{Entry, Kind};
use crate::id::{Epoch, Index, MemberId};
use crate::log::{LogRead, Missing};
use crate::mutants::mutant;

/// Slots behind the chosen prefix that an acceptor takes; what lies further is the mistake of a peer, and would cost memory.
const SLOTS_AHEAD_MAX: u64 = 1 << 20;

/// Slots that one promise tells of, at most; the proposer asks for the rest.
const PROMISED_SLOTS_MAX: u64 = 10_000;

/// After a restart: the owner of the promised ballot is known, but not whose votes it asked for.
pub(super) const UNKNOWN_STOP: Index = Index(u64::MAX);

impl Paxos {
    /// Phase 1b: promises a higher ballot, or the same one to its owner again, and tells what was accepted from `slot` on.
    pub(super) fn prepare_asked(
        &mut self,
        from: MemberId,
        ballot: Epoch,
        (slot, stop): (Index, Index),
        log: &dyn LogRead,
    ) {
        let taken = ballot == self.promised && self.owner.is_some_and(|owner| owner != from);
        if ballot < self.promised || taken && !mutant!(BallotPromisedTwice) {
            return self.send(from, Body::Refused);
        }
        if slot <= self.view(log).snapshot_index() {
            // Chosen slots that are in the snapshot only: no promise could tell of them.
            self.send(from, Body::Behind);
            // A witness has no values in its snapshot; one with data will help.
            if !self.is_witness(self.config.id) && self.helping.insert(from) {
                self.outbox.push(Effect::SendSnapshot { to: from });
            }
            return;
        }
        if ballot > self.promised {
            // Somebody else is about to lead: it gets a whole timeout.
            self.hurry.forget();
            self.become_acceptor(ballot, Some(from), None);
        }
        self.owner = Some(from);
        self.owner_stop = self.owner_stop.max(stop);
        self.reset_election_timer();
        let (entries, next) = self.accepted_from(slot, log);
        let last = self.view(log).last_index();
        self.send(from, Body::Promise { from: slot, entries, next, last });
    }

    /// Accepted values from `slot` on, as many as a message holds, and the first slot that they do not tell of. A damaged slot is
    /// never told of: what was accepted there is not known, so this acceptor does not count for it.
    fn accepted_from(&self, slot: Index, log: &dyn LogRead) -> (Vec<Entry>, Index) {
        let view = self.view(log);
        let (mut entries, mut bytes, mut next) = (Vec::new(), 0, slot);
        while next <= view.last_index() && next.0 - slot.0 < PROMISED_SLOTS_MAX {
            if view.entries(next, 1) == Err(Missing::Faulty) {
                break;
            }
            if let Some(entry) = self.accepted_at(next, log) {
                bytes += entry.payload.len();
                if !entries.is_empty() && bytes > self.config.append_bytes_max {
                    break;
                }
                entries.push(entry);
            }
            next = next.next();
        }
        (entries, next)
    }

    /// The value in a slot, if one was accepted.
    pub(super) fn accepted_at(&self, slot: Index, log: &dyn LogRead) -> Option<Entry> {
        let found = self.view(log).entries(slot, 1).ok()?;
        found.into_iter().next().filter(|entry| entry.index == slot)
    }

    /// Whether the promised ballot belongs to somebody else than its leader `from`, whose voters came in at `stop`. Among the same
    /// voters a leader is the owner, whatever was promised to a rival: a quorum promised the ballot to it. But voters on either side
    /// of a stop may elect two in one ballot, and an acceptor is of both: it goes from the older ones to the newer ones, never
    /// back, or it would promise the ballot twice among the newer ones.
    pub(super) fn is_of_another(&self, from: MemberId, stop: Index) -> bool {
        self.owner.is_some_and(|owner| owner != from) && stop < self.owner_stop
    }

    /// What a leader of voters before the last stop, or one of whom nothing is known after a restart, is told instead.
    pub(super) fn refuse_leader(&mut self, from: MemberId, body: &Body) {
        let last = match body {
            Body::Accept { entries, .. } => entries.last().map(|entry| entry.index),
            _ => None,
        };
        if self.owner_stop == UNKNOWN_STOP {
            self.send(from, Body::Refused);
        } else if last.is_some_and(|last| last <= self.commit) {
            let prefix = self.commit;
            self.send(from, Body::Accepted { prefix, first: prefix, last: prefix });
        }
    }

    /// `from` leads in `ballot`, elected by voters that came in at `stop`: nobody else can among them, since a quorum promised the
    /// ballot to it.
    pub(super) fn follow(&mut self, from: MemberId, ballot: Epoch, stop: Index) {
        let leads = matches!(self.part, PartState::Leader(_)) && ballot == self.promised;
        assert!(!leads || stop > self.owner_stop, "two leaders in one ballot");
        let follows =
            self.leader == Some(from) && ballot == self.promised && matches!(self.part, PartState::Acceptor);
        if ballot > self.promised {
            self.hurry.forget();
        }
        if !follows {
            self.become_acceptor(ballot, Some(from), Some(from));
        }
        self.owner = Some(from);
        self.owner_stop = self.owner_stop.max(stop);
        if self.hurry.leader_heard(self.now, &self.config) {
            self.leader_heard_at = Some(self.now);
            self.reset_election_timer();
        }
    }

    /// Phase 2b. Values of slots that are chosen here already, or held in this ballot, are the same: not written again.
    pub(super) fn accept(
        &mut self,
        from: MemberId,
        mut entries: Vec<Entry>,
        commit: Index,
        stop: Index,
        log: &dyn LogRead,
    ) {
        self.advance_prefix(log);
        self.commit_to(commit.min(self.prefix));
        // What lies behind a stop waits until that is stored as chosen.
        let ends_at = entries.iter().position(|entry| entry.index > self.commit && may_stop(entry));
        entries.truncate(ends_at.map_or(entries.len(), |at| at + 1));
        let Some((first, last)) = ends(&entries) else { return };
        // Out of order only among voters that know each other: behind a stop that is not known to be chosen here, this member
        // may count for voters of whom it has not heard.
        let in_order = first <= self.prefix.next();
        if (!in_order && stop > self.commit) || last.0 > self.commit.0 + SLOTS_AHEAD_MAX {
            return self.tell_prefix(from);
        }
        if self.would_forget_stop(last) {
            return;
        }
        let view = self.view(log);
        let missing =
            |entry: &Entry| entry.index > self.commit && view.epoch(entry.index) != Ok(self.promised);
        let range = entries.iter().position(missing).zip(entries.iter().rposition(missing));
        let hole = view.last_index().next()..first;
        if mutant!(HoleApplied) && !hole.is_empty() {
            (hole.start.0..hole.end.0).for_each(|slot| self.fill_hole(Index(slot)));
        }
        if let Some((first, last)) = range {
            for entry in entries.into_iter().take(last + 1).skip(first) {
                self.write_value(Entry { epoch: self.promised, ..entry });
            }
        }
        self.advance_prefix(log);
        self.commit_to(commit.min(self.prefix));
        let prefix = self.prefix;
        self.send(from, Body::Accepted { prefix, first, last });
    }

    /// Whether a restart could find a value up to `last` and not know that the stop before it is chosen. The leader asks again.
    fn would_forget_stop(&self, last: Index) -> bool {
        last > self.stop.slot() && !self.stop.is_stored()
    }

    /// A bug's: see [`crate::mutants`].
    fn fill_hole(&mut self, index: Index) {
        self.write_value(Entry { index, epoch: self.promised, kind: Kind::NoOp, payload: Bytes::new() });
    }

    /// A bug's: see [`crate::mutants`].
    pub(super) fn held_prefix(&self, log: &dyn LogRead) -> Index {
        let mut prefix = self.prefix;
        while self.view(log).epoch(prefix.next()).is_ok() {
            prefix = prefix.next();
        }
        prefix
    }

    /// Accepts a value in its slot.
    pub(super) fn write_value(&mut self, entry: Entry) {
        self.note_membership(&entry);
        self.outbox.append(entry);
    }

    pub(super) fn advance_prefix(&mut self, log: &dyn LogRead) {
        let mut prefix = self.prefix.max(self.commit);
        let view = self.view(log);
        let counts = |epoch: Epoch| epoch == self.promised || mutant!(QuorumOfMixedBallots);
        while view.epoch(prefix.next()).is_ok_and(counts) {
            prefix = prefix.next();
        }
        self.prefix = prefix;
    }

    /// Tells the leader how far this member's values are its own.
    pub(super) fn tell_prefix(&mut self, leader: MemberId) {
        let prefix = self.prefix;
        self.send(leader, Body::Accepted { prefix, first: prefix, last: prefix });
    }
}

fn ends(entries: &[Entry]) -> Option<(Index, Index)> {
    Some((entries.first()?.index, entries.last()?.index))
}
