//! Rare states, seen from outside: that they are reached shows that a run looked where bugs hide. Named; a test asks for each.

use std::collections::BTreeMap;

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::protocol::{Part, Status};
use quorate_replica::event::GroupId;
use quorate_replica::host::Host;

use super::World;
use super::synchronisation::{BEFORE_EPOCH, DIFF, TRUNC};
use super::watchers::AHEAD;
use crate::check::linearizability::Explained;
use crate::check::watch::Heard;
use crate::history::{Moment, Operation, Outcome};
use crate::seed;

/// What every protocol reaches.
pub const COMMON: [&str; 22] = [
    "leader established",
    "leader deposed with uncommitted entries",
    "two members led at once",
    "leadership handed over",
    PREFERRED,
    "every member down at once",
    "restarted member lacked unsynced entries",
    "snapshot installed",
    "snapshot broke off",
    "snapshot over a conflicting log",
    "membership changed under faults",
    "removed member told",
    WITNESS_ASKED,
    "damaged member refused to start",
    "lost member replaced",
    "read confirmed after a leader change",
    "lease ended by a new leader",
    "watch went on behind a compaction",
    AHEAD,
    "a random quorum went on",
    "feature level raised under faults",
    "downgrade refused behind a raised level",
];

/// What one protocol reaches besides.
#[must_use]
pub fn of(protocol: ProtocolKind) -> &'static [&'static str] {
    match protocol {
        ProtocolKind::Raft => {
            &["joint configuration interrupted by a crash", "uncommitted entries replaced by a new leader's"]
        }
        ProtocolKind::MultiPaxos => {
            &["hole filled with a no-op", "value chosen again in a later ballot", STOP_INTERRUPTED]
        }
        ProtocolKind::Zab => &["uncommitted entries replaced by a new leader's", DIFF, TRUNC, BEFORE_EPOCH],
    }
}

/// The leader that proposed a change of the members stops before it is chosen.
const STOP_INTERRUPTED: &str = "stop entry interrupted by a crash of its leader";
/// A member leads instead of one of a lower priority that runs.
const PREFERRED: &str = "a preferred member led instead";
/// A client came to a member that reads memberships from before it was added, or from behind its removal. Too rare in three hundred
/// short worlds to ask for; `NewcomerServes` is not caught without it.
pub(super) const NOT_MEMBER: &str = "client refused by a member that joins or leaves";
/// A client came to a witness.
pub(super) const WITNESS_ASKED: &str = "client refused by a witness";
/// Uncommitted entries of a deposed leader that are looked after.
const OPEN_MAX: u64 = 50;

/// What is remembered to see them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By member, its last status.
    statuses: BTreeMap<MemberId, Status>,
    /// By member, up to where its committed entries were looked at, and the last of them.
    committed: BTreeMap<MemberId, (Index, Option<Entry>)>,
    /// By member that led, what it could not get committed then.
    open: BTreeMap<MemberId, BTreeMap<Index, Epoch>>,
    /// By member that stopped, its last index, durable or not.
    last: BTreeMap<MemberId, Index>,
    /// Who was established last.
    leader: Option<MemberId>,
    /// When leaders were established.
    established: Vec<(Moment, Epoch)>,
}

fn last_index(host: &Host, from: Index) -> Index {
    let entries = host.entries(GroupId::DEFAULT, from.next(), Index(u64::MAX - 1));
    entries.last().map_or(from, |entry| entry.index)
}

