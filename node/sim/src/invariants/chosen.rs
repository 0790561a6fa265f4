//! Multi-Paxos: a value that any member calls chosen was accepted in one ballot, durably, by a quorum of the voters of its slot (Paxos
//! Made Simple 2.1 and 2.5), and an acceptor holds in a ballot only what the leader of that ballot proposed (2.2, phase 2).
//!
//! It is judged in the step in which a commit first covers a slot. What an acceptor once held durably in a ballot counts for good, as
//! in the paper: a later ballot may replace it, a disk may be damaged afterwards, its owner may leave. The voters of a slot are those
//! of the last membership that was chosen before it (Stoppable Paxos 2008: a stop is the last value of its voters). A witness holds a
//! command's place and ballot, which stand for the command.
//!
//! Slots are judged in order. One whose value no member with data can read when it calls it chosen waits for one that can, and those
//! behind it wait with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::id::{Epoch, Index, MemberId, WriteId};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::log::{Layout, LogRead};
use quorate_consensus::membership::Membership;
use quorate_consensus::protocol::{Part, Status};

use super::logs::{self, Value, same};

/// What one acceptor holds behind the slots that were judged.
#[derive(Debug, Default)]
struct Acceptor {
    /// The last write whose values were looked at; `None` after a start.
    seen: Option<WriteId>,
    held: BTreeMap<Index, (Epoch, Value)>,
    /// Written, with the write that makes it durable.
    written: VecDeque<(WriteId, Index, Epoch, Value)>,
    /// By slot and ballot, what was durable once.
    accepted: BTreeMap<Index, BTreeMap<Epoch, Value>>,
}

impl Acceptor {
    /// Everything up to `write` is durable.
    fn persisted(&mut self, write: WriteId) {
        while let Some((_, slot, ballot, value)) = self.written.pop_front_if(|(after, ..)| *after <= write) {
            let accepted = self.accepted.entry(slot).or_default().entry(ballot).or_insert(value.clone());
            if accepted.0 == Kind::Header {
                *accepted = value;
            }
        }
    }

    fn accepted(&self, slot: Index, ballot: Epoch, chosen: &Value) -> bool {
        let value = self.accepted.get(&slot).and_then(|ballots| ballots.get(&ballot));
        value.is_some_and(|value| same(value, chosen))
    }
}

#[derive(Debug)]
pub(super) struct Chosen {
    protocol: ProtocolKind,
    acceptors: BTreeMap<MemberId, Acceptor>,
    /// Everybody who ever led, by ballot.
    leaders: BTreeSet<(Epoch, MemberId)>,
    /// By slot and ballot, what its leader proposed, behind what is known to be chosen.
    proposed: BTreeMap<(Index, Epoch), Value>,
    /// The membership whose voters choose the next slot.
    voters: Option<Membership>,
    /// Everything up to here was found chosen.
    judged: Index,
    /// Somebody calls everything up to here chosen: a leader sends it again in its own ballot, and need not hold it in that.
    known: Index,
}

impl Chosen {
    pub(super) fn new(protocol: ProtocolKind) -> Self {
        Self {
            protocol,
            acceptors: BTreeMap::new(),
            leaders: BTreeSet::new(),
            proposed: BTreeMap::new(),
            voters: None,
            judged: Index(0),
            known: Index(0),
        }
    }

    /// A member started or took a step. `writes`: the last one that it asked for, and the last one that is durable; what one step
    /// writes becomes durable together.
    pub(super) fn stepped(
        &mut self,
        status: &Status,
        log: &impl LogRead,
        writes: (WriteId, WriteId),
        membership: &Membership,
    ) -> Result<(), String> {
        if self.protocol != ProtocolKind::MultiPaxos {
            return Ok(());
        }
        self.voters.get_or_insert_with(|| membership.settled());
        if status.part == Part::Leader {
            self.leaders.insert((status.epoch, status.id));
        }
        if status.commit > self.known {
            self.known = status.commit;
            self.proposed = self.proposed.split_off(&(self.known.next(), Epoch(0)));
        }
        let mut acceptor = self.acceptors.remove(&status.id).unwrap_or_default();
        let looked = self.look(status.id, &mut acceptor, log, writes.0);
        acceptor.persisted(writes.1);
        self.acceptors.insert(status.id, acceptor);
        looked
    }

