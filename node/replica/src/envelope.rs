//! What the replicas of a group send each other: the protocol's messages, and requests on their way to the leader.
//!
//! The link may lose, repeat and reorder. A lost request times out at the client; one that is repeated or overtaken by a
//! later one of its member is not applied: see [`quorate_state::machine::Origin`].

use bytes::Bytes;
use prost::{Message, Oneof};

use quorate_consensus::effect::Refusal;
use quorate_consensus::id::{Index, MemberId};
use quorate_consensus::membership::{Member, Role};

use crate::change::MembershipChange;
use crate::event::RequestId;
use crate::output::Failure;

/// A peer message.
#[derive(Clone, Debug, PartialEq)]
pub enum Envelope {
    /// The protocol's own, opaque.
    Protocol(Bytes),
    /// An encoded command for the leader to propose; it is answered by being applied at its origin.
    Command(Bytes),
    /// A membership change for the leader to propose.
    Change(RequestId, MembershipChange),
    /// The leader did not take the request.
    Refused(RequestId, Failure),
    /// The leader's membership change was decided by the entry at this index.
    Changed(RequestId, Index),
    /// Renew a lease.
    KeepAlive(RequestId, i64),
    /// Tell the time a lease has left.
    TimeToLive(RequestId, i64),
    /// The leader's answer to the two above.
    Lease(RequestId, LeaseTimes),
    /// Hand leadership to this member.
    Transfer(Option<MemberId>),
    /// The leader asks for [`Self::Level`].
    TellLevel,
    /// The highest feature level that the sender understands.
    Level(u32),
}

/// A lease as its keeper sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// Seconds left; -1 if there is no such lease.
    pub ttl_s: i64,
    /// Seconds granted.
    pub granted_s: i64,
}

/// A payload that is no envelope of this version. Dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer message could not be decoded")]
pub struct Malformed;

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    body: Option<Body>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Body {
    #[prost(bytes = "bytes", tag = "1")]
    Protocol(Bytes),
    #[prost(bytes = "bytes", tag = "2")]
    Command(Bytes),
    #[prost(message, tag = "3")]
    Change(WireChange),
    #[prost(message, tag = "4")]
    Refused(WireRefused),
    #[prost(message, tag = "5")]
    Changed(WireChanged),
    #[prost(message, tag = "6")]
    KeepAlive(WireLease),
    #[prost(message, tag = "7")]
    TimeToLive(WireLease),
    #[prost(message, tag = "8")]
    Lease(WireLease),
    #[prost(uint64, tag = "9")]
    Transfer(u64),
    /// 0 asks.
    #[prost(uint32, tag = "10")]
    Level(u32),
}

#[derive(Clone, PartialEq, Message)]
struct WireLease {
    #[prost(uint64, tag = "1")]
    request: u64,
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(int64, tag = "3")]
    ttl_s: i64,
    #[prost(int64, tag = "4")]
    granted_s: i64,
}

#[derive(Clone, PartialEq, Message)]
struct WireChanged {
    #[prost(uint64, tag = "1")]
    request: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, PartialEq, Message)]
struct WireRefused {
    #[prost(uint64, tag = "1")]
    request: u64,
    #[prost(uint32, tag = "2")]
    failure: u32,
    #[prost(uint64, tag = "3")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct WireChange {
    #[prost(uint64, tag = "1")]
    request: u64,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(uint64, tag = "3")]
    id: u64,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, repeated, tag = "5")]
    peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    client_urls: Vec<String>,
    #[prost(uint32, tag = "7")]
    role: u32,
    #[prost(string, tag = "8")]
    zone: String,
    #[prost(uint32, tag = "9")]
    leader_priority: u32,
    #[prost(uint64, tag = "10")]
    replaces: u64,
}

