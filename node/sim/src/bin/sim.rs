//! Runs seeds, or tells the story of one.

use std::time::{Duration, Instant};

#[cfg(feature = "mutants")]
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use quorate_consensus::kind::ProtocolKind;
#[cfg(feature = "mutants")]
use quorate_sim::mutants;
use quorate_sim::seed::{FAULTY_MS, voters};
use quorate_sim::story::Story;
use quorate_sim::world::{Report, World};

/// Runs whole replicas in simulated worlds and checks what their clients saw.
#[derive(Parser)]
#[command(name = "sim", after_help = "A failing seed prints the command that replays it.")]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs seeds until the time is over, and prints what was simulated, checked and injected.
    Run {
        /// For how long.
        #[arg(long, default_value_t = 1)]
        minutes: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Only this protocol; all in turn without it.
        #[arg(long)]
        protocol: Option<ProtocolKind>,
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
        /// With this bug planted.
        #[cfg(feature = "mutants")]
        #[arg(long)]
        mutant: Option<String>,
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
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Verb::Run { minutes, from, protocol } => {
            let protocols = protocol.map_or_else(|| ProtocolKind::ALL.to_vec(), |one| vec![one]);
            run(Duration::from_secs(60 * minutes), from, &protocols)
        }
        #[cfg(feature = "mutants")]
        Verb::Mutants { only, budget_minutes, jobs, sound_seeds } => {
            let budget = Duration::from_secs_f64(60.0 * budget_minutes);
            let all = mutants::run::run(&mutants::run::Options { only, budget, jobs, sound_seeds });
            anyhow::ensure!(all, "a planted bug was not caught, or a check failed without one");
            Ok(())
        }
        #[cfg(feature = "mutants")]
        Verb::Replay { mutant: Some(name), protocol, seed, messages } => {
            let bug = mutants::Bug::named(&name).with_context(|| format!("there is no bug {name:?}"))?;
            bug.plant();
            replay(protocol, seed, messages)
        }
        Verb::Replay { protocol, seed, messages, .. } => replay(protocol, seed, messages),
    }
}

fn replay(protocol: ProtocolKind, seed: u64, messages: bool) -> anyhow::Result<()> {
    let story = if messages { Story::Messages } else { Story::Short };
    let world = World::new(protocol, seed, voters(seed), story);
    let report = world.run(FAULTY_MS).map_err(|error| anyhow::anyhow!(error))?;
    println!("{report:#?}");
    Ok(())
}

fn run(time: Duration, from: u64, protocols: &[ProtocolKind]) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut totals = vec![(Report::default(), 0u64); protocols.len()];
    for seed in from.. {
        if begin.elapsed() >= time {
            break;
        }
        for (protocol, (total, seeds)) in protocols.iter().zip(&mut totals) {
            let report =
                World::new(*protocol, seed, voters(seed), Story::Silent).run(FAULTY_MS).map_err(|error| {
                    anyhow::anyhow!(
                        "{protocol}, seed {seed}: {error}\n\
                     replay: cargo run --release -p quorate-sim --bin sim -- replay {protocol} {seed}"
                    )
                })?;
            *seeds += 1;
            total.add(&report);
        }
    }
    for (protocol, (total, seeds)) in protocols.iter().zip(&totals) {
        println!("{protocol}");
        println!("  seeds                {seeds}");
        println!("  simulated            {} s", total.simulated_ms / 1000);
        println!("  operations checked   {} ({} acknowledged)", total.operations, total.acknowledged);
        for (class, count) in total.faults.iter().chain(&total.reached) {
            println!("  {class:<50} {count}");
        }
        println!("  violations           0");
    }
    Ok(())
}
