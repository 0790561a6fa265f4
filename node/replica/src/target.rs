//! From a change and the present membership to the membership that is wanted. Pure.

use quorate_consensus::id::MemberId;
use quorate_consensus::membership::{Membership, Role};

use crate::change::MembershipChange;
use crate::mutants::mutant;
use crate::output::Failure;

/// The membership after `change`. Changes that are already so give the same membership.
///
/// # Errors
/// What forbids it, as etcd answers (`server/etcdserver/api/membership/cluster.go`).
pub fn target(present: &Membership, change: &MembershipChange) -> Result<Membership, Failure> {
    let mut wanted = present.clone();
    match change {
        MembershipChange::Add { member, replaces } => {
            if present.members.contains_key(&member.id) || present.removed.contains(&member.id) {
                return Err(Failure::MemberIdExists);
            }
            if let Some(replaced) = replaces
                && !present.members.contains_key(replaced)
            {
                return Err(Failure::MemberNotFound);
            }
            if url_taken(present, &member.peer_urls, *replaces) {
                return Err(Failure::PeerUrlExists);
            }
            wanted.members.insert(member.id, member.clone());
        }
        MembershipChange::Remove(id) => {
            if present.removed.contains(id) {
                return Ok(wanted);
            }
            wanted.members.remove(id).ok_or(Failure::MemberNotFound)?;
            wanted.removed.insert(*id);
        }
        MembershipChange::Promote(id) => {
            let member = wanted.members.get_mut(id).ok_or(Failure::MemberNotFound)?;
            if member.role != Role::Learner {
                return Err(Failure::NotLearner);
            }
            member.role = Role::Voter;
            let urls = member.peer_urls.clone();
            remove_replaced(&mut wanted, *id, &urls);
        }
        MembershipChange::UpdatePeerUrls(id, urls) => {
            if url_taken(present, urls, Some(*id)) {
                return Err(Failure::PeerUrlExists);
            }
            let member = wanted.members.get_mut(id).ok_or(Failure::MemberNotFound)?;
            member.peer_urls.clone_from(urls);
            if mutant!(UpdatePromotesLearner) {
                member.role = Role::Voter;
            }
        }
        MembershipChange::Publish { id, name, client_urls, zone, leader_priority } => {
            let member = wanted.members.get_mut(id).ok_or(Failure::MemberNotFound)?;
            member.name.clone_from(name);
            member.client_urls.clone_from(client_urls);
            member.zone.clone_from(zone);
            member.leader_priority = *leader_priority;
        }
    }
    Ok(wanted)
}

/// A member that was added to replace another one shares its peer URLs; the lost one leaves in the same step.
fn remove_replaced(wanted: &mut Membership, promoted: MemberId, urls: &[String]) {
    let replaced: Vec<MemberId> = wanted
        .members
        .values()
        .filter(|member| member.id != promoted && member.peer_urls.iter().any(|url| urls.contains(url)))
        .map(|member| member.id)
        .collect();
    for id in replaced {
        wanted.members.remove(&id);
        wanted.removed.insert(id);
    }
}

fn url_taken(present: &Membership, urls: &[String], except: Option<MemberId>) -> bool {
    present
        .members
        .values()
        .filter(|member| Some(member.id) != except)
        .any(|member| member.peer_urls.iter().any(|url| urls.contains(url)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_consensus::membership::Member;

    fn member(id: u64, url: &str, role: Role) -> Member {
        Member {
            id: MemberId(id),
            name: format!("m{id}"),
            peer_urls: vec![url.into()],
            client_urls: vec![],
            role,
            zone: String::new(),
            leader_priority: 0,
        }
    }

    fn three() -> Membership {
        let members = (1..=3).map(|id| (MemberId(id), member(id, &format!("u{id}"), Role::Voter)));
        Membership { members: members.collect(), ..Membership::default() }
    }

    #[test]
    fn a_replacement_shares_urls_and_takes_the_place_when_promoted() {
        let newcomer = member(4, "u3", Role::Learner);
        let plain = MembershipChange::Add { member: newcomer.clone(), replaces: None };
        assert_eq!(target(&three(), &plain), Err(Failure::PeerUrlExists));
        let replacing = MembershipChange::Add { member: newcomer, replaces: Some(MemberId(3)) };
        let four = target(&three(), &replacing).unwrap();
        let after = target(&four, &MembershipChange::Promote(MemberId(4))).unwrap();
        assert_eq!(after.members.keys().copied().collect::<Vec<_>>(), [1, 2, 4].map(MemberId));
        assert!(after.removed.contains(&MemberId(3)));
    }

    #[test]
    fn an_id_is_never_used_twice_and_removal_repeats_harmlessly() {
        let removed = target(&three(), &MembershipChange::Remove(MemberId(2))).unwrap();
        assert_eq!(target(&removed, &MembershipChange::Remove(MemberId(2))), Ok(removed.clone()));
        let again = MembershipChange::Add { member: member(2, "new", Role::Learner), replaces: None };
        assert_eq!(target(&removed, &again), Err(Failure::MemberIdExists));
        assert_eq!(target(&three(), &MembershipChange::Promote(MemberId(1))), Err(Failure::NotLearner));
    }
}
