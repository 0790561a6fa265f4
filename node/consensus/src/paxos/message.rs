//! Multi-Paxos's messages and their bytes.

use bytes::Bytes;
use prost::{Message as _, Oneof};

use crate::entry::Entry;
use crate::id::{Epoch, Index, ReadId};
use crate::wire::{Placed, WireEntry, from_wire, placed_from_wire, placed_to_wire, to_wire};

/// One message with its ballot. See the table in [`crate::paxos`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The ballot it belongs to; of a refusal the one that is promised.
    pub ballot: Epoch,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Do you hear a leader?
    Canvass,
    /// The answer.
    CanvassReply {
        /// No leader is heard here.
        granted: bool,
    },
    /// Promise me the ballot, and tell what you accepted.
    Prepare {
        /// From this slot on.
        from: Index,
        /// Where the voters that it asks came in, as the sender knows.
        stop: Index,
    },
    /// The promise.
    Promise {
        /// The slot that was asked from.
        from: Index,
        /// What was accepted in `from..next`, each value with its ballot; slots that are not named are empty.
        entries: Vec<Entry>,
        /// The first slot that it does not tell of.
        next: Index,
        /// The last slot that the sender accepted anything in.
        last: Index,
    },
    /// A higher ballot is promised, or this one to somebody else.
    Refused,
    /// The slots that were asked about are in the sender's snapshot, which is on its way.
    Behind,
    /// Accept these values, in slots without gaps.
    Accept {
        /// The values.
        entries: Vec<Entry>,
        /// The leader's chosen prefix.
        commit: Index,
        /// Where the voters changed last, as the leader knows.
        stop: Index,
    },
    /// Accepted.
    Accepted {
        /// All slots up to here are chosen or accepted in this ballot.
        prefix: Index,
        /// The first slot that was accepted now.
        first: Index,
        /// The last one.
        last: Index,
    },
    /// The leader lives.
    Beat {
        /// Its chosen prefix.
        commit: Index,
        /// The newest round of reads.
        round: u64,
        /// Where the voters changed last, as the leader knows.
        stop: Index,
    },
    /// The ballot is still the one promised.
    BeatReply {
        /// As in `Accepted`.
        prefix: Index,
        /// The round.
        round: u64,
    },
    /// A follower's read wants an index.
    Read(ReadId),
    /// The leader's answer.
    ReadReply {
        /// The read.
        id: ReadId,
        /// Where it may be served; `None` if not.
        index: Option<Index>,
    },
    /// Prepare a ballot at once.
    TakeOver,
    /// You were removed.
    Removed,
}

/// Bytes that are no message of this version. Dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Multi-Paxos message could not be decoded")]
pub struct Malformed;

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(uint64, tag = "1")]
    ballot: u64,
    #[prost(oneof = "WireBody", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15")]
    body: Option<WireBody>,
}

