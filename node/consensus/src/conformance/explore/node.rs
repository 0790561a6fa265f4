//! One member and its disk.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use super::super::log::MemoryLog;
use crate::config::Config;
use crate::effect::Write;
use crate::entry::{Entry, HardState, SnapshotMark};
use crate::id::{Epoch, MemberId, Time, WriteId};
use crate::kind::ProtocolKind;
use crate::log::LogRead;
use crate::membership::Membership;
use crate::paxos::Paxos;
use crate::protocol::Protocol;
use crate::raft::Raft;
use crate::zab::Zab;

/// What a crash leaves of unsynced writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kept {
    Nothing,
    HardState,
    Everything,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Letter {
    pub(super) from: MemberId,
    pub(super) to: MemberId,
    pub(super) payload: Bytes,
}

impl Letter {
    pub(super) fn describe(&self, kind: ProtocolKind) -> String {
        let payload = self.payload.clone();
        match kind {
            ProtocolKind::Raft => format!("{:?}", crate::raft::Message::decode(payload)),
            ProtocolKind::MultiPaxos => format!("{:?}", crate::paxos::Message::decode(payload)),
            ProtocolKind::Zab => format!("{:?}", crate::zab::Message::decode(payload)),
        }
    }
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Machine {
    Raft(Raft),
    Paxos(Paxos),
    Zab(Zab),
}

impl Machine {
    fn start(
        kind: ProtocolKind,
        id: MemberId,
        hard: HardState,
        initial: &Membership,
        log: &MemoryLog,
    ) -> Self {
        let mut config = Config::new(id, id.0);
        (config.election_timeout_ms, config.heartbeat_interval_ms) = (20, 10);
        // An entry a message: more that can be lost and overtaken.
        config.append_bytes_max = 0;
        let mark = SnapshotMark { membership: initial.clone(), ..SnapshotMark::default() };
        let started = match kind {
            ProtocolKind::Raft => Raft::new(config, hard, mark, log, Time(0)).map(Self::Raft),
            ProtocolKind::MultiPaxos => Paxos::new(config, hard, mark, log, Time(0)).map(Self::Paxos),
            ProtocolKind::Zab => Zab::new(config, hard, mark, log, Time(0)).map(Self::Zab),
        };
        started.expect("the log is sound")
    }
}

impl Deref for Machine {
    type Target = dyn Protocol;

    fn deref(&self) -> &(dyn Protocol + 'static) {
        match self {
            Self::Raft(raft) => raft,
            Self::Paxos(paxos) => paxos,
            Self::Zab(zab) => zab,
        }
    }
}

impl DerefMut for Machine {
    fn deref_mut(&mut self) -> &mut (dyn Protocol + 'static) {
        match self {
            Self::Raft(raft) => raft,
            Self::Paxos(paxos) => paxos,
            Self::Zab(zab) => zab,
        }
    }
}

/// A member's process, and what is on its disk and on its way there.
#[derive(Clone, Debug, Hash)]
pub(super) struct Node {
    pub(super) machine: Machine,
    pub(super) log: MemoryLog,
    durable_log: MemoryLog,
    pub(super) durable_hard: HardState,
    initial: Membership,
    pub(super) unsynced: Vec<Write>,
    /// Messages that wait for a write.
    held: Vec<(WriteId, Letter)>,
    pub(super) persisted: WriteId,
    /// For so long the disk syncs nothing.
    pub(super) stalled: u32,
    pub(super) removed: bool,
}

impl Node {
    pub(super) fn new(kind: ProtocolKind, id: MemberId, initial: &Membership) -> Self {
        let log = MemoryLog::new(kind.layout());
        Self {
            machine: Machine::start(kind, id, HardState::default(), initial, &log),
            durable_log: log.clone(),
            log,
            durable_hard: HardState::default(),
            initial: initial.clone(),
            unsynced: vec![],
            held: vec![],
            persisted: WriteId(0),
            stalled: 0,
            removed: false,
        }
    }

    /// Whether an entry that a leader of `epoch` committed is on this disk, so that it counts for the quorum.
    pub(super) fn holds(&self, kind: ProtocolKind, entry: &Entry, epoch: Epoch) -> bool {
        let found = self.durable_log.entries(entry.index, entry.index.next(), 1);
        let Some(found) = found.ok().and_then(|entries| entries.into_iter().next()) else { return false };
        match kind {
            ProtocolKind::Raft => found == *entry,
            ProtocolKind::Zab => found == *entry && self.durable_hard.established >= epoch,
            ProtocolKind::MultiPaxos => found.payload == entry.payload,
        }
    }

    /// The process ends and starts again.
    pub(super) fn crash(&mut self, kind: ProtocolKind, id: MemberId, kept: Kept) {
        for write in std::mem::take(&mut self.unsynced) {
            if kept == Kept::Everything {
                self.durable_log.apply(&write);
            }
            if kept != Kept::Nothing {
                self.durable_hard = write.hard_state.unwrap_or(self.durable_hard);
            }
        }
        self.held.clear();
        (self.persisted, self.stalled) = (WriteId(0), 0);
        self.log = self.durable_log.clone();
        self.machine = Machine::start(kind, id, self.durable_hard, &self.initial, &self.log);
    }

    /// Syncs the oldest write and gives the messages that waited for it.
    pub(super) fn sync(&mut self, id: MemberId) -> Result<Vec<Letter>, String> {
        if self.unsynced.is_empty() {
            return Ok(vec![]);
        }
        let write = self.unsynced.remove(0);
        self.durable_log.apply(&write);
        let epochs = |hard: HardState| (hard.epoch, hard.established);
        let before = epochs(self.durable_hard);
        self.durable_hard = write.hard_state.unwrap_or(self.durable_hard);
        let after = epochs(self.durable_hard);
        if after.0 < before.0 || after.1 < before.1 {
            return Err(format!("the epochs of {id} went back from {before:?} to {after:?}"));
        }
        self.persisted = write.id;
        let held = std::mem::take(&mut self.held);
        let (ready, held): (Vec<_>, _) = held.into_iter().partition(|(after, _)| *after <= write.id);
        self.held = held;
        Ok(ready.into_iter().map(|(_, letter)| letter).collect())
    }

    /// Sends a message, if need be when a write is durable.
    pub(super) fn send(&mut self, letter: Letter, after: Option<WriteId>) -> Option<Letter> {
        match after.filter(|after| *after > self.persisted) {
            Some(after) => {
                self.held.push((after, letter));
                None
            }
            None => Some(letter),
        }
    }
}
