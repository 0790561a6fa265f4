//! A few hundred worlds of each protocol, and that a seed is a seed.

use quorate_consensus::kind::ProtocolKind;
use quorate_sim::story::Story;
use quorate_sim::world::{Report, World};

fn run(protocol: ProtocolKind, seed: u64, voters: u64) -> Report {
    World::new(protocol, seed, voters, Story::Silent)
        .run(10_000)
        .unwrap_or_else(|error| panic!("{protocol}, seed {seed}, {voters} voters: {error}"))
}

fn three_hundred_worlds(protocol: ProtocolKind) {
    let mut total = Report::default();
    (1..=300).for_each(|seed| total.add(&run(protocol, seed, [3, 3, 5, 1][(seed % 4) as usize])));
    let crashes = total.faults.get("crash with loss and tearing of unsynced writes").copied().unwrap_or(0);
    assert!(total.acknowledged > 10_000, "clients got little done: {}", total.acknowledged);
    assert!(crashes > 500, "there was little danger: {crashes}");
}

#[test]
fn raft_holds_what_it_promises_in_three_hundred_worlds() {
    three_hundred_worlds(ProtocolKind::Raft);
}

#[test]
fn multi_paxos_holds_what_it_promises_in_three_hundred_worlds() {
    three_hundred_worlds(ProtocolKind::MultiPaxos);
}

#[test]
fn zab_holds_what_it_promises_in_three_hundred_worlds() {
    three_hundred_worlds(ProtocolKind::Zab);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for protocol in ProtocolKind::ALL {
        for seed in [3, 77, 1234] {
            assert_eq!(run(protocol, seed, 3).trace, run(protocol, seed, 3).trace);
        }
    }
}
