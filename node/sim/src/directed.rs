//! Worlds that go where chance seldom does: whole members as everywhere else, but few classes of faults, close together, and a number
//! of voters that makes a known story likely. A seed still decides what happens; without a bug nothing may be found here either.

use std::fmt;

use quorate_consensus::kind::ProtocolKind;

use crate::finding::Finding;
use crate::random::Random;
use crate::schedule::{Fault, Schedule, Target};
use crate::story::Story;
use crate::world::World;

/// A kind of world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Five voters whose leaders are cut off with what they have just appended, in turn (figure 8 of the Raft paper).
    Elections,
    /// Four voters, whose leaders change the membership and are cut off (Ongaro, raft-dev, July 2015).
    Changes,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elections => "elections",
            Self::Changes => "changes",
        })
    }
}

const FAULTY_MS: u64 = 20_000;

/// Runs one seed.
///
/// # Errors
/// What was found.
pub fn run(scene: Scene, protocol: ProtocolKind, seed: u64) -> Result<(), Finding> {
    let (voters, churns, few): (u64, bool, &[fn(&mut Random) -> Fault]) = match scene {
        Scene::Elections => (5, false, &[cut, cut, leader_gone, leader_alone, somebody_gone]),
        Scene::Changes => (4, true, &[cut, leader_alone, |_| Fault::Churn, |_| Fault::Churn, leader_gone]),
    };
    let world = World::new(protocol, seed, voters, Story::Silent).churning(churns);
    world.run_schedule(Schedule::of_few(seed, FAULTY_MS, few)).map(drop)
}

fn cut(random: &mut Random) -> Fault {
    Fault::Partition(random.draw())
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
