//! Which protocol a group agrees by. Chosen at bootstrap, recorded on disk, never changed in place.

use std::fmt;
use std::str::FromStr;

use crate::config::Config;
use crate::entry::{HardState, SnapshotMark};
use crate::id::Time;
use crate::log::{Layout, LogRead};
use crate::paxos::Paxos;
use crate::protocol::Protocol;
use crate::raft::Raft;
use crate::start::StartError;
use crate::zab::Zab;

/// The protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolKind {
    /// Raft (Ongaro 2014).
    Raft,
    /// Multi-Paxos (Lamport 2001).
    MultiPaxos,
    /// Zab (Junqueira, Reed, Serafini 2011).
    Zab,
}

/// A name that is no protocol's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a protocol: choose Raft, MultiPaxos or Zab")]
pub struct UnknownProtocol(pub String);

impl ProtocolKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Raft, Self::MultiPaxos, Self::Zab];

    /// The number that stands for it in log records and handshakes.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Raft => 1,
            Self::MultiPaxos => 2,
            Self::Zab => 3,
        }
    }

    /// What it needs of the log.
    #[must_use]
    pub fn layout(self) -> Layout {
        match self {
            Self::Raft | Self::Zab => Layout::Tail,
            Self::MultiPaxos => Layout::Slots,
        }
    }

    /// A member after a start: `hard_state` and `log` as recovered, all of it durable, `mark` the checkpoint in the state
    /// machine. At the first boot the mark has index 0 and the initial membership.
    ///
    /// # Errors
    /// `log` has a membership entry that can't be decoded, or can't be read.
    pub fn start(
        self,
        config: Config,
        hard_state: HardState,
        mark: SnapshotMark,
        log: &dyn LogRead,
        now: Time,
    ) -> Result<Box<dyn Protocol>, StartError> {
        Ok(match self {
            Self::Raft => Box::new(Raft::new(config, hard_state, mark, log, now)?),
            Self::MultiPaxos => Box::new(Paxos::new(config, hard_state, mark, log, now)?),
            Self::Zab => Box::new(Zab::new(config, hard_state, mark, log, now)?),
        })
    }
}

impl fmt::Display for ProtocolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raft => "Raft",
            Self::MultiPaxos => "MultiPaxos",
            Self::Zab => "Zab",
        })
    }
}

impl FromStr for ProtocolKind {
    type Err = UnknownProtocol;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownProtocol(name.to_owned()))
    }
}
