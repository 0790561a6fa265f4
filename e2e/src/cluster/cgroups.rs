//! One cgroup per node in every hierarchy: kubelet puts its pods below it, and their processes are found by it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::layout::{NODES, Node};

const ROOT: &str = "/sys/fs/cgroup";
/// Killed processes are gone after this time, or the kernel keeps them.
const END_TIMEOUT: Duration = Duration::from_secs(10);

fn is_unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Every hierarchy of this machine.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if is_unified() {
        return Ok(vec![ROOT.into()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(ROOT).context("this machine has no cgroups")? {
        let entry = entry?;
        // Links are other names of the same hierarchy.
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Creates a node's.
pub(super) fn create(node: &Node) -> Result<()> {
    if is_unified() {
        let controllers = std::fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))?;
        let wanted = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];
        let all: Vec<String> = controllers
            .split_whitespace()
            .filter(|controller| wanted.contains(controller))
            .map(|controller| format!("+{controller}"))
            .collect();
        // A controller that can't be handed on is one that kubelet will name.
        let _ = std::fs::write(Path::new(ROOT).join("cgroup.subtree_control"), all.join(" "));
    }
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(node.cgroup());
        std::fs::create_dir_all(&folder).with_context(|| format!("can't create {}", folder.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (hierarchy.join(file), folder.join(file));
            if from.exists() && to.exists() && !is_unified() {
                std::fs::write(to, std::fs::read_to_string(from)?)?;
            }
        }
    }
    Ok(())
}

fn folders() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for hierarchy in hierarchies()? {
        for node in &NODES {
            collect(&hierarchy.join(node.cgroup()), &mut found);
        }
    }
    Ok(found)
}

/// Children before parents.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        collect(&entry.path(), found);
    }
    found.push(folder.to_path_buf());
}

/// Kills every process in them.
pub(super) fn end_all() -> Result<()> {
    let began = Instant::now();
    loop {
        let pids: Vec<i32> = folders()?
            .iter()
            .filter_map(|folder| std::fs::read_to_string(folder.join("cgroup.procs")).ok())
            .flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        if pids.is_empty() {
            return Ok(());
        }
        if began.elapsed() > END_TIMEOUT {
            anyhow::bail!("processes of pods can't be ended: {pids:?}");
        }
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Removes them.
pub(super) fn remove() -> Result<()> {
    for folder in folders()? {
        std::fs::remove_dir(&folder).with_context(|| format!("can't remove {}", folder.display()))?;
    }
    Ok(())
}
