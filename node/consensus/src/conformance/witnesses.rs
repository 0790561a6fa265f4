//! Witnesses: they vote and keep headers, hold no data, and never lead. `World` checks the last two in every step.

use super::world::{World, member};
use crate::effect::Refusal;
use crate::id::MemberId;
use crate::kind::ProtocolKind;
use crate::membership::{Member, Role};

fn with_witnesses(kind: ProtocolKind, seed: u64, voters: u64, witnesses: u64) -> World {
    World::with(kind, seed, [voters, witnesses, 0], 1 << 20)
}

fn cut_off(world: &mut World, id: MemberId) {
    let ids = world.ids();
    world.blocked.extend(ids.into_iter().flat_map(|other| [(id, other), (other, id)]));
}

#[test]
fn one_data_member_and_a_witness_decide() {
    for kind in ProtocolKind::ALL {
        for seed in 1..10 {
            let mut world = with_witnesses(kind, seed, 2, 1);
            let leader = world.heal_until_all_follow();
            let other = MemberId(3 - leader.0);
            // Everybody is in sync, not only a quorum.
            world.pass_for(1_000);
            world.crash(other);
            let before = world.committed.len();
            for _ in 0..100 {
                world.propose_to_leader();
                world.pass(10);
            }
            // What arrived out of order comes again.
            world.pass_for(1_000);
            assert!(world.committed.len() >= before + 90, "{kind}, seed {seed}");
            // And the other one catches up.
            let newest = world.committed.len() as u64;
            world.heal_until("it catches up", |world| world.nodes[&other].commit.0 >= newest);
        }
    }
}

#[test]
fn a_data_member_that_lacks_decided_entries_never_leads_with_a_witness() {
    for kind in ProtocolKind::ALL {
        for seed in 1..10 {
            let mut world = with_witnesses(kind, seed, 2, 1);
            let leader = world.heal_until_all_follow();
            let stale = MemberId(3 - leader.0);
            cut_off(&mut world, stale);
            for _ in 0..20 {
                world.propose_to_leader();
                world.pass(10);
            }
            world.crash(leader);
            world.blocked.clear();
            for _ in 0..2_000 {
                world.pass(10);
                let led = world.statuses().into_iter().any(|status| status.established);
                assert!(!led, "{kind}, seed {seed}: decided entries are on the member that is down only");
            }
            let newest = world.committed.len() as u64;
            world.heal_until("the one that has them is back", |world| world.nodes[&stale].commit.0 >= newest);
        }
    }
}

#[test]
fn two_witnesses_among_five_lose_nothing_and_stop_nothing() {
    for kind in ProtocolKind::ALL {
        for seed in 1..=100 {
            let mut world = with_witnesses(kind, seed * 7907, 3, 2);
            world.chaos(600);
            let before = world.committed.len();
            world.heal_until(&format!("{kind}, seed {seed}"), |world| {
                world.propose_to_leader();
                world.committed.len() > before + 20
            });
        }
    }
}

#[test]
fn there_are_more_data_members_than_witnesses_and_roles_stay() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 1, 3, 2);
        world.heal_until("a leader", |world| world.leader().is_some());
        let witness = |id| (MemberId(id), Member { role: Role::Witness, ..member(id) });
        world.change(|membership| membership.members.extend([witness(4), witness(5)]));
        world.heal_until("the witnesses take part", |world| {
            world.nodes.values().all(|node| {
                let protocol = node.protocol.as_ref().expect("all run");
                protocol.membership().members.len() == 5 && !protocol.membership().is_joint()
            })
        });
        world.pass_for(1_000);
        let one_of_three_goes = |membership: &mut crate::membership::Membership| {
            membership.members.remove(&MemberId(1));
            membership.removed.insert(MemberId(1));
        };
        world.change(one_of_three_goes);
        assert_eq!(world.refused.pop(), Some(Refusal::InvalidChange), "{kind}: as many witnesses as others");
        world.change(|membership| {
            membership.members.get_mut(&MemberId(4)).expect("a member").role = Role::Voter;
        });
        assert_eq!(
            world.refused.pop(),
            Some(Refusal::InvalidChange),
            "{kind}: a witness has no data to vote with"
        );
    }
}
