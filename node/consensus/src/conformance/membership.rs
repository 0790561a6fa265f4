//! Changes of the membership.

use super::world::{World, member};
use crate::effect::Refusal;
use crate::id::{Index, MemberId};
use crate::kind::ProtocolKind;
use crate::membership::{Member, Membership, Role};

#[test]
fn five_replace_three_at_once_and_the_removed_are_told() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 3, 3, 2);
        world.heal_until("a leader", |world| world.leader().is_some());
        world.change(|membership| {
            membership.members.insert(MemberId(4), member(4));
            membership.members.insert(MemberId(5), member(5));
            membership.members.remove(&MemberId(1));
            membership.removed.insert(MemberId(1));
        });
        world.heal_until("the change", |world| {
            let settled = |id: u64| {
                world.nodes[&MemberId(id)].protocol.as_ref().is_some_and(|protocol| {
                    !protocol.membership().is_joint()
                        && protocol.membership().members.len() == 4
                        && protocol.status().commit >= Index(2)
                })
            };
            (2..=5).all(settled)
        });
        world.heal_until("the removed one is told", |world| world.nodes[&MemberId(1)].removed);
        let before = world.committed.len();
        world.heal_until("the new voters decide", |world| {
            if let Some(leader) = world.leader() {
                world.propose(leader);
            }
            world.committed.len() > before + 20
        });
    }
}

fn take_the_place(membership: &mut Membership, newcomer: MemberId, lost: MemberId) {
    membership.members.get_mut(&newcomer).expect("a learner").role = Role::Voter;
    membership.members.remove(&lost);
    membership.removed.insert(lost);
}

#[test]
fn a_learner_takes_a_lost_voters_place_in_one_change() {
    for kind in ProtocolKind::ALL {
        for seed in 1..6 {
            let mut world = World::new(kind, seed, 3, 1);
            let newcomer = MemberId(4);
            world.crash(newcomer);
            world.until("a leader", |world| world.leader().is_some());
            world.pass_for(1_000);
            let leader = world.leader().expect("just found");
            let lost = world.ids().into_iter().find(|id| *id != leader).expect("a follower");
            world.crash(lost);
            let learner = Member { role: Role::Learner, ..member(newcomer.0) };
            world.change(|membership| drop(membership.members.insert(newcomer, learner)));
            world.until("the learner is known", |world| {
                world.nodes[&leader].applied_membership.members.len() == 4
            });
            // It has not caught up: it does not even run.
            world.pass_for(2_000);
            world.refused.clear();
            world.change(|membership| take_the_place(membership, newcomer, lost));
            assert_eq!(world.refused.pop(), Some(Refusal::LearnerNotReady), "{kind}, seed {seed}");
            world.start(newcomer);
            world.until("it takes the place", |world| {
                let leader = world.leader().map(|leader| world.nodes[&leader].applied_membership.clone());
                let Some(membership) = leader else { return false };
                assert!(membership.voters().len() == 3, "{kind}, seed {seed}: never four voters");
                if membership.voters().contains(&lost) && world.now.0 % 100 == 0 {
                    world.change(|membership| take_the_place(membership, newcomer, lost));
                }
                membership.voters().contains(&newcomer) && !membership.is_joint()
            });
            // Of the three voters the newcomer and one more decide.
            let third = world.ids().into_iter().find(|id| ![leader, lost, newcomer].contains(id));
            world.crash(third.expect("a third"));
            let before = world.committed.len();
            world.until("two of three decide", |world| {
                world.propose_to_leader();
                world.committed.len() > before + 20
            });
        }
    }
}
