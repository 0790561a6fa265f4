//! One seed.

use std::process::ExitCode;

use quorate_consensus::kind::ProtocolKind;
use quorate_sim::directed::Scene;
use quorate_sim::finding::Finding;
use quorate_sim::panics;
use quorate_sim::schedule::Schedule;
use quorate_sim::seed::FAULTY_MS;
use quorate_sim::shrink;
use quorate_sim::story::Story;
use quorate_sim::world::Report;

/// Tells the story of a seed.
pub(super) fn replay(
    protocol: ProtocolKind,
    seed: u64,
    messages: bool,
    scene: Option<Scene>,
    keep: Option<Vec<usize>>,
    faulty_ms: u64,
) -> ExitCode {
    if let Some(scene) = scene {
        panics::keep();
        return told(shrink::run_scene(scene, protocol, seed, story(messages)));
    }
    let whole = Schedule::of(seed, FAULTY_MS);
    let kept = keep.map_or_else(|| whole.clone(), |places| whole.keeping(&places));
    tell(protocol, seed, Schedule { faulty_ms, ..kept }, messages)
}

fn tell(protocol: ProtocolKind, seed: u64, schedule: Schedule, messages: bool) -> ExitCode {
    panics::keep();
    told(shrink::run(protocol, seed, schedule, story(messages)))
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

/// Shrinks a seed and tells the story of what is left.
pub(super) fn shrink(protocol: ProtocolKind, seed: u64) -> ExitCode {
    panics::keep();
    let Some(shrunk) = shrink::shrink(protocol, seed, FAULTY_MS) else {
        println!("{protocol}, seed {seed} does not fail");
        return ExitCode::SUCCESS;
    };
    print(protocol, seed, &shrunk);
    tell(protocol, seed, shrunk.schedule, false)
}

/// The faults that stayed, and how to see them again.
pub(super) fn print(protocol: ProtocolKind, seed: u64, shrunk: &shrink::Shrunk) {
    println!("{protocol}, seed {seed}: {} faults are left after {} runs", shrunk.kept.len(), shrunk.runs);
    for planned in &shrunk.schedule.faults {
        println!("  {planned}");
    }
    let places: Vec<String> = shrunk.kept.iter().map(usize::to_string).collect();
    let keep = if places.is_empty() { String::new() } else { format!(" --keep {}", places.join(",")) };
    let faulty_ms = shrunk.schedule.faulty_ms;
    println!("  {}", shrunk.violation);
    println!(
        "  replay: cargo run --profile simulation -p quorate-sim --bin sim -- replay {protocol} {seed}{keep} --faulty-ms {faulty_ms}"
    );
}
