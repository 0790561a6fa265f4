//! A few hundred worlds of each protocol, and that a seed is a seed.

use std::collections::BTreeSet;

use quorate_consensus::kind::ProtocolKind;
use quorate_sim::directed::{self, Scene};
use quorate_sim::schedule;
use quorate_sim::story::Story;
use quorate_sim::world::{Report, World, sometimes};

fn run(protocol: ProtocolKind, seed: u64) -> Report {
    World::of_seed(protocol, seed, Story::Silent)
        .run(8_000)
        .unwrap_or_else(|error| panic!("{protocol}, seed {seed}: {error}"))
}

fn three_hundred_worlds(protocol: ProtocolKind) {
    let mut total = Report::default();
    (1..=300).for_each(|seed| total.add(&run(protocol, seed)));
    let crashes = total.faults.get("power loss").copied().unwrap_or(0);
    assert!(total.acknowledged > 10_000, "clients got little done: {}", total.acknowledged);
    let faults: u64 = total.faults.values().sum();
    assert!(crashes > 300 && faults > 4_000, "there was little danger: {crashes} of {faults}");
    let met: BTreeSet<&str> = total.faults.keys().copied().collect();
    let own = [schedule::CRASH_IN_SYNC, schedule::UPGRADED, schedule::TAKEN_BACK];
    assert_eq!(met, schedule::DRAWN.into_iter().chain(own).collect(), "classes of faults");
    assert!(total.overlapping >= 5, "no more than {} faults at once", total.overlapping);
    let searches = total.searched + total.gave_up;
    assert!(20 * total.gave_up <= searches, "{} of {searches} searches gave up", total.gave_up);
    let wanted = sometimes::COMMON.iter().chain(sometimes::of(protocol));
    let missed: Vec<_> = wanted.filter(|what| !total.reached.contains_key(*what)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}; reached {:?}", total.reached);
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
fn witnesses_stop_nothing_and_lose_nothing() {
    for protocol in ProtocolKind::ALL {
        for seed in 1..=60 {
            let (voters, witnesses) = [(3, 1), (5, 2)][(seed % 2) as usize];
            World::with_witnesses(protocol, seed, voters, witnesses, Story::Silent)
                .run(10_000)
                .unwrap_or_else(|error| panic!("{protocol}, seed {seed}, {witnesses} of {voters}: {error}"));
        }
    }
}

/// Seeds that once failed, with what went wrong. A seed's meaning changes with the simulator; the story stays.
const REGRESSIONS: [(ProtocolKind, u64, &str); 13] = [
    (
        ProtocolKind::Zab,
        6161,
        "a leader counted its own copies before its epoch was current on its disk; an election then ignored them",
    ),
    (
        ProtocolKind::Zab,
        20568,
        "the same, seen as a follower that could not drop what it had wrongly taken for committed",
    ),
    (ProtocolKind::Zab, 309, "a member that knew of no member that knew the leader looked for one for ever"),
    (
        ProtocolKind::Raft,
        37698,
        "a follower that differed at the very end of the leader's snapshot was sent entries instead of it",
    ),
    (
        ProtocolKind::Zab,
        101_789,
        "a follower that differed at the very end of the leader's snapshot was told to cut there for ever",
    ),
    (
        ProtocolKind::MultiPaxos,
        207_790,
        "a leader counted late answers to reads of its time with the old voters for those of the new",
    ),
    (
        ProtocolKind::Zab,
        500_092,
        "the simulator's operator left a lost learner where it was, since the voter that it should replace lived",
    ),
    (
        ProtocolKind::Zab,
        500_177,
        "a client's deletion was taken for the end of the lease on which its key hung, since a revocation had been lost",
    ),
    (
        ProtocolKind::Raft,
        600_092,
        "the log of a restarted member was compared only after its first step, in which a new leader had cut it",
    ),
    (
        ProtocolKind::Raft,
        620_421,
        "a leader on its way out was told of its removal while the joint membership still needed its vote",
    ),
    (ProtocolKind::Zab, 621_102, "the same: nobody was left to be a quorum of the old members"),
    (
        ProtocolKind::Zab,
        621_182,
        "what a member had acknowledged in good faith, and its disk had written elsewhere, was no copy for a judge",
    ),
    (
        ProtocolKind::Raft,
        683_076,
        "a learner that never ran was promoted, since a new leader took its silence for fresh; then nobody was a quorum",
    ),
];

#[test]
fn what_failed_once_does_not_fail_again() {
    for (protocol, seed, story) in REGRESSIONS {
        let result = World::of_seed(protocol, seed, Story::Silent).run(20_000);
        assert!(result.is_ok(), "{protocol}, seed {seed}, {story}: {result:?}");
    }
}

/// Runs a world twice; its trace.
fn twice(what: &str, run: impl Fn() -> Report) -> u64 {
    let (first, second) = (run(), run());
    assert_eq!(first.trace, second.trace, "{what}: two runs of one seed differ");
    first.trace
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (mut worlds, mut traces) = (0, BTreeSet::new());
    let mut one = |what: &str, run: &dyn Fn() -> Report| {
        worlds += 1;
        traces.insert(twice(what, run));
    };
    for protocol in ProtocolKind::ALL {
        for seed in [3, 77, 1234] {
            one(&format!("{protocol}, seed {seed}"), &|| run(protocol, seed));
        }
        one(&format!("{protocol}, two versions"), &|| {
            let report = run(protocol, 22);
            assert!(report.faults.contains_key(schedule::UPGRADED), "nobody was upgraded");
            report
        });
        one(&format!("{protocol}, with a witness"), &|| {
            let world = World::with_witnesses(protocol, 5, 3, 1, Story::Silent);
            world.run(10_000).unwrap_or_else(|error| panic!("{error}"))
        });
        for scene in Scene::ALL {
            one(&format!("{protocol}, {scene}"), &|| {
                directed::run(scene, protocol, 9, Story::Silent).unwrap_or_else(|error| panic!("{error}"))
            });
        }
    }
    assert_eq!(traces.len(), worlds, "different worlds have the same trace");
}
