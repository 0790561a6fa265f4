//! Looking for a planted bug: seed after seed until a check fails or the budget is used up.

use std::fmt;
use std::time::{Duration, Instant};

use quorate_consensus::kind::ProtocolKind;

use super::Bug;
use crate::directed::Scene;
use crate::finding::{Finding, Kind};
use crate::story::Story;
use crate::world::World;
use crate::{crashes, directed, panics, seed};

/// Where a bug is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Whole members of this protocol.
    World(ProtocolKind),
    /// A log alone, and power losses.
    Log,
    /// Whole members of this protocol where chance seldom goes.
    Scene(Scene, ProtocolKind),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World(protocol) => protocol.fmt(f),
            Self::Log => f.write_str("log"),
            Self::Scene(scene, protocol) => write!(f, "{protocol} {scene}"),
        }
    }
}

/// How a bug was caught.
#[derive(Clone, Debug)]
pub struct Catch {
    /// There ...
    pub place: Place,
    /// ... and this seed, which passes without the bug ...
    pub seed: u64,
    /// ... this was found.
    pub by: Finding,
}

/// What became of one bug.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The bug.
    pub bug: Bug,
    /// How it was caught, if it was.
    pub catch: Option<Catch>,
    /// The first seed that failed because of it, but not by what it leads to.
    pub chance: Option<Catch>,
    /// Seeds that were run with it.
    pub seeds: u64,
    /// Processor time that they took.
    pub core: Duration,
}

/// Runs one seed. What is wrong, if anything. A panic that does not come from this workspace's sources is no assertion of ours.
#[must_use]
pub fn finding(place: Place, seed: u64) -> Option<Finding> {
    let run = || match place {
        Place::World(protocol) => {
            let world = World::of_seed(protocol, seed, Story::Silent);
            world.run(seed::FAULTY_MS).map(drop)
        }
        Place::Log => crashes::run(seed),
        Place::Scene(scene, protocol) => directed::run(scene, protocol, seed, Story::Silent).map(drop),
    };
    match panics::caught(run) {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(panic) => panic.is_own().then(|| Kind::Assertion.found()(panic.to_string())),
    }
}

/// Looks for a bug in its places, in turn, from seed 1 on. A seed that fails without the bug, too, has not caught it, nor has one
/// that fails by something that the bug does not lead to.
#[must_use]
pub fn hunt(bug: Bug, budget: Duration) -> Hunt {
    let begin = core_time();
    let spent = || core_time().saturating_sub(begin);
    let places = bug.places();
    let mut hunt = Hunt { bug, catch: None, chance: None, seeds: 0, core: Duration::ZERO };
    for seed in 1.. {
        for &place in &places {
            bug.plant();
            let found = finding(place, seed);
            super::clear();
            hunt.seeds += 1;
            let Some(by) = found else { continue };
            let proves = bug.proofs().contains(&by.kind);
            if !proves && hunt.chance.is_some() || finding(place, seed).is_some() {
                continue;
            }
            let catch = Some(Catch { place, seed, by });
            if proves {
                return Hunt { catch, core: spent(), ..hunt };
            }
            hunt.chance = catch;
        }
        if spent() >= budget {
            break;
        }
    }
    hunt.core = spent();
    hunt
}

/// Processor time of this thread; time on the wall where the system does not tell.
fn core_time() -> Duration {
    thread_local! {
        static BEGIN: Instant = Instant::now();
    }
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let running_ns = told.and_then(|line| line.split(' ').next()?.parse().ok());
    running_ns.map_or_else(|| BEGIN.with(Instant::elapsed), Duration::from_nanos)
}