    /// Looks for what is new in an acceptor's log.
    fn look(
        &mut self,
        id: MemberId,
        acceptor: &mut Acceptor,
        log: &impl LogRead,
        written: WriteId,
    ) -> Result<(), String> {
        let before = acceptor.seen.replace(written);
        if before == Some(written) {
            return Ok(());
        }
        for slot in (self.judged.0 + 1..=log.last_index().0).map(Index) {
            let Some(Entry { epoch, kind, payload, .. }) = logs::entry(log, slot) else { continue };
            let value = (kind, payload);
            if acceptor.held.get(&slot).is_some_and(|held| *held == (epoch, value.clone())) {
                continue;
            }
            if !self.is_proposed(id, (slot, epoch), &value, before.is_none()) {
                return Err(format!(
                    "member {id} accepted {value:?} in slot {slot} and ballot {epoch}, whose leader did not propose it"
                ));
            }
            acceptor.held.insert(slot, (epoch, value.clone()));
            acceptor.written.push_back((written, slot, epoch, value));
        }
        Ok(())
    }

    /// Whether the leader of a ballot proposed a value. It accepts it itself in the step in which it sends it. A leader that ended in
    /// such a step, since its disk failed, sent nothing: at its start it may find what nobody saw.
    fn is_proposed(
        &mut self,
        id: MemberId,
        (slot, ballot): (Index, Epoch),
        value: &Value,
        starts: bool,
    ) -> bool {
        if slot <= self.known {
            return true;
        }
        match self.proposed.get(&(slot, ballot)) {
            Some(proposed) => same(proposed, value),
            None if starts || self.leaders.contains(&(ballot, id)) => {
                self.proposed.insert((slot, ballot), value.clone());
                true
            }
            None => false,
        }
    }

    /// Member `by` calls the value of `entry` chosen, whatever ballot it holds it in. Slots are judged in order: the voters of one are
    /// known from those before it.
    pub(super) fn committed(&mut self, by: MemberId, entry: &Entry) -> Result<(), String> {
        let Some(voters) = self.voters.as_ref().filter(|_| entry.index == self.judged.next()) else {
            return Ok(());
        };
        let (slot, quorum, value) = (entry.index, voters.quorum(), (entry.kind, entry.payload.clone()));
        let accepted = |id, ballot| {
            self.acceptors.get(&id).is_some_and(|acceptor| acceptor.accepted(slot, ballot, &value))
        };
        let ballots = self.acceptors.values().filter_map(|acceptor| acceptor.accepted.get(&slot));
        let ballots: BTreeSet<Epoch> = ballots.flat_map(|ballots| ballots.keys().copied()).collect();
        if !ballots.iter().any(|ballot| quorum.reached(|id| accepted(id, *ballot))) {
            let holders = |ballot: &Epoch| {
                let holders = quorum.voters().into_iter().filter(|id| accepted(*id, *ballot));
                (*ballot, holders.collect::<Vec<_>>())
            };
            let durable: Vec<_> = ballots.iter().map(holders).collect();
            return Err(format!(
                "member {by} calls {entry:?} chosen; accepted durably, by ballot, it is on {durable:?} only"
            ));
        }
        self.found_chosen(entry);
        Ok(())
    }

    fn found_chosen(&mut self, entry: &Entry) {
        self.judged = entry.index;
        if let Ok(Some(next)) = Membership::of(entry)
            && self.voters.as_ref().is_none_or(|present| next.follows(present, Layout::Slots))
        {
            self.voters = Some(next.settled());
        }
        let next = self.judged.next();
        for acceptor in self.acceptors.values_mut() {
            acceptor.held = acceptor.held.split_off(&next);
            acceptor.accepted = acceptor.accepted.split_off(&next);
        }
    }

    /// Member `id` stopped: what it finds at its next start is durable, whatever it was.
    pub(super) fn stopped(&mut self, id: MemberId) {
        if let Some(acceptor) = self.acceptors.get_mut(&id) {
            (acceptor.seen, acceptor.held) = (None, BTreeMap::new());
            acceptor.written.clear();
        }
    }
}
