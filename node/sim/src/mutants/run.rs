//! All hunts of one run, on a few threads.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_consensus::kind::ProtocolKind;

use super::hunt::{self, Hunt, Place};
use super::{Bug, table};
use crate::panics;

/// What to hunt.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only bugs with one of these in their names; all if empty.
    pub only: Vec<String>,
    /// Processor time for one bug, at most.
    pub budget: Duration,
    /// Threads.
    pub jobs: usize,
    /// Seeds of each protocol that are run without any bug first.
    pub sound_seeds: u64,
    /// Where to write the result as a document, if anywhere.
    pub docs: Option<PathBuf>,
    /// The day that the document names.
    pub date: String,
    /// The command that the document names.
    pub command: String,
}

/// Runs worlds without a bug, then hunts every bug, tells of each on standard error, and prints the table on standard output.
/// Whether all bugs were caught, and nothing without one.
#[must_use]
pub fn run(options: &Options) -> bool {
    panics::keep();
    let (sound, sound_said) = sound(options.sound_seeds);
    println!("{sound_said}\n");
    let wanted = |bug: &Bug| {
        options.only.is_empty() || options.only.iter().any(|part| bug.name().contains(part.as_str()))
    };
    let bugs: Vec<Bug> = Bug::all().into_iter().filter(wanted).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some(&bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = hunt::hunt(bug, options.budget);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    eprintln!("{:>3}/{} {}", done.len() + 1, bugs.len(), table::line(&hunt));
                    done.push(hunt);
                }
            });
        }
    });
    let mut hunts: Vec<Hunt> = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    hunts.sort_by_key(|hunt| bugs.iter().position(|bug| *bug == hunt.bug));
    println!("{}", table::HEAD);
    hunts.iter().for_each(|hunt| println!("{}", table::line(hunt)));
    println!("\n{}", table::summary(&hunts));
    let document = || table::document(&hunts, &options.date, &options.command, &sound_said);
    let written = options.docs.as_ref().map_or(Ok(()), |path| fs::write(path, document()));
    if let Err(error) = &written {
        eprintln!("the document was not written: {error}");
    }
    written.is_ok() && sound && !hunts.is_empty() && hunts.iter().all(|hunt| hunt.catch.is_some())
}

/// Whether worlds without a bug show nothing, and a sentence that says it.
fn sound(seeds: u64) -> (bool, String) {
    let mut failed = 0;
    for protocol in ProtocolKind::ALL {
        for seed in 1..=seeds {
            if let Some(what) = hunt::finding(Place::World(protocol), seed) {
                failed += 1;
                eprintln!("without a bug: {protocol}, {seed}: {}", table::said(&what.what));
            }
        }
    }
    let worlds = seeds * ProtocolKind::ALL.len() as u64;
    (failed == 0, format!("Without a bug {failed} of {worlds} worlds failed a check"))
}
