//! Every run of a small cluster with at most so many faults, over the code that ships.
//!
//! Without a fault a run has one course: disks sync at once, messages arrive in the order they were sent, and when nothing moves
//! the next wish is made or time goes on (delay-bounded scheduling: Emmi, Qadeer, Rakamarić, POPL 2011). At every step of it
//! every fault is tried in every place, and from there on again while faults are left. So rare courses that need few faults are
//! all visited, however long they are; courses that need more are left to the simulator. States that were visited with as many
//! faults left are not visited again.

mod cluster;
mod history;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::id::MemberId;
use crate::kind::ProtocolKind;
use crate::membership::Membership;

use super::world::member;
use cluster::{Cluster, Fault, Wish};

/// What one exploration visited.
#[derive(Debug, Default)]
struct Visited {
    states: u64,
    ends: u64,
    /// By the hash of a state, the most faults that were left there.
    seen: HashMap<u64, u32>,
}

/// Runs `cluster` to its end, with every choice of up to `faults` faults.
///
/// # Errors
/// The faults that broke an invariant, and the invariant.
fn explore(
    mut cluster: Cluster,
    faults: u32,
    story: &mut Vec<Fault>,
    to: &mut Visited,
) -> Result<(), String> {
    loop {
        let mut hasher = DefaultHasher::new();
        cluster.hash(&mut hasher);
        let state = hasher.finish();
        if to.seen.get(&state).is_some_and(|left| *left >= faults) {
            return Ok(());
        }
        to.seen.insert(state, faults);
        to.states += 1;
        if faults > 0 {
            for fault in cluster.faults() {
                let mut other = cluster.clone();
                story.push(fault);
                sound(story, || other.fail(fault))?;
                explore(other, faults - 1, story, to)?;
                story.pop();
            }
        }
        if !sound(story, || cluster.advance())? {
            to.ends += 1;
            return Ok(());
        }
    }
}

/// An invariant of the protocol's own that breaks is a panic of it.
fn sound<T>(story: &[Fault], step: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let told = |what: String| format!("{what}, after {story:?}");
    catch_unwind(AssertUnwindSafe(step))
        .map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            told(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
        })?
        .map_err(told)
}

fn voters(ids: std::ops::RangeInclusive<u64>) -> Membership {
    Membership { members: ids.map(|id| (MemberId(id), member(id))).collect(), ..Membership::default() }
}

/// One fault by default; `EXPLORE_FAULTS=2` is for a release build.
fn faults() -> u32 {
    std::env::var("EXPLORE_FAULTS").ok().and_then(|number| number.parse().ok()).unwrap_or(1)
}

fn check(kind: ProtocolKind, wishes: &[Wish], ticks: u32) -> Visited {
    let cluster = Cluster::new(kind, &voters(1..=3), 4, wishes.to_vec(), ticks);
    let mut visited = Visited::default();
    let result = explore(cluster, faults(), &mut Vec::new(), &mut visited);
    println!("{kind}: {} states, {} runs with at most {} faults", visited.states, visited.ends, faults());
    assert_eq!(result, Ok(()), "{kind}");
    visited
}

fn every_run(kind: ProtocolKind) {
    let visited = check(kind, &[Wish::Propose, Wish::Read, Wish::Propose, Wish::Read], 16);
    assert!(visited.states > 20_000, "hardly anything was explored: {} states", visited.states);
}

fn every_run_with_a_change(kind: ProtocolKind) {
    let mut target = voters(1..=4);
    target.members.remove(&MemberId(1));
    target.removed.insert(MemberId(1));
    let visited = check(kind, &[Wish::Propose, Wish::Change(target), Wish::Read, Wish::Propose], 16);
    assert!(visited.states > 20_000, "hardly anything was explored: {} states", visited.states);
}

#[test]
fn raft_is_sound_in_every_run_with_few_faults() {
    every_run(ProtocolKind::Raft);
}

#[test]
fn multi_paxos_is_sound_in_every_run_with_few_faults() {
    every_run(ProtocolKind::MultiPaxos);
}

#[test]
fn zab_is_sound_in_every_run_with_few_faults() {
    every_run(ProtocolKind::Zab);
}

#[test]
fn raft_is_sound_in_every_run_with_a_change() {
    every_run_with_a_change(ProtocolKind::Raft);
}

#[test]
fn multi_paxos_is_sound_in_every_run_with_a_change() {
    every_run_with_a_change(ProtocolKind::MultiPaxos);
}

#[test]
fn zab_is_sound_in_every_run_with_a_change() {
    every_run_with_a_change(ProtocolKind::Zab);
}

#[test]
fn a_quorum_that_meets_no_other_is_found() {
    for kind in ProtocolKind::ALL {
        let mut cluster = Cluster::new(kind, &voters(1..=3), 3, vec![Wish::Propose, Wish::Propose], 16);
        // It believes that it is alone.
        cluster.found(MemberId(3), &voters(3..=3));
        let result = explore(cluster, 1, &mut Vec::new(), &mut Visited::default());
        assert!(result.is_err(), "{kind}: two quorums decided, and nothing was found");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_that_need_few_faults_are_found() {
    use crate::mutants::Mutant;
    let mut missed = Vec::new();
    for &mutant in Mutant::ALL {
        for &kind in mutant.protocols() {
            let mut target = voters(1..=4);
            target.members.remove(&MemberId(1));
            target.removed.insert(MemberId(1));
            Mutant::plant(Some(mutant));
            let found = [
                vec![Wish::Propose, Wish::Read, Wish::Propose, Wish::Read],
                vec![Wish::Propose, Wish::Change(target), Wish::Read, Wish::Propose],
            ]
            .into_iter()
            .any(|wishes| {
                let cluster = Cluster::new(kind, &voters(1..=3), 4, wishes, 16);
                explore(cluster, faults(), &mut Vec::new(), &mut Visited::default())
                    .inspect_err(|what| println!("{kind} {mutant:?}: {}", &what[..what.len().min(300)]))
                    .is_err()
            });
            Mutant::plant(None);
            if !found {
                missed.push(format!("{kind} {mutant:?}"));
            }
        }
    }
    println!("missed {}: {missed:?}", missed.len());
    assert!(missed.len() < Mutant::ALL.len() / 2, "an explorer that finds few of them explores little");
}
