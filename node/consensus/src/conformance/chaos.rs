//! Everything at once: loss, repetition, reordering, cuts, crashes that lose or keep unsynced writes, changes, snapshots.

use super::world::World;
use crate::kind::ProtocolKind;

fn chaos(kind: ProtocolKind) {
    let (mut reads_served, mut snapshots_installed) = (0, 0);
    for seed in 1..=300 {
        let mut world = World::new(kind, seed * 7919, 3, 2);
        world.chaos(600);
        let before = world.committed.len();
        world.heal_until(&format!("seed {seed}"), |world| {
            if let Some(leader) = world.leader() {
                world.propose(leader);
            }
            world.committed.len() > before + 20
        });
        reads_served += world.reads_served;
        snapshots_installed += world.snapshots_installed;
    }
    assert!(reads_served > 1_000, "reads were hardly exercised: {reads_served}");
    assert!(snapshots_installed > 50, "snapshots were hardly exercised: {snapshots_installed}");
}

#[test]
fn raft_keeps_the_invariants_and_healing_brings_progress() {
    chaos(ProtocolKind::Raft);
}

#[test]
fn multi_paxos_keeps_the_invariants_and_healing_brings_progress() {
    chaos(ProtocolKind::MultiPaxos);
}

#[test]
fn zab_keeps_the_invariants_and_healing_brings_progress() {
    chaos(ProtocolKind::Zab);
}
