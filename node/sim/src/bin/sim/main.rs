//! Runs seeds, or tells the story of one.

mod replay;
mod run;

#[cfg(feature = "mutants")]
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use quorate_consensus::kind::ProtocolKind;
use quorate_sim::directed::Scene;
use quorate_sim::keep::Keep;
#[cfg(feature = "mutants")]
use quorate_sim::mutants;
use quorate_sim::seed::FAULTY_MS;
use quorate_sim::shrink::Subject;

/// Runs whole replicas in simulated worlds and checks what their clients saw.
#[derive(Parser)]
#[command(name = "sim", after_help = "A failing seed prints the command that replays it.")]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs seeds until the time is over, and prints what was simulated, checked and injected. Goes on after a violation;
    /// the exit code is 1 then.
    Run {
        /// For how long.
        #[arg(long, default_value_t = 1)]
        minutes: u64,
        /// Stop behind so many seeds, if that comes first.
        #[arg(long)]
        seeds: Option<u64>,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Only this protocol; all in turn without it.
        #[arg(long)]
        protocol: Option<ProtocolKind>,
        /// Threads.
        #[arg(long, default_value_t = 1)]
        jobs: u64,
        /// Worlds of this kind: elections, reads, disks, changes, ambushes, catching-up or stops.
        #[arg(long)]
        scene: Option<Scene>,
    },
    /// Runs one seed and prints its story.
    Replay {
        /// The protocol.
        protocol: ProtocolKind,
        /// The seed.
        seed: u64,
        /// Print every message, too.
        #[arg(long)]
        messages: bool,
        /// Only these faults of its schedule, by place with commas between, as a shrunk seed names them; or `none`.
        #[arg(long)]
        keep: Option<Keep>,
        /// Heal after so many milliseconds.
        #[arg(long, default_value_t = FAULTY_MS)]
        faulty_ms: u64,
        /// In a world of this kind, with its own faults.
        #[arg(long)]
        scene: Option<Scene>,
        /// With this bug planted.
        #[cfg(feature = "mutants")]
        #[arg(long)]
        mutant: Option<String>,
    },
    /// Leaves faults out of a failing seed's schedule as long as it fails, then tells the story of what is left.
    Shrink {
        /// The protocol.
        protocol: ProtocolKind,
        /// The seed.
        seed: u64,
        /// In a world of this kind, with its own faults.
        #[arg(long)]
        scene: Option<Scene>,
        /// With this bug planted.
        #[cfg(feature = "mutants")]
        #[arg(long)]
        mutant: Option<String>,
    },
    /// Cuts links between three and five members in every way that matters, and prints a Markdown table of how long each
    /// protocol took to serve writes again.
    Partitions {
        /// Runs of each case, with other timings.
        #[arg(long, default_value_t = 5)]
        runs: u64,
        /// Cases of five members, drawn by chance.
        #[arg(long, default_value_t = 12)]
        sample: usize,
    },
    /// Plants known bugs, one at a time, and looks for each until a check fails; prints a table.
    #[cfg(feature = "mutants")]
    Mutants {
        /// Only bugs with this in their names; may be given again.
        #[arg(long)]
        only: Vec<String>,
        /// Core-minutes for one bug, at most.
        #[arg(long, default_value_t = 5.0)]
        budget_minutes: f64,
        /// Threads.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// Worlds of each protocol that are run without a bug first.
        #[arg(long, default_value_t = 100)]
        sound_seeds: u64,
        /// Write the result there as a Markdown document, too.
        #[arg(long)]
        docs: Option<PathBuf>,
        /// The day that the document names.
        #[arg(long, default_value = "undated")]
        date: String,
    },
}

#[cfg(feature = "mutants")]
const RUN: &str = "cargo run --profile simulation -p quorate-sim --features mutants --bin sim --";

/// Plants a bug in the worlds that this thread runs.
#[cfg(feature = "mutants")]
fn plant(name: &str) {
    mutants::Bug::named(name).into_iter().for_each(mutants::Bug::plant);
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Verb::Run { minutes, seeds, from, protocol, jobs, scene } => {
            let protocols = protocol.map_or_else(|| ProtocolKind::ALL.to_vec(), |one| vec![one]);
            let until = Duration::from_secs(60 * minutes);
            run::run(&run::Plan {
                until,
                from,
                seeds: seeds.unwrap_or(u64::MAX),
                protocols,
                jobs: jobs.max(1),
                scene,
            })
        }
        #[cfg(feature = "mutants")]
        Verb::Mutants { only, budget_minutes, jobs, sound_seeds, docs, date } => {
            let given =
                format!("--jobs {jobs} --budget-minutes {budget_minutes} --sound-seeds {sound_seeds}");
            let names: String = only.iter().map(|name| format!(" --only {name}")).collect();
            let command = format!("{RUN} mutants {given}{names}");
            let budget = Duration::from_secs_f64(60.0 * budget_minutes);
            let all = mutants::run::run(&mutants::run::Options {
                only,
                budget,
                jobs,
                sound_seeds,
                docs,
                date,
                command,
            });
            if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        #[cfg(feature = "mutants")]
        Verb::Replay { mutant: Some(name), .. } | Verb::Shrink { mutant: Some(name), .. }
            if mutants::Bug::named(&name).is_none() =>
        {
            eprintln!("there is no bug {name:?}");
            ExitCode::FAILURE
        }
        #[cfg(feature = "mutants")]
        Verb::Replay { mutant: Some(name), protocol, seed, messages, keep, faulty_ms, scene } => {
            plant(&name);
            replay::replay(Subject { protocol, seed, scene }, messages, keep, faulty_ms)
        }
        Verb::Replay { protocol, seed, messages, keep, faulty_ms, scene, .. } => {
            replay::replay(Subject { protocol, seed, scene }, messages, keep, faulty_ms)
        }
        #[cfg(feature = "mutants")]
        Verb::Shrink { mutant: Some(name), protocol, seed, scene } => {
            plant(&name);
            replay::shrink(Subject { protocol, seed, scene }, Some(&name))
        }
        Verb::Shrink { protocol, seed, scene, .. } => replay::shrink(Subject { protocol, seed, scene }, None),
        Verb::Partitions { runs, sample } => {
            print!("{}", quorate_sim::partitions::table(runs, sample));
            ExitCode::SUCCESS
        }
    }
}
