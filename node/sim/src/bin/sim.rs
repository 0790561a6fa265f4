//! Runs seeds, or tells the story of one.

use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
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
    },
    /// Runs one seed and prints its story.
    Replay {
        /// The seed.
        seed: u64,
    },
}

/// Simulated time under faults, per seed.
const FAULTY_MS: u64 = 20_000;

fn voters(seed: u64) -> u64 {
    [3, 3, 5, 1][(seed % 4) as usize]
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Verb::Run { minutes, from } => run(Duration::from_secs(60 * minutes), from),
        Verb::Replay { seed } => {
            let report = World::new(seed, voters(seed), true)
                .run(FAULTY_MS)
                .map_err(|error| anyhow::anyhow!(error))?;
            println!("{report:#?}");
            Ok(())
        }
    }
}

fn run(time: Duration, from: u64) -> anyhow::Result<()> {
    let begin = Instant::now();
    let (mut total, mut seeds) = (Report::default(), 0);
    for seed in from.. {
        if begin.elapsed() >= time {
            break;
        }
        let report = World::new(seed, voters(seed), false).run(FAULTY_MS).map_err(|error| {
            anyhow::anyhow!(
                "seed {seed}: {error}\nreplay: cargo run --release -p quorate-sim --bin sim -- replay {seed}"
            )
        })?;
        seeds += 1;
        total.simulated_ms += report.simulated_ms;
        total.operations += report.operations;
        total.acknowledged += report.acknowledged;
        report.faults.into_iter().for_each(|(class, count)| *total.faults.entry(class).or_default() += count);
        report
            .reached
            .into_iter()
            .for_each(|(state, count)| *total.reached.entry(state).or_default() += count);
    }
    println!("seeds                {seeds}");
    println!("simulated            {} s", total.simulated_ms / 1000);
    println!("operations checked   {} ({} acknowledged)", total.operations, total.acknowledged);
    for (class, count) in total.faults.iter().chain(&total.reached) {
        println!("{class:<50} {count}");
    }
    println!("violations           0");
    Ok(())
}
