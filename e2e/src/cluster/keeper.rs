//! A process that ends the embedded Kubernetes when the one that started it has ended, however that ended: a test that fails, panics,
//! is interrupted or killed leaves logs behind and nothing that runs.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use super::processes::{lab_program, started_at};
use super::{Cluster, lock};

/// Names a process for ever: its number and when it started.
pub(super) fn this_process() -> String {
    let pid = std::process::id();
    let ticks = i32::try_from(pid).ok().and_then(started_at).unwrap_or_default();
    format!("{pid} {ticks}")
}

impl Cluster {
    /// Has the cluster ended with this process, if [`Cluster::up`] of this process is going to start it; one that runs already
    /// belongs to somebody else, and stays.
    ///
    /// # Errors
    /// `quorate-lab` is not built.
    pub fn end_with_this_process(&self) -> Result<Option<Child>> {
        if self.is_up() {
            return Ok(None);
        }
        let mut keeper = Command::new(lab_program()?);
        // A Ctrl-C at the terminal is not for it. Its input ends when this process does: nobody else has the other end.
        keeper.args(["keeper", "--owner", &this_process()]).process_group(0).stdin(Stdio::piped());
        keeper.spawn().context("can't start the keeper").map(Some)
    }

    /// The keeper's part: waits until its input ends, and ends what `owner` started. The logs stay.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn end_after(&self, owner: &str) -> Result<()> {
        std::io::stdin().read_to_end(&mut Vec::new())?;
        let _lock = lock()?;
        let now = std::fs::read_to_string(self.layout.owner_file()).unwrap_or_default();
        if now != owner {
            return Ok(());
        }
        self.end()?;
        self.layout.remove_all_but_logs()?;
        let [parts, pods] = self.layout.kept_logs();
        println!(
            "the embedded Kubernetes is ended; its logs stay in {parts}, those of pods in {pods} (make kubernetes-down removes them)"
        );
        Ok(())
    }
}
