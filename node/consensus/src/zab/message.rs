//! Zab's messages and their bytes.

use bytes::Bytes;
use prost::{Message as _, Oneof};

use crate::entry::Entry;
use crate::id::{Epoch, Index, MemberId, ReadId};
use crate::wire::{WireEntry, from_wire, to_wire};

/// An entry's name: the epoch it was proposed in, and its position. Ordered by epoch first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid {
    /// The epoch.
    pub epoch: Epoch,
    /// The position in the log.
    pub index: Index,
}

/// What speaks for a candidate, best last: current epoch, last entry, priority, and its id to tell equals apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// Its current epoch.
    pub current: Epoch,
    /// Its last entry.
    pub last: Zxid,
    /// The higher, the rather it leads.
    pub priority: u32,
    /// The candidate.
    pub leader: MemberId,
}

/// What a member does, as it tells others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Looks for a leader.
    Looking,
    /// Follows one.
    Following,
    /// Leads, or is about to.
    Leading,
}

/// A vote on its way, or where the sender stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// The sender's round of elections.
    pub round: u64,
    /// What it does.
    pub state: State,
    /// Whom it votes for.
    pub vote: Option<Vote>,
}

/// One message with the epoch that its sender has accepted. See the table in [`crate::zab`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's accepted epoch.
    pub epoch: Epoch,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Phase 0.
    Notification(Notification),
    /// CEPOCH: the epoch of the message is the one accepted.
    FollowerInfo,
    /// NEWEPOCH: the epoch of the message is the new one.
    LeaderInfo,
    /// ACK-E.
    AckEpoch {
        /// The sender's current epoch.
        current: Epoch,
        /// Its last entry.
        last: Zxid,
        /// The epoch was accepted from this leader, not from another one with the same number.
        counts: bool,
    },
    /// TRUNC: drop what is behind this entry, or tell where you meet this history.
    Truncate {
        /// The entry.
        to: Zxid,
    },
    /// The sender's newest entry that may be in the leader's history.
    History {
        /// The entry.
        last: Zxid,
    },
    /// Entries behind `previous`.
    Propose {
        /// The entry before the first one.
        previous: Zxid,
        /// The entries.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
    },
    /// NEWLEADER: make the epoch current when you have everything up to this entry.
    NewLeader {
        /// The entry.
        last: Zxid,
    },
    /// ACK-LD.
    AckNewLeader {
        /// The sender's last entry; its log is a part of the leader's.
        matched: Index,
    },
    /// COMMIT-LD, UPTODATE.
    UpToDate {
        /// The leader's commit index.
        commit: Index,
    },
    /// Everything up to here is on the sender's disk and as in the leader's log.
    Ack {
        /// The last index that matches.
        matched: Index,
        /// The epoch is current there. Before, the log may still be cut, and the acknowledgement is for flow control only.
        current: bool,
    },
    /// The leader lives.
    Ping {
        /// Its commit index.
        commit: Index,
        /// The newest round of reads.
        round: u64,
    },
    /// The sender still follows.
    Pong {
        /// The round.
        round: u64,
        /// As in `Ack`.
        matched: Index,
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
    /// The leader goes: elect another one, rather this.
    Abdicate {
        /// Who has everything.
        successor: MemberId,
    },
    /// You were removed.
    Removed,
}

/// Bytes that are no message of this version. Dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Zab message could not be decoded")]
pub struct Malformed;

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(oneof = "WireBody", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18")]
    body: Option<WireBody>,
}

