//! From a failing seed to few faults and a short run that still fail (delta debugging, Zeller & Hildebrandt 2002).

use quorate_consensus::kind::ProtocolKind;

use crate::directed::{self, Scene};
use crate::finding::{Finding, Kind};
use crate::panics;
use crate::schedule::Schedule;
use crate::story::Story;
use crate::world::{Report, World};

/// Runs that one shrinking takes at most.
const RUNS_MAX: u64 = 400;

/// A failing run that is as small as it got.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The places of the faults that stayed, in the seed's whole schedule.
    pub kept: Vec<usize>,
    /// The schedule with these faults.
    pub schedule: Schedule,
    /// What goes wrong.
    pub violation: Finding,
    /// How many runs it took.
    pub runs: u64,
}

/// What is run: a seed of the ordinary worlds, or of a scene.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The protocol.
    pub protocol: ProtocolKind,
    /// The seed.
    pub seed: u64,
    /// The scene; an ordinary world without one.
    pub scene: Option<Scene>,
}

impl Subject {
    /// Its whole schedule.
    #[must_use]
    pub fn schedule(self, faulty_ms: u64) -> Schedule {
        match self.scene {
            Some(scene) => directed::schedule(scene, self.seed, faulty_ms),
            None => Schedule::of(self.seed, faulty_ms),
        }
    }

    /// Runs it with a schedule. A panic is a violation where it can be caught.
    ///
    /// # Errors
    /// What went wrong.
    pub fn run(self, schedule: Schedule, story: Story) -> Result<Report, Finding> {
        let Self { protocol, seed, scene } = self;
        let world = || match scene {
            Some(scene) => directed::run_schedule(scene, protocol, seed, schedule, story),
            None => World::of_seed(protocol, seed, story).run_schedule(schedule),
        };
        panics::caught(world).unwrap_or_else(|panic| Err(Kind::Assertion.found()(panic.to_string())))
    }
}

/// Shrinks a schedule as long as the same kind of thing goes wrong; `None` if nothing does at all.
#[must_use]
pub fn shrink(subject: Subject, faulty_ms: u64) -> Option<Shrunk> {
    let whole = subject.schedule(faulty_ms);
    let kind = subject.run(whole.clone(), Story::Silent).err()?.kind;
    let mut runs = 1;
    let mut fails = |kept: &[usize], faulty_ms: u64| {
        runs += 1;
        let schedule = Schedule { faulty_ms, ..whole.keeping(kept) };
        let found = (runs <= RUNS_MAX).then(|| subject.run(schedule, Story::Silent).err()).flatten();
        found.filter(|found| found.kind == kind)
    };
    let mut kept: Vec<usize> = (0..whole.faults.len()).collect();
    let mut faulty_ms = faulty_ms;
    let mut violation = fails(&kept, faulty_ms)?;
    loop {
        let before = (kept.len(), faulty_ms);
        loop {
            // A fault just behind the end could still begin: the last step may pass it.
            let shorter_ms = faulty_ms * 3 / 4;
            let fewer: Vec<usize> =
                kept.iter().copied().filter(|&place| whole.faults[place].at_ms < shorter_ms).collect();
            let Some(said) = fails(&fewer, shorter_ms) else { break };
            (kept, faulty_ms, violation) = (fewer, shorter_ms, said);
        }
        let mut part = kept.len().div_ceil(2);
        while part > 0 {
            let mut from = 0;
            while from < kept.len() {
                let mut fewer = kept.clone();
                fewer.drain(from..(from + part).min(kept.len()));
                match fails(&fewer, faulty_ms) {
                    Some(said) => (kept, violation) = (fewer, said),
                    None => from += part,
                }
            }
            part /= 2;
        }
        if (kept.len(), faulty_ms) == before {
            break;
        }
    }
    let schedule = Schedule { faulty_ms, ..whole.keeping(&kept) };
    Some(Shrunk { kept, schedule, violation, runs })
}
