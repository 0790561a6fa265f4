//! The bytes of a membership, as they stand in the log and in snapshots.

use bytes::Bytes;
use prost::Message;

use super::{Member, Membership, Role};
use crate::id::{Index, MemberId};

/// Bytes that are no membership of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a membership could not be decoded")]
pub struct Malformed;

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(message, repeated, tag = "1")]
    members: Vec<WireMember>,
    #[prost(message, repeated, tag = "2")]
    outgoing: Vec<WireMember>,
    #[prost(fixed64, repeated, tag = "3")]
    removed: Vec<u64>,
    #[prost(uint64, tag = "4")]
    voters_since: u64,
    #[prost(uint64, tag = "5")]
    version: u64,
    #[prost(fixed64, repeated, tag = "6")]
    removed_witnesses: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct WireMember {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    client_urls: Vec<String>,
    #[prost(uint32, tag = "5")]
    role: u32,
    #[prost(string, tag = "6")]
    zone: String,
    #[prost(uint32, tag = "7")]
    leader_priority: u32,
}

impl Membership {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let wire = Wire {
            members: self.members.values().map(wire).collect(),
            outgoing: self.outgoing.values().map(wire).collect(),
            removed: self.removed.iter().map(|id| id.0).collect(),
            voters_since: self.voters_since.0,
            version: self.version,
            removed_witnesses: self.removed_witnesses.iter().map(|id| id.0).collect(),
        };
        wire.encode_to_vec().into()
    }

    /// The membership in these bytes.
    ///
    /// # Errors
    /// [`Malformed`] if they are none.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let wire = Wire::decode(payload).map_err(|_| Malformed)?;
        let members = |list: Vec<WireMember>| {
            list.into_iter().map(|wire| member(wire).map(|member| (member.id, member))).collect::<Option<_>>()
        };
        Ok(Self {
            members: members(wire.members).ok_or(Malformed)?,
            outgoing: members(wire.outgoing).ok_or(Malformed)?,
            removed: wire.removed.into_iter().map(MemberId).collect(),
            voters_since: Index(wire.voters_since),
            version: wire.version,
            removed_witnesses: wire.removed_witnesses.into_iter().map(MemberId).collect(),
        })
    }
}

fn wire(member: &Member) -> WireMember {
    WireMember {
        id: member.id.0,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        role: match member.role {
            Role::Voter => 1,
            Role::Learner => 2,
            Role::Witness => 3,
        },
        zone: member.zone.clone(),
        leader_priority: member.leader_priority,
    }
}

fn member(wire: WireMember) -> Option<Member> {
    let role = match wire.role {
        1 => Role::Voter,
        2 => Role::Learner,
        3 => Role::Witness,
        _ => return None,
    };
    Some(Member {
        id: MemberId(wire.id),
        name: wire.name,
        peer_urls: wire.peer_urls,
        client_urls: wire.client_urls,
        role,
        zone: wire.zone,
        leader_priority: wire.leader_priority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_membership_are_fixed() {
        let member = Member {
            id: MemberId(1),
            name: "a".into(),
            peer_urls: vec!["u".into()],
            client_urls: vec![],
            role: Role::Learner,
            zone: "z".into(),
            leader_priority: 2,
        };
        let mut membership = Membership::default();
        membership.members.insert(member.id, member.clone());
        membership.outgoing.insert(member.id, member);
        membership.removed.insert(MemberId(9));
        membership.removed_witnesses.insert(MemberId(8));
        (membership.voters_since, membership.version) = (Index(7), 3);
        let bytes = membership.encode();
        let one = b"\x09\x01\0\0\0\0\0\0\0\x12\x01a\x1a\x01u\x28\x02\x32\x01z\x38\x02";
        let mut golden = vec![0x0a, one.len() as u8];
        golden.extend(one);
        golden.extend([0x12, one.len() as u8]);
        golden.extend(one);
        golden.extend(b"\x1a\x08\x09\0\0\0\0\0\0\0\x20\x07\x28\x03");
        golden.extend(b"\x32\x08\x08\0\0\0\0\0\0\0");
        assert_eq!(bytes, golden);
        assert_eq!(Membership::decode(&bytes), Ok(membership));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            if let Ok(membership) = Membership::decode(&bytes) {
                assert_eq!(Membership::decode(&membership.encode()), Ok(membership));
            }
        }
    }
}
