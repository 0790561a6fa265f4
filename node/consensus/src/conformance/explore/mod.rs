//! Every run of a small cluster with at most so many faults, over the code that ships.
//!
//! Without a fault a run has one course: disks sync at once, messages arrive in the order they were sent, and when nothing moves
//! the next wish is made or time goes on (delay-bounded scheduling: Emmi, Qadeer, Rakamarić, POPL 2011). At every step of it
//! every fault is tried in every place where it makes a difference, and from there on again while faults are left. So rare courses that
//! need few faults are all visited, however long they are; courses that need more are left to the simulator. States that were visited
//! with as many faults left are not visited again.

mod cluster;
mod fault;
mod hashed;
mod history;
mod node;
#[cfg(feature = "mutants")]
mod planted;
mod scene;
mod stories;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::id::MemberId;
use crate::kind::ProtocolKind;
use crate::membership::Membership;

use super::world::member;
use cluster::{Cluster, Wish};
use fault::Fault;
use scene::Scene;

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
    offers: fn(Fault) -> bool,
    story: &mut Vec<(u32, Fault)>,
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
            for fault in cluster.faults().into_iter().filter(|fault| offers(*fault)) {
                let mut other = cluster.clone();
                story.push((cluster.steps(), fault));
                sound(story, || other.fail(fault))?;
                explore(other, faults - 1, offers, story, to)?;
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
fn sound<T>(story: &[(u32, Fault)], step: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let told = |what: String| format!("{what}, after {story:?}");
    catch_unwind(AssertUnwindSafe(step))
        .map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            told(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
        })?
        .map_err(told)
}

/// What happens in a run with these faults, each after so many steps, for a reader.
fn tell(mut cluster: Cluster, story: &[(u32, Fault)]) {
    let mut story = story.iter().peekable();
    loop {
        while let Some((_, fault)) = story.next_if(|(at, _)| *at == cluster.steps()) {
            println!("     {fault:?}");
            if sound(&[], || cluster.fail(*fault)).is_err() {
                return;
            }
        }
        println!("{:4} {}", cluster.steps(), cluster.describe());
        if sound(&[], || cluster.advance()) != Ok(true) {
            return;
        }
    }
}

fn voters(ids: std::ops::RangeInclusive<u64>) -> Membership {
    Membership { members: ids.map(|id| (MemberId(id), member(id))).collect(), ..Membership::default() }
}

/// Explores a scene. `story` is what led to what broke.
fn run(scene: &Scene, story: &mut Vec<(u32, Fault)>) -> (Result<(), String>, Visited) {
    let mut visited = Visited::default();
    let result = explore(scene.cluster.clone(), scene.faults, scene.offers, story, &mut visited);
    (result, visited)
}

/// Gives the number of states.
fn sound_in(kind: ProtocolKind, scenes: &[Scene]) -> u64 {
    let mut states = 0;
    for scene in scenes {
        let (name, faults) = (scene.name, scene.faults);
        let mut story = Vec::new();
        let (result, visited) = run(scene, &mut story);
        println!("{kind} {name}: {} states, {} runs, at most {faults} faults", visited.states, visited.ends);
        if result.is_err() {
            tell(scene.cluster.clone(), &story);
        }
        assert_eq!(result, Ok(()), "{kind} {name}");
        states += visited.states;
    }
    states
}

fn sound_in_long_runs(kind: ProtocolKind) {
    let states = sound_in(kind, &scene::long(kind));
    assert!(states > 100_000, "hardly anything was explored: {states} states");
}

#[test]
fn raft_is_sound_in_every_long_run_with_a_fault() {
    sound_in_long_runs(ProtocolKind::Raft);
}

#[test]
fn multi_paxos_is_sound_in_every_long_run_with_a_fault() {
    sound_in_long_runs(ProtocolKind::MultiPaxos);
}

#[test]
fn zab_is_sound_in_every_long_run_with_a_fault() {
    sound_in_long_runs(ProtocolKind::Zab);
}

fn sound_in_short_runs(kind: ProtocolKind) {
    let states = sound_in(kind, &scene::short(kind));
    assert!(states > 1_000_000, "hardly anything was explored: {states} states");
}

#[test]
#[ignore = "minutes in a debug build"]
fn raft_is_sound_in_every_short_run_with_more_faults() {
    sound_in_short_runs(ProtocolKind::Raft);
}

#[test]
#[ignore = "minutes in a debug build"]
fn multi_paxos_is_sound_in_every_short_run_with_more_faults() {
    sound_in_short_runs(ProtocolKind::MultiPaxos);
}

#[test]
#[ignore = "minutes in a debug build"]
fn zab_is_sound_in_every_short_run_with_more_faults() {
    sound_in_short_runs(ProtocolKind::Zab);
}

#[test]
#[ignore = "minutes in a debug build"]
fn raft_is_sound_in_every_change_with_two_faults() {
    sound_in(ProtocolKind::Raft, &[scene::change(ProtocolKind::Raft)]);
}

#[test]
#[ignore = "minutes in a debug build"]
fn multi_paxos_is_sound_in_every_change_with_two_faults() {
    sound_in(ProtocolKind::MultiPaxos, &[scene::change(ProtocolKind::MultiPaxos)]);
}

#[test]
#[ignore = "minutes in a debug build"]
fn zab_is_sound_in_every_change_with_two_faults() {
    sound_in(ProtocolKind::Zab, &[scene::change(ProtocolKind::Zab)]);
}

#[test]
fn a_quorum_that_meets_no_other_is_found() {
    for kind in ProtocolKind::ALL {
        let mut cluster = Cluster::new(kind, &voters(1..=3), 3, vec![Wish::Propose(1), Wish::Propose(1)], 16);
        // It believes that it is alone.
        cluster.found(MemberId(3), &voters(3..=3));
        let result = explore(cluster, 1, |_| true, &mut Vec::new(), &mut Visited::default());
        assert!(result.is_err(), "{kind}: two quorums decided, and nothing was found");
    }
}
