//! What members' logs hold, and what must hold of it whatever is committed.
//!
//! One value per epoch and position, and the same position before it: by induction logs that share an entry are equal up to it
//! (Raft: Log Matching, thesis 3.5; Zab: Total Order). Multi-Paxos: one value per ballot and slot (Paxos Made Simple 2.2, P2c), and
//! the ballot of a slot never falls on an acceptor. What was durable is still there after a restart, before the member's first step:
//! the first message that it takes may be a new leader's, which cuts what the leader lacks.

use std::collections::BTreeMap;

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::log::{Layout, LogRead, Missing};
use quorate_replica::event::GroupId;
use quorate_replica::host::Host;

use crate::finding::{Finding, Kind as Finds};

/// What tells one value from another.
pub(super) type Value = (Kind, bytes::Bytes);

/// The part of one member's log that is not known to be committed, and how far it is durable.
#[derive(Debug, Default)]
struct Seen {
    /// The state of the log when it was looked at: last index and its epoch, durable index, the promised epoch.
    at: (Index, Option<Epoch>, Index, Epoch),
    /// The epochs of what it holds, by position.
    held: BTreeMap<Index, Epoch>,
    /// What was durable, by position.
    durable: BTreeMap<Index, (Epoch, Value)>,
    /// Everything up to here was applied, so it was durable.
    applied: Index,
    restarted: bool,
}

#[derive(Debug)]
pub(super) struct Logs {
    layout: Layout,
    /// By epoch and position, the value and the epoch of the position before.
    written: BTreeMap<(Epoch, Index), (Value, Option<Epoch>)>,
    seen: BTreeMap<MemberId, Seen>,
}

impl Logs {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, written: BTreeMap::new(), seen: BTreeMap::new() }
    }

    pub(super) fn check(&mut self, id: MemberId, host: &Host, applied: Index) -> Result<(), Finding> {
        let log = host.log(GroupId::DEFAULT);
        let (durable, _) = host.durable(GroupId::DEFAULT);
        let last = log.last_index();
        let at = (last, log.epoch(last).ok(), durable, host.hard_state(GroupId::DEFAULT).epoch);
        let seen = self.seen.entry(id).or_default();
        let before = seen.applied;
        seen.applied = applied;
        seen.durable = seen.durable.split_off(&applied.next());
        if seen.at == at && !seen.restarted {
            return Ok(());
        }
        seen.at = at;
        let first = before.min(applied).max(log.snapshot_index()).next();
        let mut held = BTreeMap::new();
        for index in (first.0..=last.0).map(Index) {
            let Some(entry) = entry(&log, index) else { continue };
            let previous = match self.layout {
                Layout::Tail => log.epoch(index.previous()).ok(),
                Layout::Slots => None,
            };
            let value = (entry.kind, entry.payload.clone());
            let known = self.written.entry((entry.epoch, index)).or_insert((value.clone(), previous));
            if known.0.0 == Kind::Header {
                known.0 = value.clone();
            }
            if !same(&known.0, &value) {
                let what = format!("{id} holds {entry:?}, and {known:?} was there in the same epoch");
                return Err(Finds::Logs.found()(what));
            }
            if known.1.zip(previous).is_some_and(|(known, previous)| known != previous) {
                let others = known.1;
                let what =
                    format!("{id} holds {entry:?} behind epoch {previous:?}, others behind {others:?}");
                return Err(Finds::Logs.found()(what));
            }
            held.insert(index, (entry.epoch, value));
        }
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.held = held.iter().map(|(index, (epoch, _))| (*index, *epoch)).collect();
        }
        self.compare(id, durable, held).map_err(Finds::Disk.found())
    }

    /// What was durable must be there, or replaced by something of a later epoch; then what is durable now is remembered.
    fn compare(
        &mut self,
        id: MemberId,
        durable: Index,
        held: BTreeMap<Index, (Epoch, Value)>,
    ) -> Result<(), String> {
        let Some(seen) = self.seen.get_mut(&id) else { return Ok(()) };
        let restarted = std::mem::take(&mut seen.restarted);
        for (index, (epoch, value)) in &seen.durable {
            match held.get(index) {
                None if restarted => {
                    return Err(format!("{id} lost {index} of epoch {epoch}, which was durable"));
                }
                None if self.layout == Layout::Slots => return Err(format!("{id} cut slot {index} off")),
                None => {}
                Some((now, _)) if now < epoch && self.layout == Layout::Slots => {
                    return Err(format!("{id} replaced {index} of ballot {epoch} by one of ballot {now}"));
                }
                Some((now, found)) if now == epoch && !same(found, value) => {
                    return Err(format!("{id} changed {index} of epoch {epoch}"));
                }
                Some(_) => {}
            }
        }
        seen.durable = held.into_iter().filter(|(index, _)| *index <= durable).collect();
        Ok(())
    }

    /// The encoded memberships in the part of a member's log that is not applied there.
    pub(super) fn memberships(&self, id: MemberId) -> impl Iterator<Item = &bytes::Bytes> {
        let held = self.seen.get(&id).into_iter().flat_map(|seen| &seen.held);
        let values = held.filter_map(|(index, epoch)| self.written.get(&(*epoch, *index)));
        values.filter(|((kind, _), _)| *kind == Kind::Membership).map(|((_, payload), _)| payload)
    }

    /// Whether an entry that was committed is durable on a member.
    pub(super) fn holds(&self, id: MemberId, entry: &Entry) -> bool {
        let Some(seen) = self.seen.get(&id) else { return false };
        seen.applied >= entry.index
            || seen.durable.get(&entry.index).is_some_and(|(epoch, value)| {
                *epoch == entry.epoch && same(value, &(entry.kind, entry.payload.clone()))
            })
    }

    /// Whether an entry is in a member's log, durable or not.
    pub(super) fn has(&self, id: MemberId, entry: &Entry) -> bool {
        let seen = self.seen.get(&id);
        seen.is_some_and(|seen| {
            seen.applied >= entry.index || seen.held.get(&entry.index) == Some(&entry.epoch)
        })
    }

    /// The disk failed in the middle of a step, which nothing has looked at. What a leader cut or replaced in that step may or may
    /// not be on the disk, in any part; what it left alone must be. Slots are never given up before something else is durable.
    pub(super) fn failed(&mut self, id: MemberId, log: &impl LogRead) {
        if let (Layout::Tail, Some(seen)) = (self.layout, self.seen.get_mut(&id)) {
            seen.durable.retain(|index, (epoch, _)| log.epoch(*index) == Ok(*epoch));
        }
    }

    pub(super) fn stopped(&mut self, id: MemberId) {
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.restarted = true;
        }
    }
}

/// What a log holds at a position. A body that the disk damaged is unknown, and its header stands for it, as a witness's does: the
/// member acknowledged it in good faith, and the fault atlas leaves enough others.
pub(super) fn entry(log: &impl LogRead, index: Index) -> Option<Entry> {
    match log.entries(index, index.next(), 1) {
        Ok(found) => found.into_iter().next(),
        Err(Missing::Faulty) => {
            let epoch = log.epoch(index).ok()?;
            Some(Entry { index, epoch, kind: Kind::Header, payload: bytes::Bytes::new() })
        }
        Err(Missing::Compacted | Missing::Beyond) => None,
    }
}

/// A witness holds a command's place and epoch, not the command.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    one == other || one.0 == Kind::Header || other.0 == Kind::Header
}
