//! What happens to a protocol.

use bytes::Bytes;

use crate::entry::SnapshotMark;
use crate::id::{MemberId, ReadId, WriteId};
use crate::membership::Membership;

/// One event.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed; see [`crate::protocol::Protocol::deadline`].
    Tick,
    /// A message of a peer, encoded by the same protocol there. The link may lose, repeat and reorder.
    Message {
        /// The sender, as the transport authenticated it.
        from: MemberId,
        /// The encoded message.
        payload: Bytes,
    },
    /// Everything up to this write is durable.
    Persisted(WriteId),
    /// Commands to append, in this order. Only a leader takes them; else each is refused by [`crate::effect::Effect::Refuse`].
    Propose(Vec<Proposal>),
    /// A change of the membership to this value. Refused unless the present one allows it.
    ProposeMembership {
        /// Names the change in the answer.
        id: ProposalId,
        /// The value wanted; the protocol goes through a joint one where it must.
        target: Membership,
    },
    /// A linearizable read wants an index to wait for.
    Read(ReadId),
    /// Hand leadership to this voter (or to the best one).
    Transfer(Option<MemberId>),
    /// A snapshot from the leader was received whole, is durable, and replaced state machine and log.
    SnapshotInstalled(SnapshotMark),
    /// A snapshot stream to a member ended.
    SnapshotSent {
        /// To whom.
        to: MemberId,
        /// Whether it arrived whole.
        ok: bool,
    },
    /// Sending to a member failed.
    Unreachable {
        /// The member.
        peer: MemberId,
        /// A connection that stood was reset: its process most likely ended. A follower of it need not wait.
        reset: bool,
    },
}

/// Names a proposal of this member between `Propose` and `Accepted` or `Refuse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

/// A command on its way into the log.
#[derive(Clone, Debug, Hash)]
pub struct Proposal {
    /// Its name here.
    pub id: ProposalId,
    /// The command, opaque.
    pub payload: Bytes,
}
