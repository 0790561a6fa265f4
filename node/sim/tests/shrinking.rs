//! Shrinking, tried on bugs that are known to be found: what is left still fails, in the same way, and because of the bug.
#![cfg(feature = "mutants")]

use quorate_consensus::kind::ProtocolKind;
use quorate_sim::directed::Scene;
use quorate_sim::mutants::{self, Bug};
use quorate_sim::seed::FAULTY_MS;
use quorate_sim::shrink::{self, Subject};
use quorate_sim::story::Story;

/// So many seeds are tried for one that the bug breaks: which one that is changes with the simulator.
const SEEDS: u64 = 60;

fn shrinks(bug: &str, protocol: ProtocolKind, scene: Option<Scene>) {
    let bug = Bug::named(bug).expect("a bug of this name");
    bug.plant();
    let mut subjects = (1..=SEEDS).map(|seed| Subject { protocol, seed, scene });
    let fails = |subject: &Subject| subject.run(subject.schedule(FAULTY_MS), Story::Silent).is_err();
    let subject = subjects.find(fails).expect("the bug is found");
    let whole = subject.schedule(FAULTY_MS);
    let first = subject.run(whole.clone(), Story::Silent).expect_err("it fails again");
    let shrunk = shrink::shrink(subject, FAULTY_MS).expect("it fails");
    let again = subject.run(shrunk.schedule.clone(), Story::Silent).expect_err("it still fails");
    mutants::clear();
    assert_eq!(again, shrunk.violation);
    assert_eq!(again.kind, first.kind);
    assert!(shrunk.schedule.faults.len() < whole.faults.len(), "{shrunk:?}");
    assert!(shrunk.schedule.faulty_ms < FAULTY_MS, "{shrunk:?}");
    let kept = whole.keeping(&shrunk.kept);
    assert_eq!(shrunk.schedule.faults, kept.faults);
    // Leaving any more faults out would let the bug go unseen.
    bug.plant();
    for left_out in 0..shrunk.kept.len() {
        let mut fewer = shrunk.kept.clone();
        fewer.remove(left_out);
        let mut schedule = whole.keeping(&fewer);
        schedule.faulty_ms = shrunk.schedule.faulty_ms;
        let outcome = subject.run(schedule, Story::Silent);
        assert!(outcome.err().is_none_or(|found| found.kind != first.kind), "fault {left_out} is not needed");
    }
    mutants::clear();
    let sound = subject.run(shrunk.schedule, Story::Silent);
    assert!(sound.is_ok(), "without the bug: {sound:?}");
}

#[test]
fn a_failing_seed_is_left_with_the_faults_that_it_needs() {
    // Found only when a minority's power fails in the middle of much else.
    shrinks("VoteForAnyLog", ProtocolKind::Raft, None);
}

#[test]
fn so_is_a_failing_seed_of_a_scene() {
    shrinks("UpdatePromotesLearner", ProtocolKind::Zab, Some(Scene::Changes));
}

#[test]
fn a_seed_that_does_not_fail_is_not_shrunk() {
    let subject = Subject { protocol: ProtocolKind::Raft, seed: 2, scene: None };
    assert!(shrink::shrink(subject, FAULTY_MS).is_none());
}
