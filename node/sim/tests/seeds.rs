//! A few hundred worlds, and that a seed is a seed.

use quorate_sim::world::World;

/// Voters by seed, and simulated time under faults.
fn run(seed: u64, voters: u64) -> quorate_sim::world::Report {
    World::new(seed, voters, false)
        .run(10_000)
        .unwrap_or_else(|error| panic!("seed {seed}, {voters} voters: {error}"))
}

#[test]
fn three_hundred_worlds_hold_what_they_promise() {
    let (mut acknowledged, mut crashes) = (0, 0);
    for seed in 1..=300 {
        let report = run(seed, [3, 3, 5, 1][(seed % 4) as usize]);
        acknowledged += report.acknowledged;
        crashes += report.faults.get("crash with loss and tearing of unsynced writes").copied().unwrap_or(0);
    }
    assert!(acknowledged > 10_000, "clients got little done: {acknowledged}");
    assert!(crashes > 500, "there was little danger: {crashes}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 77, 1234] {
        assert_eq!(run(seed, 3).trace, run(seed, 3).trace);
    }
}