#[derive(Clone, PartialEq, Oneof)]
enum WireBody {
    #[prost(bool, tag = "2")]
    Canvass(bool),
    #[prost(bool, tag = "3")]
    CanvassReply(bool),
    #[prost(message, tag = "4")]
    Prepare(WirePrepare),
    #[prost(message, tag = "5")]
    Promise(WirePromise),
    #[prost(bool, tag = "6")]
    Refused(bool),
    #[prost(bool, tag = "7")]
    Behind(bool),
    #[prost(message, tag = "8")]
    Accept(WireAccept),
    #[prost(message, tag = "9")]
    Accepted(WireAccepted),
    #[prost(message, tag = "10")]
    Beat(WireBeat),
    #[prost(message, tag = "11")]
    BeatReply(WireBeat),
    #[prost(uint64, tag = "12")]
    Read(u64),
    #[prost(message, tag = "13")]
    ReadReply(WireRead),
    #[prost(bool, tag = "14")]
    TakeOver(bool),
    #[prost(bool, tag = "15")]
    Removed(bool),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WirePrepare {
    #[prost(uint64, tag = "1")]
    from: u64,
    #[prost(uint64, tag = "2")]
    stop: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WirePromise {
    #[prost(uint64, tag = "1")]
    from: u64,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Placed>,
    #[prost(uint64, tag = "3")]
    next: u64,
    #[prost(uint64, tag = "4")]
    last: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireAccept {
    #[prost(uint64, tag = "1")]
    first: u64,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<WireEntry>,
    #[prost(uint64, tag = "3")]
    commit: u64,
    #[prost(uint64, tag = "4")]
    stop: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireAccepted {
    #[prost(uint64, tag = "1")]
    prefix: u64,
    #[prost(uint64, tag = "2")]
    first: u64,
    #[prost(uint64, tag = "3")]
    last: u64,
}

/// Of a leader `index` is the chosen prefix, of an acceptor its own, without a stop.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireBeat {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    round: u64,
    #[prost(uint64, tag = "3")]
    stop: u64,
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
        Wire { ballot: self.ballot.0, body: Some(wire(self.body)) }.encode_to_vec().into()
    }

    /// The message in these bytes; payloads are slices of them.
    ///
    /// # Errors
    /// [`Malformed`] if they are none.
    pub fn decode(payload: Bytes) -> Result<Self, Malformed> {
        let wire = Wire::decode(payload).map_err(|_| Malformed)?;
        let body = body(wire.body.ok_or(Malformed)?).ok_or(Malformed)?;
        Ok(Self { ballot: Epoch(wire.ballot), body })
    }
}

fn wire(body: Body) -> WireBody {
    match body {
        Body::Canvass => WireBody::Canvass(true),
        Body::CanvassReply { granted } => WireBody::CanvassReply(granted),
        Body::Prepare { from, stop } => WireBody::Prepare(WirePrepare { from: from.0, stop: stop.0 }),
        Body::Promise { from, entries, next, last } => WireBody::Promise(WirePromise {
            from: from.0,
            entries: placed_to_wire(entries),
            next: next.0,
            last: last.0,
        }),
        Body::Refused => WireBody::Refused(true),
        Body::Behind => WireBody::Behind(true),
        Body::Accept { entries, commit, stop } => WireBody::Accept(WireAccept {
            first: entries.first().map_or(1, |entry| entry.index.0),
            entries: to_wire(entries),
            commit: commit.0,
            stop: stop.0,
        }),
        Body::Accepted { prefix, first, last } => {
            WireBody::Accepted(WireAccepted { prefix: prefix.0, first: first.0, last: last.0 })
        }
        Body::Beat { commit, round, stop } => {
            WireBody::Beat(WireBeat { index: commit.0, round, stop: stop.0 })
        }
        Body::BeatReply { prefix, round } => {
            WireBody::BeatReply(WireBeat { index: prefix.0, round, stop: 0 })
        }
        Body::Read(id) => WireBody::Read(id.0),
        Body::ReadReply { id, index } => {
            WireBody::ReadReply(WireRead { id: id.0, index: index.map(|index| index.0) })
        }
        Body::TakeOver => WireBody::TakeOver(true),
        Body::Removed => WireBody::Removed(true),
    }
}

fn body(wire: WireBody) -> Option<Body> {
    Some(match wire {
        WireBody::Canvass(_) => Body::Canvass,
        WireBody::CanvassReply(granted) => Body::CanvassReply { granted },
        WireBody::Prepare(it) => Body::Prepare { from: Index(it.from), stop: Index(it.stop) },
        WireBody::Promise(promise) => Body::Promise {
            from: Index(promise.from),
            entries: placed_from_wire(promise.entries)?,
            next: Index(promise.next),
            last: Index(promise.last),
        },
        WireBody::Refused(_) => Body::Refused,
        WireBody::Behind(_) => Body::Behind,
        WireBody::Accept(accept) => Body::Accept {
            entries: from_wire(accept.first.checked_sub(1)?, accept.entries)?,
            commit: Index(accept.commit),
            stop: Index(accept.stop),
        },
        WireBody::Accepted(accepted) => Body::Accepted {
            prefix: Index(accepted.prefix),
            first: Index(accepted.first),
            last: Index(accepted.last),
        },
        WireBody::Beat(beat) => {
            Body::Beat { commit: Index(beat.index), round: beat.round, stop: Index(beat.stop) }
        }
        WireBody::BeatReply(beat) => Body::BeatReply { prefix: Index(beat.index), round: beat.round },
        WireBody::Read(id) => Body::Read(ReadId(id)),
        WireBody::ReadReply(read) => Body::ReadReply { id: ReadId(read.id), index: read.index.map(Index) },
        WireBody::TakeOver(_) => Body::TakeOver,
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
