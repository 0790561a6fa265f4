//! `quorate-benchmarks`: what `make bench` and its relatives run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};

use quorate_e2e::bench::failover::{self, Failover, Times};
use quorate_e2e::bench::growth::{self, Axis};
use quorate_e2e::bench::load::Workload;
use quorate_e2e::bench::results::{self, Results};
use quorate_e2e::bench::store::{Binaries, Store};
use quorate_e2e::bench::suite::{Bench, Plan};
use quorate_e2e::bench::{check, markdown, profile};
use quorate_e2e::command;
use quorate_e2e::tools::{self, repository};

/// Quorate and etcd side by side, on this machine; results go to docs/benchmarks.
#[derive(Parser)]
#[command(name = "quorate-benchmarks", version)]
struct Arguments {
    /// Data lies below this folder, on a disk; the repository's target folder without it
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    /// Where results are written
    #[arg(long, global = true)]
    docs: Option<PathBuf>,
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// All loads, one and three members, checked by other generators
    Full {
        /// Pairs of runs
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// How long each load lasts
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// A few loads on three members, in under 4 minutes
    Quick {
        /// Pairs of runs
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// How long each load lasts
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// As quick, compared with what quick recorded
    Check,
    /// Clients, values, keys and members grow
    Growth {
        /// Times each step is measured
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// How long each load lasts
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// The most keys
        #[arg(long, default_value_t = 1_000_000)]
        keys_max: u64,
        /// Only one of clients, values, keys, members
        #[arg(long)]
        only: Option<String>,
    },
    /// The leader is killed and stopped
    Failover {
        /// How often each store's leader is killed
        #[arg(long, default_value_t = 50)]
        kills: usize,
        /// How often it is stopped
        #[arg(long, default_value_t = 50)]
        stops: usize,
        /// How long the load without faults lasts
        #[arg(long, default_value_t = 30.0)]
        flap_seconds: f64,
        /// Only these stores
        #[arg(long, value_enum, value_delimiter = ',', default_values_t = Named::ALL)]
        stores: Vec<Named>,
    },
    /// Flame graphs and the budget of a Put
    Profile {
        /// How long each load lasts
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
}

impl What {
    /// The command that does it again, for the results: every number that matters, no folder of this machine.
    fn again(&self) -> String {
        let words = match self {
            Self::Full { rounds, seconds } => format!("full --rounds {rounds} --seconds {seconds}"),
            Self::Quick { rounds, seconds } => format!("quick --rounds {rounds} --seconds {seconds}"),
            Self::Check => "check".to_owned(),
            Self::Growth { rounds, seconds, keys_max, only } => {
                let only = only.as_ref().map(|only| format!(" --only {only}")).unwrap_or_default();
                format!("growth --rounds {rounds} --seconds {seconds} --keys-max {keys_max}{only}")
            }
            Self::Failover { kills, stops, flap_seconds, stores } => {
                let names =
                    stores.iter().filter_map(|store| Some(store.to_possible_value()?.get_name().to_owned()));
                let names = names.collect::<Vec<_>>().join(",");
                format!(
                    "failover --kills {kills} --stops {stops} --flap-seconds {flap_seconds} --stores {names}"
                )
            }
            Self::Profile { seconds } => format!("profile --seconds {seconds}"),
        };
        format!("quorate-benchmarks {words}")
    }
}

/// A store, as it is named on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Named {
    Etcd,
    Raft,
    MultiPaxos,
    Zab,
}

impl Named {
    const ALL: [Self; 4] = [Self::Etcd, Self::Raft, Self::MultiPaxos, Self::Zab];

    fn store(self) -> Store {
        match self {
            Self::Etcd => Store::Etcd,
            Self::Raft => Store::Quorate,
            Self::MultiPaxos => Store::QuorateMultiPaxos,
            Self::Zab => Store::QuorateZab,
        }
    }
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Builds everything that is measured.
fn built() -> Result<(Binaries, PathBuf)> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(repository()).args([
        "build",
        "--release",
        "--locked",
        "-p",
        "quorate-server",
        "-p",
        "quorate-cli",
    ]);
    command::visible(&mut cargo)?;
    let release = target_folder().join("release");
    let etcd = tools::ETCD.built()?.join("etcd");
    let binaries = Binaries { etcd, node: release.join("quorate-node"), quorate: release.join("quorate") };
    Ok((binaries, tools::ETCD_BENCHMARK.built()?.join("benchmark")))
}

fn full_loads() -> Vec<Workload> {
    let mut loads = Vec::new();
    for (clients, connections) in [(1, 1), (64, 16), (1_000, 100)] {
        loads.push(Workload::new("put", clients, connections));
        loads.push(Workload::new("get", clients, connections));
        loads.push(Workload::new("get --serializable", clients, connections));
    }
    for words in ["txn", "range --count=100"] {
        loads.push(Workload::new(words, 64, 16));
    }
    loads.push(Workload::new("list", 4, 4));
    loads
}

fn quick_loads() -> Vec<Workload> {
    vec![
        Workload::new("put", 1, 1),
        Workload::new("put", 64, 16),
        Workload::new("get", 64, 16),
        Workload::new("get --serializable", 64, 16),
    ]
}

struct Run {
    /// Stands in the results.
    command: String,
    docs: PathBuf,
    bench: Bench,
}

impl Run {
    fn new(command: String, folder: Option<PathBuf>, docs: Option<PathBuf>) -> Result<Self> {
        let (binaries, etcd_benchmark) = built()?;
        let parent = folder.unwrap_or_else(|| target_folder().join("benchmarks"));
        let docs = docs.unwrap_or_else(|| repository().join("docs/benchmarks"));
        Ok(Self { command, docs, bench: Bench::new(binaries, etcd_benchmark, &parent)? })
    }

    async fn suite(&self, name: &str, title: &str, plan: &Plan) -> Result<()> {
        let keep = |results: &Results| {
            let text = format!(
                "# {title}\n\n{}\n{}\n{}",
                results.about.markdown(),
                markdown::ceilings(results),
                markdown::tables(results)
            );
            results::write(&self.docs.join(format!("{name}.json")), results)?;
            self.write(&format!("{name}.md"), &text)
        };
        let results = self.bench.run(plan, &self.command, keep).await?;
        println!("{}", markdown::tables(&results));
        Ok(())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        std::fs::create_dir_all(&self.docs)?;
        let path = self.docs.join(file);
        std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
    }

    async fn failover(&self, stores: &[Store], times: Times, flap_seconds: f64) -> Result<()> {
        let keep = |failover: &Failover| {
            results::write(&self.docs.join("failover.json"), failover)?;
            self.write("failover.svg", &failover::plot(failover).svg())?;
            self.write("failover.md", &failover::markdown(failover))
        };
        let failover = failover::run(&self.bench, &self.command, stores, times, flap_seconds, keep).await?;
        println!("{}", failover::markdown(&failover));
        Ok(())
    }

    async fn growth(&self, rounds: usize, seconds: f64, keys_max: u64, only: Option<&str>) -> Result<()> {
        for axis in Axis::ALL {
            if only.is_some_and(|only| only != axis.name()) {
                continue;
            }
            let results = growth::run(&self.bench, axis, &self.command, rounds, seconds, keys_max).await?;
            let file = format!("growth-{}", axis.name());
            results::write(&self.docs.join(format!("{file}.json")), &results)?;
            for (name, plot) in growth::plots(axis, &results) {
                self.write(&name, &plot.svg())?;
            }
            self.write(&format!("{file}.md"), &growth::markdown(axis, &results))?;
            println!("{}", markdown::tables(&results));
        }
        Ok(())
    }
}

fn quick_plan(rounds: usize, seconds: f64) -> Plan {
    Plan {
        members: vec![3],
        rounds,
        seconds,
        workloads: quick_loads(),
        others: false,
        stores: vec![Store::Etcd, Store::Quorate],
    }
}

/// Where the guard's ratios are recorded.
fn recorded(docs: &Path) -> PathBuf {
    docs.join("bench-quick.json")
}

async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { folder, docs, command } = arguments;
    let run = Run::new(command.again(), folder, docs)?;
    match command {
        What::Full { rounds, seconds } => {
            let plan = Plan {
                members: vec![1, 3],
                rounds,
                seconds,
                workloads: full_loads(),
                others: true,
                stores: vec![Store::Etcd, Store::Quorate],
            };
            run.suite("bench", "Quorate beside etcd", &plan).await
        }
        What::Quick { rounds, seconds } => {
            run.suite("bench-quick", "Quorate beside etcd, the short form", &quick_plan(rounds, seconds))
                .await
        }
        What::Check => {
            let before: Results = results::read(&recorded(&run.docs))?;
            let rounds = before.rows.iter().map(|row| row.samples.len()).max().unwrap_or(5);
            let now = run.bench.run(&quick_plan(rounds, 2.0), &run.command, |_| Ok(())).await?;
            println!("{}", markdown::tables(&now));
            check::check(&before, &now)?;
            println!("no ratio is more than 15 % worse than recorded on {}", before.about.date);
            Ok(())
        }
        What::Growth { rounds, seconds, keys_max, only } => {
            run.growth(rounds, seconds, keys_max, only.as_deref()).await
        }
        What::Failover { kills, stops, flap_seconds, stores } => {
            let stores: Vec<Store> = stores.into_iter().map(Named::store).collect();
            run.failover(&stores, Times { kills, stops }, flap_seconds).await
        }
        What::Profile { seconds } => profile::run(&run.bench, &run.command, seconds, &run.docs).await,
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate-benchmarks: {error:#}");
            ExitCode::FAILURE
        }
    }
}