impl Envelope {
    /// Its bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let body = match self {
            Self::Protocol(payload) => Body::Protocol(payload),
            Self::Command(payload) => Body::Command(payload),
            Self::Change(request, change) => Body::Change(wire_change(request, change)),
            Self::Refused(request, failure) => {
                let (failure, leader) = failure_code(failure);
                Body::Refused(WireRefused { request: request.0, failure, leader })
            }
            Self::Changed(request, index) => {
                Body::Changed(WireChanged { request: request.0, index: index.0 })
            }
            Self::KeepAlive(request, id) => Body::KeepAlive(wire_lease(request, id)),
            Self::TimeToLive(request, id) => Body::TimeToLive(wire_lease(request, id)),
            Self::Lease(request, times) => Body::Lease(WireLease {
                request: request.0,
                id: 0,
                ttl_s: times.ttl_s,
                granted_s: times.granted_s,
            }),
            Self::Transfer(to) => Body::Transfer(to.map_or(0, |id| id.0)),
            Self::TellLevel => Body::Level(0),
            Self::Level(level) => Body::Level(level),
        };
        Wire { body: Some(body) }.encode_to_vec().into()
    }

    /// The envelope in these bytes.
    ///
    /// # Errors
    /// [`Malformed`] if they are none.
    pub fn decode(payload: Bytes) -> Result<Self, Malformed> {
        let body = Wire::decode(payload).map_err(|_| Malformed)?.body.ok_or(Malformed)?;
        Ok(match body {
            Body::Protocol(payload) => Self::Protocol(payload),
            Body::Command(payload) => Self::Command(payload),
            Body::Change(wire) => Self::Change(RequestId(wire.request), change(wire)?),
            Body::Refused(wire) => {
                Self::Refused(RequestId(wire.request), failure(wire.failure, wire.leader).ok_or(Malformed)?)
            }
            Body::Changed(wire) => Self::Changed(RequestId(wire.request), Index(wire.index)),
            Body::KeepAlive(wire) => Self::KeepAlive(RequestId(wire.request), wire.id),
            Body::TimeToLive(wire) => Self::TimeToLive(RequestId(wire.request), wire.id),
            Body::Lease(wire) => Self::Lease(
                RequestId(wire.request),
                LeaseTimes { ttl_s: wire.ttl_s, granted_s: wire.granted_s },
            ),
            Body::Transfer(to) => Self::Transfer((to != 0).then_some(MemberId(to))),
            Body::Level(0) => Self::TellLevel,
            Body::Level(level) => Self::Level(level),
        })
    }
}

fn wire_lease(request: RequestId, id: i64) -> WireLease {
    WireLease { request: request.0, id, ttl_s: 0, granted_s: 0 }
}

fn wire_change(request: RequestId, change: MembershipChange) -> WireChange {
    let mut wire = WireChange { request: request.0, ..WireChange::default() };
    match change {
        MembershipChange::Add { member, replaces } => {
            wire.kind = 1;
            wire.id = member.id.0;
            wire.name = member.name;
            wire.peer_urls = member.peer_urls;
            wire.client_urls = member.client_urls;
            wire.role = role_code(member.role);
            wire.zone = member.zone;
            wire.leader_priority = member.leader_priority;
            wire.replaces = replaces.map_or(0, |id| id.0);
        }
        MembershipChange::Remove(id) => (wire.kind, wire.id) = (2, id.0),
        MembershipChange::Promote(id) => (wire.kind, wire.id) = (3, id.0),
        MembershipChange::UpdatePeerUrls(id, urls) => {
            (wire.kind, wire.id, wire.peer_urls) = (4, id.0, urls);
        }
        MembershipChange::Publish { id, name, client_urls, zone, leader_priority } => {
            (wire.kind, wire.id, wire.leader_priority) = (5, id.0, leader_priority);
            (wire.name, wire.client_urls, wire.zone) = (name, client_urls, zone);
        }
    }
    wire
}

fn change(wire: WireChange) -> Result<MembershipChange, Malformed> {
    let id = MemberId(wire.id);
    Ok(match wire.kind {
        1 => MembershipChange::Add {
            member: Member {
                id,
                name: wire.name,
                peer_urls: wire.peer_urls,
                client_urls: wire.client_urls,
                role: role(wire.role).ok_or(Malformed)?,
                zone: wire.zone,
                leader_priority: wire.leader_priority,
            },
            replaces: (wire.replaces != 0).then_some(MemberId(wire.replaces)),
        },
        2 => MembershipChange::Remove(id),
        3 => MembershipChange::Promote(id),
        4 => MembershipChange::UpdatePeerUrls(id, wire.peer_urls),
        5 => MembershipChange::Publish {
            id,
            name: wire.name,
            client_urls: wire.client_urls,
            zone: wire.zone,
            leader_priority: wire.leader_priority,
        },
        _ => return Err(Malformed),
    })
}

