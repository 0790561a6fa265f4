//! Which protocol a group agrees by. Chosen at bootstrap, recorded on disk, never changed in place.

use std::fmt;
use std::str::FromStr;

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
    /// The number that stands for it in log records and handshakes.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Raft => 1,
            Self::MultiPaxos => 2,
            Self::Zab => 3,
        }
    }

    /// Whether this version has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Raft => true,
            Self::MultiPaxos | Self::Zab => false,
        }
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
        [Self::Raft, Self::MultiPaxos, Self::Zab]
            .into_iter()
            .find(|kind| kind.to_string().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownProtocol(name.to_owned()))
    }
}