/// The epoch in which a command's payload says that it was proposed first.
fn proposed(entry: &Entry) -> Option<u64> {
    let bytes = entry.payload.get(16..24).filter(|_| entry.kind == Kind::Command)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

impl World {
    pub(super) fn reached(&mut self, what: &'static str) {
        *self.report.reached.entry(what).or_default() += 1;
    }

    /// A member took a step.
    pub(super) fn observe(&mut self, id: MemberId) {
        self.accepts(id);
        let Some(host) = self.machines.get(&id).and_then(|machine| machine.host.as_ref()) else { return };
        let Some(status) = host.status(GroupId::DEFAULT) else { return };
        let before = self.seen.statuses.insert(id, status.clone());
        let mut reached = Vec::new();
        if let Some(before) = before {
            if before.part == Part::Leader && status.part != Part::Leader {
                let open =
                    host.entries(GroupId::DEFAULT, before.commit.next(), Index(before.commit.0 + OPEN_MAX));
                if before.established && !open.is_empty() {
                    reached.push("leader deposed with uncommitted entries");
                }
                let open = open.into_iter().map(|entry| (entry.index, entry.epoch));
                self.seen.open.insert(id, open.collect());
            }
            if !before.established && status.established {
                let others = self.seen.statuses.iter().filter(|(other, _)| **other != id);
                if others.clone().any(|(_, other)| other.established && other.epoch < status.epoch) {
                    reached.push("two members led at once");
                }
                let priority = |id: MemberId| seed::leader_priority(self.seed, id.0);
                let last = self.seen.leader.replace(id).filter(|last| priority(*last) < priority(id));
                if last.is_some_and(|last| self.seen.statuses.contains_key(&last)) {
                    reached.push(PREFERRED);
                }
                self.moment += 1;
                let at = Moment { order: self.moment, ms: self.now.0 };
                self.seen.established.push((at, status.epoch));
            }
        }
        let (from, mut last) = self.seen.committed.remove(&id).unwrap_or((status.commit, None));
        if status.commit > from {
            for entry in host.entries(GroupId::DEFAULT, from.next(), status.commit.next()) {
                if let Some(previous) = &last
                    && previous.kind == Kind::NoOp
                    && proposed(&entry).is_some_and(|epoch| epoch < previous.epoch.0)
                {
                    reached.push("hole filled with a no-op");
                }
                let open = self.seen.open.get_mut(&id).and_then(|open| open.remove(&entry.index));
                if open.is_some_and(|epoch| epoch != entry.epoch) {
                    reached.push("uncommitted entries replaced by a new leader's");
                }
                if proposed(&entry).is_some_and(|epoch| epoch < entry.epoch.0) {
                    reached.push("value chosen again in a later ballot");
                }
                last = Some(entry);
            }
        }
        self.seen.committed.insert(id, (status.commit, last));
        let applies = |what: &&str| COMMON.contains(what) || of(self.protocol).contains(what);
        reached
            .into_iter()
            .filter(applies)
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|what| self.reached(what));
    }

    /// A member is about to stop.
    pub(super) fn stopping(&mut self, id: MemberId) {
        self.seen.statuses.remove(&id);
        self.seen.committed.remove(&id);
        self.seen.open.remove(&id);
        let Some(host) = self.machines.get(&id).and_then(|machine| machine.host.as_ref()) else { return };
        let Some(replica) = host.replica(GroupId::DEFAULT) else { return };
        let is_joint = replica.membership().is_joint();
        let status = replica.status();
        let open = host.entries(GroupId::DEFAULT, status.commit.next(), Index(status.commit.0 + OPEN_MAX));
        let stops = status.part == Part::Leader && open.iter().any(|entry| entry.kind == Kind::Membership);
        self.seen.last.insert(id, last_index(host, status.commit));
        if is_joint && self.protocol == ProtocolKind::Raft {
            self.reached("joint configuration interrupted by a crash");
        }
        if stops && self.protocol == ProtocolKind::MultiPaxos {
            self.reached(STOP_INTERRUPTED);
        }
        self.stops_unsynchronised(id);
    }

    /// A member has started.
    pub(super) fn started(&mut self, id: MemberId) {
        let Some(host) = self.machines.get(&id).and_then(|machine| machine.host.as_ref()) else { return };
        if let Err(what) = self.invariants.started(id, host) {
            self.broken.get_or_insert(what);
        }
        let commit = host.status(GroupId::DEFAULT).map_or(Index(0), |status| status.commit);
        let last = last_index(host, commit);
        if self.seen.last.remove(&id).is_some_and(|before| last < before) {
            self.reached("restarted member lacked unsynced entries");
        }
    }

    /// A snapshot up to `last` is about to be installed.
    pub(super) fn installing(&mut self, id: MemberId, last: Index) {
        let Some(host) = self.machines.get(&id).and_then(|machine| machine.host.as_ref()) else { return };
        if self.invariants.conflicts(host, last) {
            self.reached("snapshot over a conflicting log");
        }
    }

    /// What histories show.
    pub(super) fn observe_histories(&mut self, explained: &Explained) {
        let changes: Vec<Moment> = self.seen.established.iter().map(|(at, _)| *at).collect();
        let between = |from: Moment, to: Moment| changes.iter().any(|at| *at > from && *at < to);
        let mut found = Vec::new();
        for record in &self.clients.records {
            let read = matches!(record.operation, Operation::Read { serializable: false, .. });
            if read && matches!(record.outcome, Outcome::Read(..)) && between(record.asked, record.answered) {
                found.push("read confirmed after a leader change");
            }
            let Operation::Command(quorate_state::command::CommandKind::LeaseGrant(grant)) =
                &record.operation
            else {
                continue;
            };
            let end = explained.lease_ends.iter().find(|(_, lease)| **lease == grant.id);
            let seen = end.and_then(|(revision, _)| self.witness.seen(*revision));
            if seen.is_some_and(|seen| between(record.answered, seen)) {
                found.push("lease ended by a new leader");
            }
        }
        for followed in self.watchers.iter().flat_map(|watcher| &watcher.watches) {
            let behind = followed.watch.heard.windows(3).any(|three| {
                matches!(three, [Heard::Compacted(_), Heard::Started(_), Heard::Events(_, events)] if !events.is_empty())
            });
            if behind {
                found.push("watch went on behind a compaction");
            }
        }
        found.into_iter().for_each(|what| self.reached(what));
    }
}
