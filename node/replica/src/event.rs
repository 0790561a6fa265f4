//! What happens to a host.

use bytes::Bytes;

use quorate_consensus::id::{MemberId, Time};
use quorate_state::command::Command;

use crate::change::MembershipChange;

/// A group on this host. 1 is the default keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The default keyspace.
    pub const DEFAULT: Self = Self(1);
}

/// Names a request of this host's clients; answered at most once. Given by the caller, rising, and never used again, not
/// even by a later process of the same member: its entry may still be applied then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One event of one group.
#[derive(Debug)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A peer's message (the group's payload of a peer frame).
    Peer {
        /// The sender as the transport authenticated it.
        from: MemberId,
        /// The encoded [`crate::envelope::Envelope`].
        payload: Bytes,
    },
    /// A client wants something from this member; on a follower writes go to the leader and are answered here, once applied.
    Request {
        /// Its name.
        id: RequestId,
        /// What it wants.
        request: Request,
        /// When the client stops waiting: the host then forgets it and answers [`crate::output::Failure::Timeout`].
        deadline: Time,
    },
    /// A snapshot stream to a member ended.
    SnapshotSent {
        /// To whom.
        to: MemberId,
        /// Whether it arrived whole.
        ok: bool,
    },
    /// Sending to a member failed; `reset`: a connection that stood was reset.
    Unreachable {
        /// The member.
        peer: MemberId,
        /// Whether a connection was reset.
        reset: bool,
    },
}

/// What a client may want of the replica. Range reads at a known index go to the reader directly.
#[derive(Clone, Debug)]
pub enum Request {
    /// Decide and apply a command.
    Command(Command),
    /// Answer when everything that was decided before now is applied here.
    Read,
    /// Answer when every membership that was decided before now is known here; a witness can, since it keeps memberships.
    ReadMembership,
    /// Decide a change of the membership.
    Change(MembershipChange),
    /// Hand leadership over (to the best voter without a name).
    Transfer(Option<MemberId>),
    /// Renew a lease at the leader.
    KeepAlive(i64),
    /// The time a lease has left, as the leader measures it.
    TimeToLive(i64),
}
