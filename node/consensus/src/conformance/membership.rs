//! Changes of the membership.

use super::world::{World, member};
use crate::id::{Index, MemberId};
use crate::kind::ProtocolKind;

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