fn role_code(role: Role) -> u32 {
    match role {
        Role::Voter => 1,
        Role::Learner => 2,
        Role::Witness => 3,
    }
}

fn role(code: u32) -> Option<Role> {
    match code {
        1 => Some(Role::Voter),
        2 => Some(Role::Learner),
        3 => Some(Role::Witness),
        _ => None,
    }
}

fn failure_code(failure: Failure) -> (u32, u64) {
    let code = match failure {
        Failure::Refused(Refusal::NotLeader { leader }) => return (1, leader.map_or(0, |id| id.0)),
        Failure::Refused(Refusal::Transferring) => 2,
        Failure::Refused(Refusal::Overloaded) => 3,
        Failure::Refused(Refusal::ChangeInProgress) => 4,
        Failure::Refused(Refusal::InvalidChange) => 5,
        Failure::Refused(Refusal::LearnerNotReady) => 6,
        Failure::Refused(Refusal::Removed) => 7,
        Failure::NoLeader => 8,
        Failure::Timeout => 9,
        Failure::Lost => 10,
        Failure::Overloaded => 11,
        Failure::MemberNotFound => 12,
        Failure::MemberIdExists => 13,
        Failure::PeerUrlExists => 14,
        Failure::NotLearner => 15,
        Failure::Unhealthy => 16,
        Failure::Learner => 17,
        Failure::Witness => 18,
        Failure::NotMember => 19,
    };
    (code, 0)
}

fn failure(code: u32, leader: u64) -> Option<Failure> {
    Some(match code {
        1 => Failure::Refused(Refusal::NotLeader { leader: (leader != 0).then_some(MemberId(leader)) }),
        2 => Failure::Refused(Refusal::Transferring),
        3 => Failure::Refused(Refusal::Overloaded),
        4 => Failure::Refused(Refusal::ChangeInProgress),
        5 => Failure::Refused(Refusal::InvalidChange),
        6 => Failure::Refused(Refusal::LearnerNotReady),
        7 => Failure::Refused(Refusal::Removed),
        8 => Failure::NoLeader,
        9 => Failure::Timeout,
        10 => Failure::Lost,
        11 => Failure::Overloaded,
        12 => Failure::MemberNotFound,
        13 => Failure::MemberIdExists,
        14 => Failure::PeerUrlExists,
        15 => Failure::NotLearner,
        16 => Failure::Unhealthy,
        17 => Failure::Learner,
        18 => Failure::Witness,
        19 => Failure::NotMember,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_envelope_survives_its_encoding() {
        let member = Member {
            id: MemberId(9),
            name: "n".into(),
            peer_urls: vec!["http://p".into()],
            client_urls: vec!["http://c".into()],
            role: Role::Learner,
            zone: "z".into(),
            leader_priority: 3,
        };
        let request = RequestId(7);
        let times = LeaseTimes { ttl_s: -1, granted_s: 60 };
        let mut all = vec![
            Envelope::Protocol(Bytes::from_static(b"p")),
            Envelope::Command(Bytes::from_static(b"c")),
            Envelope::Change(request, MembershipChange::Add { member, replaces: Some(MemberId(4)) }),
            Envelope::Change(request, MembershipChange::Remove(MemberId(1))),
            Envelope::Change(request, MembershipChange::Promote(MemberId(1))),
            Envelope::Changed(request, Index(8)),
            Envelope::KeepAlive(request, 5),
            Envelope::TimeToLive(request, 5),
            Envelope::Lease(request, times),
            Envelope::Transfer(None),
            Envelope::Transfer(Some(MemberId(3))),
            Envelope::TellLevel,
            Envelope::Level(2),
        ];
        all.extend((1..=17).map(|code| Envelope::Refused(request, failure(code, 0).expect("a code"))));
        for envelope in all {
            assert_eq!(Envelope::decode(envelope.clone().encode()), Ok(envelope));
        }
        assert_eq!(Envelope::decode(Bytes::from_static(b"\xff")), Err(Malformed));
    }
}
