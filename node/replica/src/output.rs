//! What a host wants done.

use bytes::Bytes;

use quorate_consensus::effect::Refusal;
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::membership::Membership;
use quorate_state::reader::Reader;

use crate::event::{GroupId, RequestId};

/// One output.
#[derive(Debug)]
pub enum Output {
    /// Send to a peer. Everything it relies on is durable. May be dropped.
    Send {
        /// The group.
        group: GroupId,
        /// The receiver.
        to: MemberId,
        /// What [`crate::event::Event::Peer`] takes there.
        payload: Bytes,
    },
    /// Run this sync (on another thread) and tell [`crate::host::Host::synced`] its number. One at a time.
    Sync(quorate_storage::wal::SyncJob),
    /// Answer a request.
    Reply {
        /// The request.
        id: RequestId,
        /// The answer.
        result: Result<Answer, Failure>,
    },
    /// The state after an apply, for reads and watches. Replaces the one before.
    Published {
        /// The group.
        group: GroupId,
        /// Reads at `applied`.
        reader: Reader,
        /// New events, in order of revision, whole revisions only.
        events: Vec<quorate_state::event::Event>,
        /// The last index inside.
        applied: Index,
    },
    /// Stream a snapshot of the group to this member, then tell `SnapshotSent`.
    SendSnapshot {
        /// The group.
        group: GroupId,
        /// The receiver.
        to: MemberId,
        /// The stream.
        snapshot: Box<crate::snapshot::Snapshot>,
    },
    /// Make the backend durable (on another thread), then tell [`crate::host::Host::persisted`]: lets the log drop a prefix.
    Persist {
        /// The group.
        group: GroupId,
        /// What to hand back.
        through: Index,
    },
    /// Who leads changed.
    Leadership {
        /// The group.
        group: GroupId,
        /// The epoch.
        epoch: Epoch,
        /// The leader, if known.
        leader: Option<MemberId>,
        /// Whether this member leads and serves.
        established: bool,
    },
    /// The membership in force changed: for the transport's connections.
    Membership {
        /// The group.
        group: GroupId,
        /// The new value.
        membership: Membership,
    },
    /// This member was removed: stop serving.
    Removed {
        /// The group.
        group: GroupId,
    },
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The command was applied; `response` may be a refusal of the state machine (a lease that does not exist, ...).
    Applied {
        /// Where it stands in the log.
        index: Index,
        /// What the state machine said.
        response: Result<quorate_state::response::Response, quorate_state::error::ApplyError>,
    },
    /// A linearizable read may be served from this reader.
    Readable(Reader),
    /// The membership after the change.
    Changed(Membership),
    /// Leadership is with this member now.
    Transferred(MemberId),
    /// A lease at the leader: seconds left (-1: there is none), seconds granted.
    Lease {
        /// Seconds left.
        ttl_s: i64,
        /// Seconds granted.
        granted_s: i64,
    },
}

/// Why a request got no answer. Whether a write happened is unknown for `Timeout` and `Lost`, else it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Not taken by the leader.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No member leads as far as this one knows.
    #[error("no leader")]
    NoLeader,
    /// Its deadline passed.
    #[error("the request timed out")]
    Timeout,
    /// Another leader took over while it was on its way.
    #[error("the leader changed")]
    Lost,
    /// This member has too many requests waiting.
    #[error("too many requests")]
    Overloaded,
    /// The change of membership names a member that is not there.
    #[error("member not found")]
    MemberNotFound,
    /// The change names an id that exists or existed.
    #[error("member id exists")]
    MemberIdExists,
    /// The change names a peer URL that another member has.
    #[error("peer URL exists")]
    PeerUrlExists,
    /// Promotion of a member that is no learner.
    #[error("member is not a learner")]
    NotLearner,
    /// The change would leave fewer started voters than a quorum.
    #[error("the change would lose the quorum")]
    Unhealthy,
    /// This member is a learner and may not serve it.
    #[error("not supported on a learner")]
    Learner,
    /// This member is a witness and has no data.
    #[error("not supported on a witness")]
    Witness,
    /// This member's membership does not name it: it joins and reads what was before it, or was removed.
    #[error("not a member")]
    NotMember,
}
