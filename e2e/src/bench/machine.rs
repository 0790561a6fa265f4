//! When and where something was measured, and with what; and what the machine can do at all.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::results::Ceiling;
use super::store::Binaries;
use crate::command;
use crate::tools::repository;

/// When, where, with what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// The day and minute, in UTC.
    pub date: String,
    /// What was typed.
    pub command: String,
    /// This repository's commit; "changed" if files differ from it.
    pub commit: String,
    /// etcd's version.
    pub etcd: String,
    /// Processor and cores.
    pub processor: String,
    /// Main memory.
    pub memory: String,
    /// Kernel and distribution.
    pub system: String,
    /// The file system of the data.
    pub disk: String,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim_start_matches([':', '=', ' ', '\t']).trim_matches('"').to_owned()
}

impl About {
    /// Looks around. Data lies in `folder`.
    ///
    /// # Errors
    /// etcd does not tell its version.
    pub fn now(command: &str, binaries: &Binaries, folder: &Path) -> Result<Self> {
        let git = |words: &[&str]| {
            command::output(Command::new("git").arg("-C").arg(repository()).args(words)).unwrap_or_default()
        };
        let changed = if git(&["status", "--porcelain", "-uno"]).is_empty() { "" } else { ", changed" };
        let etcd = command::output(Command::new(&binaries.etcd).arg("--version"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory_kib: f64 =
            field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
        Ok(Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            command: command.to_owned(),
            commit: format!("{}{changed}", git(&["rev-parse", "--short", "HEAD"]).trim()),
            etcd: field(&etcd, "etcd Version"),
            processor: format!("{cores} cores, {}", field(&read("/proc/cpuinfo"), "model name")),
            memory: format!("{:.0} GiB", memory_kib / f64::from(1 << 20)),
            system: format!(
                "Linux {}, {}",
                read("/proc/sys/kernel/osrelease").trim(),
                field(&read("/etc/os-release"), "PRETTY_NAME")
            ),
            disk: file_system(folder),
        })
    }

    /// As a Markdown list.
    #[must_use]
    pub fn markdown(&self) -> String {
        let Self { date, command, commit, etcd, processor, memory, system, disk } = self;
        format!(
            "Measured {date} by `{command}`: Quorate at {commit}, etcd {etcd}; {processor}, {memory} of memory, \
             {system}, data on {disk}.\n"
        )
    }
}

/// The kind of file system a folder lies on, by its longest mount point.
fn file_system(folder: &Path) -> String {
    let mounts = read("/proc/mounts");
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let fields = |line: &str| {
        let mut words = line.split(' ').skip(1).map(str::to_owned);
        Some((words.next()?, words.next()?))
    };
    let containing = mounts.lines().filter_map(fields).filter(|(point, _)| folder.starts_with(point));
    containing.max_by_key(|(point, _)| point.len()).map_or_else(|| "unknown".into(), |(_, kind)| kind)
}

/// Refuses a folder in memory, where a sync costs nothing.
///
/// # Errors
/// It is one.
pub fn need_real_disk(folder: &Path) -> Result<()> {
    let kind = file_system(folder);
    if ["tmpfs", "ramfs", "ramdisk"].contains(&kind.as_str()) {
        bail!("{} lies in memory ({kind}): choose a folder on a disk with --folder", folder.display());
    }
    Ok(())
}

fn ceiling(what: &str, mut times_us: Vec<f64>) -> Ceiling {
    times_us.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times_us[((times_us.len() - 1) as f64 * share) as usize];
    Ceiling { what: what.to_owned(), p50_us: at(0.5), p99_us: at(0.99) }
}

fn timed(rounds: usize, mut once: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    (0..rounds)
        .map(|_| {
            let began = Instant::now();
            once()?;
            Ok(began.elapsed().as_secs_f64() * 1e6)
        })
        .collect()
}

/// The disk's and the network's own times.
///
/// # Errors
/// The folder can't be written to, or there is no loopback.
pub fn ceilings(folder: &Path) -> Result<Vec<Ceiling>> {
    const BLOCK: [u8; 4096] = [7; 4096];
    const MESSAGE_BYTES: usize = 300;
    const ROUNDS: usize = 2_000;
    let path = folder.join("sync");
    let mut file = File::create(&path).with_context(|| format!("can't write to {}", folder.display()))?;
    let syncs = timed(ROUNDS, || {
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        Ok(())
    })?;
    std::fs::remove_file(&path)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut message = [0; MESSAGE_BYTES];
        while stream.read_exact(&mut message).is_ok() {
            stream.write_all(&message)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE_BYTES];
    let trips = timed(ROUNDS, || {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        Ok(())
    })?;
    drop(stream);
    let _ = echo.join();
    Ok(vec![
        ceiling("one fdatasync of 4 KiB that were appended", syncs),
        ceiling("one round trip of 300 bytes over loopback", trips),
    ])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Of no machine.
    pub(in crate::bench) fn about() -> About {
        let unknown = String::new;
        About {
            date: unknown(),
            command: unknown(),
            commit: unknown(),
            etcd: unknown(),
            processor: unknown(),
            memory: unknown(),
            system: unknown(),
            disk: unknown(),
        }
    }

    #[test]
    fn memory_is_no_disk() {
        assert_eq!(file_system(Path::new("/proc/self")), "proc");
        if file_system(Path::new("/dev/shm")) == "tmpfs" {
            assert!(need_real_disk(Path::new("/dev/shm")).is_err());
        }
    }

    #[test]
    fn fields_are_read_in_all_their_forms() {
        assert_eq!(field("a\nmodel name\t: X 3\n", "model name"), "X 3");
        assert_eq!(field("PRETTY_NAME=\"Debian\"\n", "PRETTY_NAME"), "Debian");
        assert_eq!(field("etcd Version: 3.7.3\n", "etcd Version"), "3.7.3");
    }
}
