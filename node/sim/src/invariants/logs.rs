//! What the logs of members hold behind what they applied, and how far it is durable. It judges nothing itself; `matching.rs`,
//! `disk.rs` and `accepted.rs` judge what is new in it, and other invariants ask it who holds an entry.

use std::collections::BTreeMap;

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::log::{Layout, LogRead, Missing};
use quorate_replica::event::GroupId;
use quorate_replica::host::Host;

/// What tells one value from another.
pub(super) type Value = (Kind, bytes::Bytes);

/// The part of one member's log that is not known to be committed, and how far it is durable.
#[derive(Debug, Default)]
struct Seen {
    /// The state of the log when it was looked at: last index and its epoch, durable index, the promised epoch.
    at: (Index, Option<Epoch>, Index, Epoch),
    held: BTreeMap<Index, (Epoch, Value)>,
    /// The epochs of what was durable, by position. They stand for the values (`matching.rs`).
    durable: BTreeMap<Index, Epoch>,
    /// Everything up to here was applied, so it was durable.
    applied: Index,
    restarted: bool,
}

/// What is new in one member's log.
#[derive(Debug)]
pub(super) struct Look<'a> {
    /// What it holds, by position.
    pub(super) held: &'a BTreeMap<Index, (Epoch, Value)>,
    /// The epochs of what was durable there when it was looked at before.
    pub(super) was_durable: BTreeMap<Index, Epoch>,
    /// It started since, and took no step yet.
    pub(super) restarted: bool,
}

impl Look<'_> {
    /// What was durable, with its epoch, and the epoch of what is there now.
    pub(super) fn compared(&self) -> impl Iterator<Item = (Index, Epoch, Option<Epoch>)> {
        let now = |index| self.held.get(index).map(|(epoch, _)| *epoch);
        self.was_durable.iter().map(move |(index, epoch)| (*index, *epoch, now(index)))
    }
}

#[derive(Debug)]
pub(super) struct Logs {
    layout: Layout,
    seen: BTreeMap<MemberId, Seen>,
}

impl Logs {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, seen: BTreeMap::new() }
    }

    /// Member `id` started or took a step, and has applied everything up to `applied`. What is new in its log, if anything is.
    pub(super) fn look(&mut self, id: MemberId, host: &Host, applied: Index) -> Option<Look<'_>> {
        let log = host.log(GroupId::DEFAULT);
        let (durable, _) = host.durable(GroupId::DEFAULT);
        let last = log.last_index();
        let at = (last, log.epoch(last).ok(), durable, host.hard_state(GroupId::DEFAULT).epoch);
        let seen = self.seen.entry(id).or_default();
        let before = seen.applied;
        seen.applied = applied;
        seen.durable = seen.durable.split_off(&applied.next());
        if seen.at == at && !seen.restarted {
            return None;
        }
        seen.at = at;
        let first = before.min(applied).max(log.snapshot_index()).next();
        let found = (first.0..=last.0).filter_map(|index| entry(&log, Index(index)));
        seen.held = found.map(|entry| (entry.index, (entry.epoch, (entry.kind, entry.payload)))).collect();
        let now_durable = seen.held.range(..=durable).map(|(index, (epoch, _))| (*index, *epoch)).collect();
        let was_durable = std::mem::replace(&mut seen.durable, now_durable);
        Some(Look { held: &seen.held, was_durable, restarted: std::mem::take(&mut seen.restarted) })
    }

    /// The encoded memberships in the part of a member's log that is not applied there.
    pub(super) fn memberships(&self, id: MemberId) -> impl Iterator<Item = &bytes::Bytes> {
        let held = self.seen.get(&id).into_iter().flat_map(|seen| seen.held.values());
        held.filter(|(_, (kind, _))| *kind == Kind::Membership).map(|(_, (_, payload))| payload)
    }

    /// Whether an entry that was committed is durable on a member.
    pub(super) fn holds(&self, id: MemberId, entry: &Entry) -> bool {
        let Some(seen) = self.seen.get(&id) else { return false };
        seen.applied >= entry.index || seen.durable.get(&entry.index) == Some(&entry.epoch)
    }

    /// Whether an entry is in a member's log, durable or not.
    pub(super) fn has(&self, id: MemberId, entry: &Entry) -> bool {
        let Some(seen) = self.seen.get(&id) else { return false };
        seen.applied >= entry.index
            || seen.held.get(&entry.index).is_some_and(|(epoch, _)| *epoch == entry.epoch)
    }

    /// The disk failed in the middle of a step, which nothing has looked at. What a leader cut or replaced in that step may or may
    /// not be on the disk, in any part; what it left alone must be. Slots are never given up before something else is durable.
    pub(super) fn failed(&mut self, id: MemberId, log: &impl LogRead) {
        if let (Layout::Tail, Some(seen)) = (self.layout, self.seen.get_mut(&id)) {
            seen.durable.retain(|index, epoch| log.epoch(*index) == Ok(*epoch));
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

/// Looks at made-up logs, for tests.
#[cfg(test)]
pub(super) mod sample {
    use super::*;

    /// What a member holds, as (position, epoch).
    pub(in crate::invariants) fn held(held: &[(u64, u64)]) -> BTreeMap<Index, (Epoch, Value)> {
        let command = || (Kind::Command, bytes::Bytes::new());
        held.iter().map(|(index, epoch)| (Index(*index), (Epoch(*epoch), command()))).collect()
    }

    /// What it held durably before.
    pub(in crate::invariants) fn durable(durable: &[(u64, u64)]) -> BTreeMap<Index, Epoch> {
        durable.iter().map(|(index, epoch)| (Index(*index), Epoch(*epoch))).collect()
    }
}
