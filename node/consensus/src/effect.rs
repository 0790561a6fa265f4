//! What a protocol wants done.

use bytes::Bytes;

use crate::entry::{Entry, HardState};
use crate::id::{Epoch, Index, MemberId, ReadId, WriteId};
use crate::input::ProposalId;

/// Why a proposal or a read was refused. Expected, never an error of the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Hash)]
pub enum Refusal {
    /// Somebody else leads, or nobody is known to.
    #[error("this member is not the leader")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<MemberId>,
    },
    /// Leadership is being handed over.
    #[error("leadership is being transferred")]
    Transferring,
    /// Too much is under way: see the configuration's limits.
    #[error("too many proposals are in flight")]
    Overloaded,
    /// Another membership change is under way.
    #[error("another membership change is in progress")]
    ChangeInProgress,
    /// The change is not possible from the present membership.
    #[error("the membership change is not valid from the present membership")]
    InvalidChange,
    /// A learner is too far behind to vote.
    #[error("the learner is not in sync with the leader")]
    LearnerNotReady,
    /// This member is not part of the group (any more).
    #[error("this member was removed from the cluster")]
    Removed,
}

/// An order to the log, all of it or nothing after a crash (a torn end loses a suffix of `entries` only).
#[derive(Clone, Debug, Hash)]
pub struct Write {
    /// Its name; the next number.
    pub id: WriteId,
    /// The log's new end, before the entries are appended.
    pub keep: Option<Index>,
    /// Entries to append, without gaps. The first one's index may lie inside the log: see [`crate::log::Layout`].
    pub entries: Vec<Entry>,
    /// The hard state after this write, if it changed.
    pub hard_state: Option<HardState>,
}

/// One effect. To be performed in the order given.
#[derive(Clone, Debug, Hash)]
pub enum Effect {
    /// Write to the log; step `Persisted` when it is durable.
    Write(Write),
    /// Send to a peer, once `after` is durable.
    Send {
        /// The receiver.
        to: MemberId,
        /// The encoded message.
        payload: Bytes,
        /// What must be durable first.
        after: Option<WriteId>,
    },
    /// Entries up to here may be applied.
    Commit(Index),
    /// The proposal stands in the log at `index` of `epoch`; it is decided when that entry is applied, or lost when
    /// another epoch's entry is.
    Accepted {
        /// The proposal.
        id: ProposalId,
        /// Its position.
        index: Index,
        /// The epoch it was appended in.
        epoch: Epoch,
    },
    /// The proposal was not appended.
    Refuse {
        /// The proposal.
        id: ProposalId,
        /// Why.
        refusal: Refusal,
    },
    /// The read may be served once `index` is applied.
    ReadReady {
        /// The read.
        id: ReadId,
        /// What must be applied first.
        index: Index,
    },
    /// The read can't be served from here.
    ReadRefused {
        /// The read.
        id: ReadId,
        /// Why.
        refusal: Refusal,
    },
    /// Stream a snapshot at or behind the applied index to this member; step `SnapshotSent` when it ended.
    SendSnapshot {
        /// The receiver.
        to: MemberId,
    },
    /// Who leads changed, or this member's own part did. For status, metrics and the lease keeper.
    Leadership {
        /// The epoch.
        epoch: Epoch,
        /// The leader, if known.
        leader: Option<MemberId>,
        /// Whether this member leads and may serve (its first entry of the epoch is committed).
        established: bool,
    },
    /// This member learnt that it was removed: stop taking part, tell the operator of the process.
    Removed,
}
