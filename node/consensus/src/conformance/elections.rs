//! Who leads, and how soon.

use super::world::World;
use crate::id::{MemberId, Time};
use crate::input::Input;
use crate::kind::ProtocolKind;
use crate::protocol::Part;

#[test]
fn a_single_voter_leads_at_once() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 1, 1, 0);
        for _ in 0..6 {
            world.tick_all();
            world.sync(MemberId(1));
        }
        assert_eq!(world.leader(), Some(MemberId(1)), "{kind}");
        assert_eq!(world.now, Time(0));
    }
}

#[test]
fn followers_of_a_leader_whose_process_ended_do_not_wait_a_timeout() {
    for kind in ProtocolKind::ALL {
        for seed in 1..50 {
            let mut world = World::new(kind, seed, 3, 0);
            let leader = world.heal_until_all_follow();
            world.crash(leader);
            let began = world.now;
            for peer in world.ids() {
                world.step(peer, Input::Unreachable { peer: leader, reset: true });
            }
            while world.leader().is_none() {
                assert!(world.now.since_ms(began) < 500, "{kind}, seed {seed}: no leader within 500 ms");
                world.pass(5);
            }
        }
    }
}

#[test]
fn a_zab_leader_calls_a_member_that_does_not_know_of_it() {
    let mut world = World::new(ProtocolKind::Zab, 1, 3, 0);
    let leader = world.heal_until_all_follow();
    let id = world.ids().into_iter().find(|id| *id != leader).expect("there are three");
    world.crash(id);
    world.start(id);
    // What it asks never reaches the leader, as if it came from a membership without it.
    world.blocked.insert((id, leader));
    let part = |world: &World| world.nodes[&id].protocol.as_ref().map(|protocol| protocol.status().part);
    let began = world.now;
    while part(&world) != Some(Part::Follower) {
        assert!(world.now.since_ms(began) < 900, "nobody told {id} that {leader} leads");
        world.pass(10);
    }
}
