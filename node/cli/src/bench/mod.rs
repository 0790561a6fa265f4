//! `quorate bench`: load on any server with etcd's v3 API.
//!
//! | module | what it does |
//! |---|---|
//! | `options` | what every load takes on the command line |
//! | `target`, `connection`, `slot`, `grpc`, `template` | a gRPC client that is cheap in CPU time |
//! | `keys`, `zipf` | which keys |
//! | `schedule` | when: closed and open loop |
//! | `workload/` | what |
//! | `recorder`, `report`, `progress` | how it went |
//! | `run` | threads around all of it |
//! | `echo` | a server that answers at once: the most that any store behind this gRPC stack can reach |

mod connection;
mod echo;
mod grpc;
mod keys;
mod options;
mod progress;
mod recorder;
mod report;
mod run;
mod schedule;
mod slot;
mod target;
mod template;
mod workload;
mod zipf;

use anyhow::{Result, bail};

use options::Load;
use run::Work;
use workload::mix::{Mix, Operation};

const EXAMPLES: &str = "\
Examples:
  64 clients write over 16 connections for 10 seconds:
    quorate bench put --endpoints http://127.0.0.1:2379
  the same load offered at a fixed rate, each operation measured from when it was due:
    quorate bench put --rate 5000 --duration 30s
  one client reads a million keys that are written first, for a program to read the results:
    quorate bench get --clients 1 --connections 1 --keys 1000000 --prepare -o json
  lists as the Kubernetes API server makes them, with TLS:
    quorate bench list --endpoints https://10.0.0.1:2379 --cacert ca.pem --cert me.pem --key me.key
  500 watchers, 200 puts a second:
    quorate bench watch --watchers 500 --streams 50 --rate 200
  mostly reads, few keys much more often than others:
    quorate bench mix --ratio put=10,get=85,range=5 --distribution zipf

Latencies of a closed loop (without --rate) say nothing about a server that is offered more than it can do: its
clients wait instead of asking. CPU of the generator is printed: on one machine a costly client hides the server.";

/// What to run.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Workload {
    /// Writes of single keys
    Put(#[command(flatten)] Load),
    /// Reads of single keys
    Get {
        #[command(flatten)]
        load: Load,
        /// What the member has, perhaps stale
        #[arg(long)]
        serializable: bool,
    },
    /// Reads of keys that follow each other
    Range {
        #[command(flatten)]
        load: Load,
        /// So many keys
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
        /// What the member has, perhaps stale
        #[arg(long)]
        serializable: bool,
    },
    /// Reads of all keys in pages at one revision, as Kubernetes lists
    List {
        #[command(flatten)]
        load: Load,
        /// Keys of a page
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
        page: u64,
    },
    /// Writes that happen only if nobody wrote the key since the client last saw it
    Txn(#[command(flatten)] Load),
    /// Puts that every watcher of all keys receives: "put" and "delivery", from sent to received
    Watch {
        #[command(flatten)]
        load: Load,
        /// Watchers
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        watchers: u32,
        /// gRPC streams that they share
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        streams: u32,
    },
    /// Leases that are granted first and kept alive then
    Lease {
        #[command(flatten)]
        load: Load,
        /// Leases, shared by the clients
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
        leases: u64,
        /// Seconds that each lives without being kept alive
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(i64).range(1..))]
        ttl: i64,
    },
    /// Serve puts and gets with nothing behind them: the most that a store of this gRPC stack can reach here
    Echo {
        /// Where
        #[arg(long, default_value = "127.0.0.1:2379")]
        listen: std::net::SocketAddr,
    },
    /// Several kinds at once
    Mix {
        #[command(flatten)]
        load: Load,
        /// Weights of put, get, range, list, txn
        #[arg(long, default_value = "put=20,get=80")]
        ratio: String,
        /// Keys of a range
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
        /// Gets and ranges take what the member has, perhaps stale
        #[arg(long)]
        serializable: bool,
    },
}

/// Runs a load and prints what happened.
///
/// # Errors
/// It can't begin, the connection was lost and not found again, or some operations failed (after the results are printed).
pub fn run(options: Options) -> Result<()> {
    /// Kubernetes' own page.
    const PAGE_KEYS: u64 = 500;
    let calls = |operation| Work::Calls(Mix::only(operation));
    let (name, load, work) = match options.workload {
        Workload::Put(load) => ("put", load, calls(Operation::Put)),
        Workload::Get { load, serializable } => ("get", load, calls(Operation::Get { serializable })),
        Workload::Range { load, count, serializable } => {
            ("range", load, calls(Operation::Range { keys: count, serializable }))
        }
        Workload::List { load, page } => ("list", load, calls(Operation::List { page })),
        Workload::Txn(load) => ("txn", load, calls(Operation::Swap)),
        Workload::Watch { load, watchers, streams } => ("watch", load, Work::Watch { watchers, streams }),
        Workload::Lease { load, leases, ttl } => ("lease", load, Work::Leases { leases, ttl_s: ttl }),
        Workload::Echo { listen } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            return runtime.block_on(echo::serve(listen));
        }
        Workload::Mix { load, ratio, count, serializable } => {
            let mix = Mix::parse(&ratio, count, PAGE_KEYS, serializable)?;
            ("mix", load, Work::Calls(mix))
        }
    };
    let result = run::run(name, &load, &work)?;
    print!("{}", report::render(&result, load.output)?);
    if let Some(why) = result.ended_early {
        return Err(why.context("the load ended early; the results are those until then"));
    }
    match (result.totals.succeeded(), result.totals.failed()) {
        (0, 0) => bail!("no operation was begun: the run was too short"),
        (_, 0) => Ok(()),
        (succeeded, failed) => bail!("{failed} of {} operations failed", succeeded + failed),
    }
}
