//! Worlds that go where chance seldom does: whole members as everywhere else, but few classes of faults, close together, and a number
//! of voters that makes a known story likely. A seed still decides what happens; without a bug nothing may be found here either.

use std::fmt;
use std::str::FromStr;

use quorate_consensus::kind::ProtocolKind;

use crate::finding::Finding;
use crate::random::Random;
use crate::schedule::{Fault, Schedule, Target};
use crate::seed::FAULTY_MS;
use crate::story::Story;
use crate::world::{Ambush, Report, World};

/// A kind of world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Five voters whose leaders are cut off with what they have just appended, in turn (figure 8 of the Raft paper).
    Elections,
    /// Three voters, one of which hears everything late, its reads' answers too, and starts again and again (etcd #20418).
    Reads,
    /// Three voters with slow disks whose power fails.
    Disks,
    /// Four voters, whose leaders change the membership and are cut off.
    Changes,
    /// Four voters; who is elected is cut off at once, and asked to remove somebody (Ongaro, raft-dev, July 2015).
    Ambushes,
    /// Three voters, one of which was away while the others wrote; power fails while it catches up (ZOOKEEPER-4643).
    CatchingUp,
    /// Four voters, whose leaders are cut off in turn with values and with a change that one other hears of (Stoppable Paxos, 2008).
    Stops,
}

impl Scene {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Elections,
        Self::Reads,
        Self::Disks,
        Self::Changes,
        Self::Ambushes,
        Self::CatchingUp,
        Self::Stops,
    ];
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elections => "elections",
            Self::Reads => "reads",
            Self::Disks => "disks",
            Self::Changes => "changes",
            Self::Ambushes => "ambushes",
            Self::CatchingUp => "catching-up",
            Self::Stops => "stops",
        })
    }
}

impl FromStr for Scene {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|scene| scene.to_string() == name);
        let names = || Self::ALL.map(|scene| scene.to_string()).join(", ");
        found.ok_or_else(|| format!("there is no scene {name:?}: choose one of {}", names()))
    }
}

type AnyFault = fn(&mut Random) -> Fault;

type AnyWorld = (u64, bool, &'static [AnyFault]);

/// Voters, whether members come and go, and the faults.
fn parts(scene: Scene) -> AnyWorld {
    match scene {
        Scene::Reads => (3, false, &[lag, lag, lag, late, killed]),
        Scene::Disks => (3, false, &[slow_disk, slow_disk, somebody_gone]),
        Scene::Elections => (5, false, &[cut, cut, leader_gone, leader_alone, somebody_gone]),
        Scene::Ambushes => (4, true, &[leader_gone, leader_alone, leader_gone, somebody_gone]),
        Scene::Stops => (4, true, &[leader_gone, leader_alone, somebody_gone]),
        Scene::CatchingUp => (3, false, &[cut, leader_alone, leader_gone, slow_disk, somebody_gone]),
        Scene::Changes => (4, true, &[cut, leader_alone, |_| Fault::Churn, |_| Fault::Churn, leader_gone]),
    }
}

/// The schedule of a seed of a scene.
#[must_use]
pub fn schedule(scene: Scene, seed: u64, faulty_ms: u64) -> Schedule {
    Schedule::of_few(seed, faulty_ms, parts(scene).2)
}

/// Runs one seed.
///
/// # Errors
/// What was found.
pub fn run(scene: Scene, protocol: ProtocolKind, seed: u64, story: Story) -> Result<Report, Finding> {
    run_schedule(scene, protocol, seed, schedule(scene, seed, FAULTY_MS), story)
}

/// Runs one seed with another schedule.
///
/// # Errors
/// What was found.
pub fn run_schedule(
    scene: Scene,
    protocol: ProtocolKind,
    seed: u64,
    schedule: Schedule,
    story: Story,
) -> Result<Report, Finding> {
    let (voters, churns, _) = parts(scene);
    let ambush = match scene {
        Scene::Ambushes => Some(Ambush::Elected),
        Scene::Stops => Some(Ambush::Established),
        Scene::Elections | Scene::Reads | Scene::Disks | Scene::Changes | Scene::CatchingUp => None,
    };
    let world = World::new(protocol, seed, voters, story).churning(churns).ambushing(ambush);
    world.run_schedule(schedule)
}

fn cut(random: &mut Random) -> Fault {
    Fault::Partition(random.draw())
}

fn late(random: &mut Random) -> Fault {
    Fault::Late(5 + random.below(40))
}

/// Later than a read is asked again, and sooner than the member would take its leader for lost.
fn lag(random: &mut Random) -> Fault {
    Fault::Lag(Target::Machine(0), 520 + random.below(500))
}

fn slow_disk(random: &mut Random) -> Fault {
    Fault::SlowDisk(Target::Machine(random.below(64)), 100 + random.below(500))
}

fn killed(_: &mut Random) -> Fault {
    Fault::Kill(Target::Machine(0))
}

fn leader_gone(_: &mut Random) -> Fault {
    Fault::Kill(Target::Leader)
}

fn leader_alone(_: &mut Random) -> Fault {
    Fault::Isolation(Target::Leader)
}

fn somebody_gone(random: &mut Random) -> Fault {
    Fault::PowerLoss(Target::Machine(random.below(64)))
}
