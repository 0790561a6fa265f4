//! A line each second while a load runs.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Instant;

use super::options::Load;
use super::recorder::Recorder;

/// The line, on stderr: results alone are on stdout.
#[derive(Debug)]
pub(super) struct Progress {
    workload: &'static str,
    terminal: bool,
    shown: bool,
    began: Instant,
    last: (Instant, u64),
}

impl Progress {
    pub(super) fn new(workload: &'static str, load: &Load, began: Instant) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { workload, terminal, shown: terminal || load.progress, began, last: (began, 0) }
    }

    /// Shows how far it is.
    pub(super) fn show(&mut self, recorders: &[Arc<Recorder>]) {
        if !self.shown {
            return;
        }
        let counts = recorders.iter().map(|recorder| recorder.counts());
        let (succeeded, failed) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let now = Instant::now();
        let (before, known) = std::mem::replace(&mut self.last, (now, succeeded));
        let rate = (succeeded - known) as f64 / (now - before).as_secs_f64();
        let line = format!(
            "{}: {:.0} s, {succeeded} operations, {rate:.0}/s, {failed} failed",
            self.workload,
            self.began.elapsed().as_secs_f64()
        );
        if self.terminal {
            // Back to the line's beginning, and away with what was there.
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }

    /// Leaves the terminal's line.
    pub(super) fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
