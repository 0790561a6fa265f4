//! What members' logs hold, looked at once after each step for the invariants that speak of it whatever is committed:
//! `matching.rs` and `disk.rs`.

use std::collections::BTreeMap;

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::log::{Layout, LogRead, Missing};
use quorate_replica::event::GroupId;
use quorate_replica::host::Host;

use super::disk::{Disk, Held};
use super::matching::Matching;
use crate::finding::{Finding, Kind as Finds};

/// What tells one value from another.
pub(super) type Value = (Kind, bytes::Bytes);

/// The part of one member's log that is not known to be committed.
#[derive(Debug, Default)]
struct Seen {
    /// The state of the log when it was looked at: last index and its epoch, durable index, the promised epoch.
    at: (Index, Option<Epoch>, Index, Epoch),
    /// The epochs of what it holds, by position.
    held: BTreeMap<Index, Epoch>,
    /// Everything up to here was applied, so it was durable.
    applied: Index,
    restarted: bool,
}

#[derive(Debug)]
pub(super) struct Logs {
    layout: Layout,
    matching: Matching,
    disk: Disk,
    seen: BTreeMap<MemberId, Seen>,
}

impl Logs {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, matching: Matching::default(), disk: Disk::new(layout), seen: BTreeMap::new() }
    }

    pub(super) fn check(&mut self, id: MemberId, host: &Host, applied: Index) -> Result<(), Finding> {
        let log = host.log(GroupId::DEFAULT);
        let (durable, _) = host.durable(GroupId::DEFAULT);
        let last = log.last_index();
        let at = (last, log.epoch(last).ok(), durable, host.hard_state(GroupId::DEFAULT).epoch);
        let seen = self.seen.entry(id).or_default();
        let before = std::mem::replace(&mut seen.applied, applied);
        self.disk.applied(id, applied);
        let restarted = std::mem::take(&mut seen.restarted);
        if std::mem::replace(&mut seen.at, at) == at && !restarted {
            return Ok(());
        }
        let first = before.min(applied).max(log.snapshot_index()).next();
        let mut held = Held::new();
        for index in (first.0..=last.0).map(Index) {
            let Some(entry) = entry(&log, index) else { continue };
            let previous = match self.layout {
                Layout::Tail => log.epoch(index.previous()).ok(),
                Layout::Slots => None,
            };
            self.matching.holds(id, &entry, previous).map_err(Finds::Matching.found())?;
            held.insert(index, (entry.epoch, (entry.kind, entry.payload)));
        }
        seen.held = held.iter().map(|(index, (epoch, _))| (*index, *epoch)).collect();
        self.disk.check(id, restarted, durable, held).map_err(Finds::Disk.found())
    }

    /// The encoded memberships in the part of a member's log that is not applied there.
    pub(super) fn memberships(&self, id: MemberId) -> impl Iterator<Item = &bytes::Bytes> {
        let held = self.seen.get(&id).into_iter().flat_map(|seen| &seen.held);
        let values = held.filter_map(|(index, epoch)| self.matching.value(*epoch, *index));
        values.filter(|(kind, _)| *kind == Kind::Membership).map(|(_, payload)| payload)
    }

    /// Whether an entry that was committed is durable on a member.
    pub(super) fn holds(&self, id: MemberId, entry: &Entry) -> bool {
        let applied = self.seen.get(&id).is_some_and(|seen| seen.applied >= entry.index);
        applied || self.disk.holds(id, entry)
    }

    /// Whether an entry is in a member's log, durable or not.
    pub(super) fn has(&self, id: MemberId, entry: &Entry) -> bool {
        let seen = self.seen.get(&id);
        seen.is_some_and(|seen| {
            seen.applied >= entry.index || seen.held.get(&entry.index) == Some(&entry.epoch)
        })
    }

    /// The disk failed in the middle of a step.
    pub(super) fn failed(&mut self, id: MemberId, log: &impl LogRead) {
        self.disk.failed(id, log);
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
