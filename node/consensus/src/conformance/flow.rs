//! Flow control: what a leader has under way is bounded, whoever is silent.

use super::world::World;
use crate::config::Config;
use crate::effect::Refusal;
use crate::id::MemberId;
use crate::kind::ProtocolKind;

#[test]
fn a_silent_follower_is_sent_so_many_messages_and_no_more() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 3, 3, 0);
        let leader = world.heal_until_all_follow();
        // Everybody is in the pipeline.
        world.propose(leader);
        world.pass_for(1_000);
        world.network.clear();
        for _ in 0..2_000 {
            world.propose(leader);
        }
        let mut sent = [0; 4];
        world.network.iter().for_each(|(_, to, _)| sent[to.0 as usize] += 1);
        for id in world.ids().into_iter().filter(|id| *id != leader) {
            assert_eq!(sent[id.0 as usize], 512, "{kind}: {sent:?}");
        }
        // When it answers it gets the rest.
        let before = world.committed.len();
        world.until("everything is decided", |world| world.committed.len() >= before + 2_000);
    }
}

#[test]
fn a_leader_without_answers_refuses_what_it_would_have_to_keep() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 3, 3, 0);
        let leader = world.heal_until_all_follow();
        world.pass_for(1_000);
        world.refused.clear();
        let config = Config::new(MemberId(1), 1);
        let megabyte = "x".repeat(1 << 20);
        for _ in 0..70 {
            world.propose_values(leader, vec![megabyte.clone()]);
        }
        let wait = config.uncommitted_bytes_max >> 20;
        assert_eq!(world.refused, vec![Refusal::Overloaded; 70 - wait], "{kind}: {wait} MiB wait, no more");
        // Sent is what may be under way to each, and what was begun before that was full.
        let bytes = |to: MemberId| {
            let to_it = world.network.iter().filter(|(_, it, _)| *it == to);
            to_it.map(|(_, _, payload)| payload.len()).sum::<usize>()
        };
        for id in world.ids().into_iter().filter(|id| *id != leader) {
            let (sent, full) = (bytes(id), config.inflight_bytes_max);
            assert!((full - (1 << 20)..full + (2 << 20)).contains(&sent), "{kind}: {sent} bytes");
        }
    }
}
