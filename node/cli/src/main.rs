//! `quorate`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use quorate_cli::{bench, playground, snapshot};

/// Tools around the Quorate store. (Keys are read and written with etcdctl.)
#[derive(Parser)]
#[command(name = "quorate", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load on any server with etcd's v3 API: throughput, latencies, errors, and what the generator itself cost
    Bench(Box<bench::Options>),
    /// Members on this machine's loopback in one terminal, with a live view of who leads; to try the store alone
    Playground(playground::Options),
    /// Snapshot files, as `etcdctl snapshot save` writes them
    Snapshot {
        #[command(subcommand)]
        command: Snapshot,
    },
}

#[derive(Subcommand)]
enum Snapshot {
    /// Check a snapshot and say what is inside
    Status {
        /// The file
        file: PathBuf,
    },
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Bench(options) => bench::run(*options),
        Command::Playground(options) => playground::run(options),
        Command::Snapshot { command: Snapshot::Status { file } } => snapshot::status(&file),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
