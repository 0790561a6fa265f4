//! What the log holds.

use bytes::Bytes;

use crate::id::{Epoch, Index, MemberId};

/// What an entry's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing: a leader's first entry, a filled hole.
    NoOp,
    /// A command of the state machine, opaque here.
    Command,
    /// An encoded [`crate::membership::Membership`], in force from the moment it is appended.
    Membership,
    /// A command whose payload is not here: what a witness holds of it.
    Header,
}

impl Kind {
    /// The number that stands for it on disk and in messages.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::NoOp => 1,
            Self::Command => 2,
            Self::Membership => 3,
            Self::Header => 4,
        }
    }

    /// The kind behind a number; `None` for one of a later version.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::NoOp),
            2 => Some(Self::Command),
            3 => Some(Self::Membership),
            4 => Some(Self::Header),
            _ => None,
        }
    }
}

/// One slot of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its position.
    pub index: Index,
    /// The epoch it was proposed in (Raft: never changes; Paxos: of the last accept).
    pub epoch: Epoch,
    /// What the payload is.
    pub kind: Kind,
    /// The payload.
    pub payload: Bytes,
}

/// Entries as a witness gets them: commands without their payload. It needs memberships, since it votes.
pub(crate) fn headers(entries: Vec<Entry>) -> Vec<Entry> {
    let header = |entry: Entry| match entry.kind {
        Kind::Command => Entry { kind: Kind::Header, payload: Bytes::new(), ..entry },
        Kind::NoOp | Kind::Membership | Kind::Header => entry,
    };
    entries.into_iter().map(header).collect()
}

/// What a member must remember besides its log, kept twice and checksummed by the storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// Raft: current term. Paxos: promised ballot. Zab: accepted epoch.
    pub epoch: Epoch,
    /// Raft: the candidate voted for in `epoch`. Paxos: the ballot's owner. Zab: unused.
    pub vote: Option<MemberId>,
    /// Zab: current epoch. Others: 0.
    pub established: Epoch,
    /// A committed prefix known to this member and durable here; a hint that spares work at restart, never needed for safety.
    pub commit: Index,
}

/// A state machine's checkpoint as the log sees it: everything up to `index` is inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMark {
    /// The last position inside.
    pub index: Index,
    /// That position's epoch.
    pub epoch: Epoch,
    /// The membership in force at `index`.
    pub membership: crate::membership::Membership,
}
