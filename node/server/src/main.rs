//! `quorate-node`: one member of a Quorate store.

use std::process::ExitCode;

use quorate_server::config::{Config, flags};
use quorate_server::http::ETCD_VERSION;
use quorate_server::run::{self, RunError};
use tracing_subscriber::EnvFilter;

/// The system's allocator takes a tenth of a member's CPU time under load.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The data directory is empty although the member has taken part: somebody must replace the member.
const EXIT_DATA_LOST: u8 = 3;
/// The start line is wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let asks = |names: &[&str]| std::env::args().skip(1).any(|argument| names.contains(&argument.as_str()));
    if asks(&["--help", "-help", "-h"]) {
        print!("{}", flags::help());
        return ExitCode::SUCCESS;
    }
    if asks(&["--version", "-version"]) {
        // The second line is how etcd's tools find out what they may ask for.
        println!("quorate-node {}\netcd Version: {ETCD_VERSION}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match Config::from_process() {
        Ok((config, ignored)) => start(config, &ignored),
        Err(error) => {
            eprintln!("quorate-node: {error}\nTry quorate-node --help.");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Threads that serve connections: one core is left to syncs of the log and to the engine, and where there is no other, one
/// thread serves all, which spares wake-ups between threads.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

/// The allocator asks for huge pages, and what it takes is cleared and stays resident two megabytes at a time: under load of
/// many clients a quarter of a member's CPU time went there.
fn without_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(error = &error as &dyn std::error::Error, "huge pages stay");
    }
}

fn start(config: Config, ignored: &[&str]) -> ExitCode {
    let filter = EnvFilter::try_new(format!("{},lsm_tree=warn,h2=warn", config.log_level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if config.log_json {
        log.json().init()
    } else {
        log.init()
    }
    without_huge_pages();
    for flag in ignored {
        tracing::info!("--{flag} has no effect here");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "no threads");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the member must end");
            match error {
                RunError::Bootstrap(quorate_server::bootstrap::BootstrapError::Lost { .. }) => {
                    ExitCode::from(EXIT_DATA_LOST)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}
