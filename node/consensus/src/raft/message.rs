//! Raft's messages and their bytes.

use bytes::Bytes;
use prost::{Message as _, Oneof};

use crate::entry::Entry;
use crate::id::{Epoch, Index, ReadId};
use crate::wire::{WireEntry, from_wire, to_wire};

/// One message with the sender's term. See the table in [`crate::raft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's term; for a pre-vote the term it would stand in.
    pub term: Epoch,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Would you vote for me? (`pre`), or: vote for me.
    Vote {
        /// Asks only; nothing is promised.
        pre: bool,
        /// The leader asked for this election: do not protect it.
        forced: bool,
        /// The candidate's last index.
        last_index: Index,
        /// That entry's term.
        last_term: Epoch,
    },
    /// The answer.
    VoteReply {
        /// To a question only.
        pre: bool,
        /// Yes or no.
        granted: bool,
    },
    /// Entries behind `previous`.
    Append {
        /// The index before the first entry.
        previous: Index,
        /// Its term.
        previous_term: Epoch,
        /// The entries; may be none.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
    },
    /// Everything up to here is on the sender's disk and matches the leader's log.
    Appended {
        /// The last index that matches.
        matched: Index,
    },
    /// `previous` did not match.
    Rejected {
        /// The `previous` that was refused.
        previous: Index,
        /// The largest index that may match.
        hint: Index,
        /// Its term here.
        hint_term: Epoch,
    },
    /// The leader lives; confirms reads.
    Heartbeat {
        /// What this member may commit: never more than it is known to hold.
        commit: Index,
        /// The newest round of reads.
        round: u64,
    },
    /// The answer.
    HeartbeatReply {
        /// The round.
        round: u64,
    },
    /// A follower wants an index for a linearizable read.
    Read(ReadId),
    /// The leader's answer.
    ReadReply {
        /// The read.
        id: ReadId,
        /// What must be applied first; `None` if refused.
        index: Option<Index>,
    },
    /// Stand for election at once (thesis 3.10).
    TimeoutNow,
    /// You were removed.
    Removed,
}

/// Bytes that are no message of this version. Dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Raft message could not be decoded")]
pub struct Malformed;

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(oneof = "WireBody", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    body: Option<WireBody>,
}

#[derive(Clone, PartialEq, Oneof)]
enum WireBody {
    #[prost(message, tag = "2")]
    Vote(WireVote),
    #[prost(message, tag = "3")]
    VoteReply(WireVote),
    #[prost(message, tag = "4")]
    Append(WireAppend),
    #[prost(uint64, tag = "5")]
    Appended(u64),
    #[prost(message, tag = "6")]
    Rejected(WireRejected),
    #[prost(message, tag = "7")]
    Heartbeat(WireHeartbeat),
    #[prost(uint64, tag = "8")]
    HeartbeatReply(u64),
    #[prost(uint64, tag = "9")]
    Read(u64),
    #[prost(message, tag = "10")]
    ReadReply(WireRead),
    #[prost(bool, tag = "11")]
    TimeoutNow(bool),
    #[prost(bool, tag = "12")]
    Removed(bool),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireVote {
    #[prost(bool, tag = "1")]
    pre: bool,
    #[prost(bool, tag = "2")]
    forced: bool,
    #[prost(uint64, tag = "3")]
    last_index: u64,
    #[prost(uint64, tag = "4")]
    last_term: u64,
    #[prost(bool, tag = "5")]
    granted: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireAppend {
    #[prost(uint64, tag = "1")]
    previous: u64,
    #[prost(uint64, tag = "2")]
    previous_term: u64,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<WireEntry>,
    #[prost(uint64, tag = "4")]
    commit: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireRejected {
    #[prost(uint64, tag = "1")]
    previous: u64,
    #[prost(uint64, tag = "2")]
    hint: u64,
    #[prost(uint64, tag = "3")]
    hint_term: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireHeartbeat {
    #[prost(uint64, tag = "1")]
    commit: u64,
    #[prost(uint64, tag = "2")]
    round: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireRead {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, optional, tag = "2")]
    index: Option<u64>,
}

impl Message {
    /// Its bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        Wire { term: self.term.0, body: Some(wire(self.body)) }.encode_to_vec().into()
    }

    /// The message in these bytes; payloads are slices of them.
    ///
    /// # Errors
    /// [`Malformed`] if they are none.
    pub fn decode(payload: Bytes) -> Result<Self, Malformed> {
        let wire = Wire::decode(payload).map_err(|_| Malformed)?;
        let body = body(wire.body.ok_or(Malformed)?).ok_or(Malformed)?;
        Ok(Self { term: Epoch(wire.term), body })
    }
}

fn wire(body: Body) -> WireBody {
    match body {
        Body::Vote { pre, forced, last_index, last_term } => WireBody::Vote(WireVote {
            pre,
            forced,
            last_index: last_index.0,
            last_term: last_term.0,
            granted: false,
        }),
        Body::VoteReply { pre, granted } => {
            WireBody::VoteReply(WireVote { pre, granted, ..WireVote::default() })
        }
        Body::Append { previous, previous_term, entries, commit } => WireBody::Append(WireAppend {
            previous: previous.0,
            previous_term: previous_term.0,
            entries: to_wire(entries),
            commit: commit.0,
        }),
        Body::Appended { matched } => WireBody::Appended(matched.0),
        Body::Rejected { previous, hint, hint_term } => {
            WireBody::Rejected(WireRejected { previous: previous.0, hint: hint.0, hint_term: hint_term.0 })
        }
        Body::Heartbeat { commit, round } => WireBody::Heartbeat(WireHeartbeat { commit: commit.0, round }),
        Body::HeartbeatReply { round } => WireBody::HeartbeatReply(round),
        Body::Read(id) => WireBody::Read(id.0),
        Body::ReadReply { id, index } => {
            WireBody::ReadReply(WireRead { id: id.0, index: index.map(|index| index.0) })
        }
        Body::TimeoutNow => WireBody::TimeoutNow(true),
        Body::Removed => WireBody::Removed(true),
    }
}

fn body(wire: WireBody) -> Option<Body> {
    Some(match wire {
        WireBody::Vote(vote) => Body::Vote {
            pre: vote.pre,
            forced: vote.forced,
            last_index: Index(vote.last_index),
            last_term: Epoch(vote.last_term),
        },
        WireBody::VoteReply(vote) => Body::VoteReply { pre: vote.pre, granted: vote.granted },
        WireBody::Append(append) => Body::Append {
            previous: Index(append.previous),
            previous_term: Epoch(append.previous_term),
            entries: from_wire(append.previous, append.entries)?,
            commit: Index(append.commit),
        },
        WireBody::Appended(matched) => Body::Appended { matched: Index(matched) },
        WireBody::Rejected(rejected) => Body::Rejected {
            previous: Index(rejected.previous),
            hint: Index(rejected.hint),
            hint_term: Epoch(rejected.hint_term),
        },
        WireBody::Heartbeat(beat) => Body::Heartbeat { commit: Index(beat.commit), round: beat.round },
        WireBody::HeartbeatReply(round) => Body::HeartbeatReply { round },
        WireBody::Read(id) => Body::Read(ReadId(id)),
        WireBody::ReadReply(read) => Body::ReadReply { id: ReadId(read.id), index: read.index.map(Index) },
        WireBody::TimeoutNow(_) => Body::TimeoutNow,
        WireBody::Removed(_) => Body::Removed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            if let Ok(message) = Message::decode(bytes.into()) {
                assert_eq!(Message::decode(message.clone().encode()), Ok(message));
            }
        }
    }
}
