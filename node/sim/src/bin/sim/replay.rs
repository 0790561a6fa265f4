//! One seed.

use std::process::ExitCode;

use quorate_sim::finding::Finding;
use quorate_sim::keep::Keep;
use quorate_sim::panics;
use quorate_sim::schedule::Schedule;
use quorate_sim::seed::FAULTY_MS;
use quorate_sim::shrink::{self, Subject};
use quorate_sim::story::Story;
use quorate_sim::world::Report;

/// Tells the story of a seed.
pub(super) fn replay(subject: Subject, messages: bool, keep: Option<Keep>, faulty_ms: u64) -> ExitCode {
    let whole = subject.schedule(FAULTY_MS);
    let kept = keep.map_or_else(|| whole.clone(), |Keep(places)| whole.keeping(&places));
    tell(subject, Schedule { faulty_ms, ..kept }, messages)
}

fn tell(subject: Subject, schedule: Schedule, messages: bool) -> ExitCode {
    panics::keep();
    told(subject.run(schedule, story(messages)))
}

fn story(messages: bool) -> Story {
    if messages { Story::Messages } else { Story::Short }
}

fn told(outcome: Result<Report, Finding>) -> ExitCode {
    match outcome {
        Ok(report) => {
            println!("{report:#?}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("violation: {violation}");
            ExitCode::FAILURE
        }
    }
}

/// Shrinks a seed and tells the story of what is left. `mutant`: the bug that is planted.
pub(super) fn shrink(subject: Subject, mutant: Option<&str>) -> ExitCode {
    panics::keep();
    let Some(shrunk) = shrink::shrink(subject, FAULTY_MS) else {
        println!("{}, seed {} does not fail", subject.protocol, subject.seed);
        return ExitCode::SUCCESS;
    };
    print(subject, mutant, &shrunk);
    tell(subject, shrunk.schedule, false)
}

/// The faults that stayed, and how to see them again.
pub(super) fn print(subject: Subject, mutant: Option<&str>, shrunk: &shrink::Shrunk) {
    let Subject { protocol, seed, scene } = subject;
    println!("{protocol}, seed {seed}: {} faults are left after {} runs", shrunk.kept.len(), shrunk.runs);
    for planned in &shrunk.schedule.faults {
        println!("  {planned}");
    }
    let keep = format!(" --keep {}", Keep(shrunk.kept.clone()));
    let faulty_ms = shrunk.schedule.faulty_ms;
    let scene = scene.map_or_else(String::new, |scene| format!(" --scene {scene}"));
    let mutant = mutant.map_or_else(String::new, |name| format!(" --mutant {name}"));
    let feature = if mutant.is_empty() { "" } else { " --features mutants" };
    println!("  {}", shrunk.violation);
    println!(
        "  replay: cargo run --profile simulation -p quorate-sim{feature} --bin sim -- replay {protocol} \
         {seed}{scene}{mutant}{keep} --faulty-ms {faulty_ms}"
    );
}
