//! Members whose place in the log is gone.

use super::world::World;
use crate::id::Index;
use crate::kind::ProtocolKind;

#[test]
fn a_member_whose_place_is_gone_gets_a_snapshot_and_then_the_log() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 11, 3, 0);
        let leader = world.heal_until_all_follow();
        let away = world.ids().into_iter().find(|id| *id != leader).expect("three members");
        world.crash(away);
        for _ in 0..50 {
            world.propose(leader);
            world.pass(10);
        }
        world.ids().into_iter().for_each(|id| world.compact(id));
        world.heal_until("it catches up", |world| {
            world.propose_to_leader();
            let newest = world.committed.last_key_value().map_or(Index(0), |(index, _)| *index);
            world.nodes[&away].commit.0 + 2 >= newest.0
        });
        assert!(world.snapshots_installed > 0, "{kind}");
    }
}