#[derive(Clone, PartialEq, Oneof)]
enum WireBody {
    #[prost(message, tag = "2")]
    Notification(WireNotification),
    #[prost(bool, tag = "3")]
    FollowerInfo(bool),
    #[prost(bool, tag = "4")]
    LeaderInfo(bool),
    #[prost(message, tag = "5")]
    AckEpoch(WireAckEpoch),
    #[prost(message, tag = "6")]
    Truncate(WireZxid),
    #[prost(message, tag = "7")]
    History(WireZxid),
    #[prost(message, tag = "8")]
    Propose(WirePropose),
    #[prost(message, tag = "9")]
    NewLeader(WireZxid),
    #[prost(uint64, tag = "10")]
    AckNewLeader(u64),
    #[prost(uint64, tag = "11")]
    UpToDate(u64),
    #[prost(message, tag = "12")]
    Ack(WireAck),
    #[prost(message, tag = "13")]
    Ping(WirePing),
    #[prost(message, tag = "14")]
    Pong(WirePing),
    #[prost(uint64, tag = "15")]
    Read(u64),
    #[prost(message, tag = "16")]
    ReadReply(WireRead),
    #[prost(uint64, tag = "17")]
    Abdicate(u64),
    #[prost(bool, tag = "18")]
    Removed(bool),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireZxid {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireVote {
    #[prost(uint64, tag = "1")]
    current: u64,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(uint32, tag = "4")]
    priority: u32,
    #[prost(uint64, tag = "5")]
    leader: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireNotification {
    #[prost(uint64, tag = "1")]
    round: u64,
    /// 1 looking, 2 following, 3 leading.
    #[prost(uint32, tag = "2")]
    state: u32,
    #[prost(message, optional, tag = "3")]
    vote: Option<WireVote>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireAckEpoch {
    #[prost(uint64, tag = "1")]
    current: u64,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(bool, tag = "4")]
    counts: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WirePropose {
    #[prost(uint64, tag = "1")]
    previous: u64,
    #[prost(uint64, tag = "2")]
    previous_epoch: u64,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<WireEntry>,
    #[prost(uint64, tag = "4")]
    commit: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireAck {
    #[prost(uint64, tag = "1")]
    matched: u64,
    #[prost(bool, tag = "2")]
    current: bool,
}

/// Of a leader `index` is the commit index, of a follower what matches.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WirePing {
    #[prost(uint64, tag = "1")]
    index: u64,
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
        Wire { epoch: self.epoch.0, body: Some(wire(self.body)) }.encode_to_vec().into()
    }

    /// The message in these bytes; payloads are slices of them.
    ///
    /// # Errors
    /// [`Malformed`] if they are none.
    pub fn decode(payload: Bytes) -> Result<Self, Malformed> {
        let wire = Wire::decode(payload).map_err(|_| Malformed)?;
        let body = body(wire.body.ok_or(Malformed)?).ok_or(Malformed)?;
        Ok(Self { epoch: Epoch(wire.epoch), body })
    }
}

fn wire(body: Body) -> WireBody {
    match body {
        Body::Notification(notification) => WireBody::Notification(wire_notification(notification)),
        Body::FollowerInfo => WireBody::FollowerInfo(true),
        Body::LeaderInfo => WireBody::LeaderInfo(true),
        Body::AckEpoch { current, last, counts } => WireBody::AckEpoch(WireAckEpoch {
            current: current.0,
            epoch: last.epoch.0,
            index: last.index.0,
            counts,
        }),
        Body::Truncate { to } => WireBody::Truncate(wire_zxid(to)),
        Body::History { last } => WireBody::History(wire_zxid(last)),
        Body::Propose { previous, entries, commit } => WireBody::Propose(WirePropose {
            previous: previous.index.0,
            previous_epoch: previous.epoch.0,
            entries: to_wire(entries),
            commit: commit.0,
        }),
        Body::NewLeader { last } => WireBody::NewLeader(wire_zxid(last)),
        Body::AckNewLeader { matched } => WireBody::AckNewLeader(matched.0),
        Body::UpToDate { commit } => WireBody::UpToDate(commit.0),
        Body::Ack { matched, current } => WireBody::Ack(WireAck { matched: matched.0, current }),
        Body::Ping { commit, round } => WireBody::Ping(WirePing { index: commit.0, round }),
        Body::Pong { round, matched } => WireBody::Pong(WirePing { index: matched.0, round }),
        Body::Read(id) => WireBody::Read(id.0),
        Body::ReadReply { id, index } => {
            WireBody::ReadReply(WireRead { id: id.0, index: index.map(|index| index.0) })
        }
        Body::Abdicate { successor } => WireBody::Abdicate(successor.0),
        Body::Removed => WireBody::Removed(true),
    }
}

fn wire_zxid(zxid: Zxid) -> WireZxid {
    WireZxid { epoch: zxid.epoch.0, index: zxid.index.0 }
}

fn wire_notification(Notification { round, state, vote }: Notification) -> WireNotification {
    let state = match state {
        State::Looking => 1,
        State::Following => 2,
        State::Leading => 3,
    };
    let vote = vote.map(|Vote { current, last, priority, leader }| WireVote {
        current: current.0,
        epoch: last.epoch.0,
        index: last.index.0,
        priority,
        leader: leader.0,
    });
    WireNotification { round, state, vote }
}

fn body(wire: WireBody) -> Option<Body> {
    Some(match wire {
        WireBody::Notification(wire) => Body::Notification(notification(wire)?),
        WireBody::FollowerInfo(_) => Body::FollowerInfo,
        WireBody::LeaderInfo(_) => Body::LeaderInfo,
        WireBody::AckEpoch(WireAckEpoch { current, epoch, index, counts }) => {
            Body::AckEpoch { current: Epoch(current), last: zxid(WireZxid { epoch, index }), counts }
        }
        WireBody::Truncate(to) => Body::Truncate { to: zxid(to) },
        WireBody::History(last) => Body::History { last: zxid(last) },
        WireBody::Propose(propose) => Body::Propose {
            previous: zxid(WireZxid { epoch: propose.previous_epoch, index: propose.previous }),
            entries: from_wire(propose.previous, propose.entries)?,
            commit: Index(propose.commit),
        },
        WireBody::NewLeader(last) => Body::NewLeader { last: zxid(last) },
        WireBody::AckNewLeader(matched) => Body::AckNewLeader { matched: Index(matched) },
        WireBody::UpToDate(commit) => Body::UpToDate { commit: Index(commit) },
        WireBody::Ack(ack) => Body::Ack { matched: Index(ack.matched), current: ack.current },
        WireBody::Ping(ping) => Body::Ping { commit: Index(ping.index), round: ping.round },
        WireBody::Pong(pong) => Body::Pong { round: pong.round, matched: Index(pong.index) },
        WireBody::Read(id) => Body::Read(ReadId(id)),
        WireBody::ReadReply(read) => Body::ReadReply { id: ReadId(read.id), index: read.index.map(Index) },
        WireBody::Abdicate(successor) => Body::Abdicate { successor: MemberId(successor) },
        WireBody::Removed(_) => Body::Removed,
    })
}

fn zxid(wire: WireZxid) -> Zxid {
    Zxid { epoch: Epoch(wire.epoch), index: Index(wire.index) }
}

fn notification(WireNotification { round, state, vote }: WireNotification) -> Option<Notification> {
    let state = match state {
        1 => State::Looking,
        2 => State::Following,
        3 => State::Leading,
        _ => return None,
    };
    let vote = vote.map(|WireVote { current, epoch, index, priority, leader }| Vote {
        current: Epoch(current),
        last: zxid(WireZxid { epoch, index }),
        priority,
        leader: MemberId(leader),
    });
    Some(Notification { round, state, vote })
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
