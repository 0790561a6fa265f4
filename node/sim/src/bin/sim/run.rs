//! Many seeds.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_consensus::kind::ProtocolKind;
use quorate_sim::directed::Scene;
use quorate_sim::panics;
use quorate_sim::seed::FAULTY_MS;
use quorate_sim::shrink::{self, Subject};
use quorate_sim::story::Story;
use quorate_sim::world::Report;

/// What to run.
pub(super) struct Plan {
    pub(super) until: Duration,
    pub(super) from: u64,
    pub(super) seeds: u64,
    pub(super) protocols: Vec<ProtocolKind>,
    pub(super) jobs: u64,
    pub(super) scene: Option<Scene>,
}

/// What one protocol's seeds showed.
#[derive(Default)]
struct Total {
    report: Report,
    seeds: u64,
    violations: Vec<(u64, String)>,
}

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(2);
/// Violations that are told in full.
const TOLD_MAX: usize = 10;
/// Violations of one protocol that are shrunk.
const SHRUNK_MAX: usize = 2;

pub(super) fn run(plan: &Plan) -> ExitCode {
    panics::keep();
    let begin = Instant::now();
    let next = AtomicU64::new(plan.from);
    let totals: Vec<Mutex<Total>> = plan.protocols.iter().map(|_| Mutex::default()).collect();
    let last_told = Mutex::new(Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if begin.elapsed() >= plan.until || seed - plan.from >= plan.seeds {
                        return;
                    }
                    for (protocol, total) in plan.protocols.iter().zip(&totals) {
                        one(*protocol, seed, plan.scene, total);
                    }
                    progress(seed - plan.from + 1, begin, &totals, &last_told);
                }
            });
        }
    });
    let mut violations = 0;
    for (protocol, total) in plan.protocols.iter().zip(totals) {
        let total = total.into_inner().unwrap_or_default();
        violations += total.violations.len();
        print(*protocol, plan.scene, &total, begin.elapsed());
    }
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(protocol: ProtocolKind, seed: u64, scene: Option<Scene>, total: &Mutex<Total>) {
    let subject = Subject { protocol, seed, scene };
    let outcome = subject.run(subject.schedule(FAULTY_MS), Story::Silent);
    let Ok(mut total) = total.lock() else { return };
    total.seeds += 1;
    match outcome {
        Ok(report) => total.report.add(&report),
        Err(violation) => {
            eprintln!("\n{protocol}, seed {seed}: {violation}");
            total.violations.push((seed, violation.to_string()));
        }
    }
}

fn progress(done: u64, begin: Instant, totals: &[Mutex<Total>], last_told: &Mutex<Instant>) {
    let Ok(mut last_told) = last_told.lock() else { return };
    if last_told.elapsed() < PROGRESS || !std::io::stderr().is_terminal() {
        return;
    }
    *last_told = Instant::now();
    let (mut operations, mut violations) = (0, 0);
    for total in totals.iter().filter_map(|total| total.lock().ok()) {
        operations += total.report.operations;
        violations += total.violations.len();
    }
    let seconds = begin.elapsed().as_secs();
    eprint!(
        "\r{seconds} s: {done} seeds of each protocol, {operations} operations, {violations} violations   "
    );
}

fn print(protocol: ProtocolKind, scene: Option<Scene>, total: &Total, took: Duration) {
    let Total { report, seeds, violations } = total;
    println!("{protocol}");
    println!(
        "  seeds                {seeds} ({:.0} in a second)",
        *seeds as f64 / took.as_secs_f64().max(0.001)
    );
    println!("  simulated            {} s", report.simulated_ms / 1000);
    println!("  operations checked   {} ({} succeeded)", report.operations, report.acknowledged);
    println!("  watch answers        {}", report.watched);
    println!(
        "  orders searched      {} ({:.0} operations each, gave up {})",
        report.searched,
        report.searched_operations as f64 / (report.searched as f64).max(1.0),
        report.gave_up
    );
    println!("  messages lost        {}", report.lost);
    let injected: u64 = report.faults.values().sum();
    println!(
        "  faults               {injected} in {} classes, {} at once at most",
        report.faults.len(),
        report.overlapping
    );
    for (class, count) in &report.faults {
        println!("    {class:<50} {count}");
    }
    println!("  changes of the membership");
    for (class, count) in &report.changes {
        println!("    {class:<50} {count}");
    }
    println!("  reached");
    for (class, count) in &report.reached {
        println!("    {class:<50} {count}");
    }
    println!("  violations           {}", violations.len());
    let of_scene = scene.map(|scene| format!(" --scene {scene}")).unwrap_or_default();
    for (seed, violation) in violations.iter().take(TOLD_MAX) {
        println!("    seed {seed}: {violation}");
        println!(
            "    replay: cargo run --profile simulation -p quorate-sim --bin sim -- replay {protocol} {seed}{of_scene}"
        );
    }
    for (seed, _) in violations.iter().take(SHRUNK_MAX) {
        let subject = Subject { protocol, seed: *seed, scene };
        if let Some(shrunk) = shrink::shrink(subject, FAULTY_MS) {
            super::replay::print(subject, None, &shrunk);
        }
    }
}
