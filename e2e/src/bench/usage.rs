//! What members use: processor time, memory, disk, syncs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::store::Cluster;

/// Linux counts processor time for other processes in hundredths of a second.
const TICK_US: f64 = 10_000.0;
/// Metrics, on loopback.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);

/// Sums over all members.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, in microseconds.
    pub cpu_us: f64,
    /// Syncs of logs and of backends.
    pub syncs: f64,
    /// Seconds that syncs of logs took.
    pub wal_sync_s: f64,
    /// Resident memory.
    pub memory_bytes: f64,
    /// The most changes of leader that one of them saw.
    pub leader_changes: f64,
}

impl Usage {
    /// Reads it.
    ///
    /// # Errors
    /// A member does not run, or does not tell its metrics.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let mut sum = Self::default();
        for member in &cluster.members {
            let pid = member.pid()?;
            let metrics = metrics(&member.url)?;
            sum.cpu_us += cpu_us_of(pid)?;
            sum.memory_bytes += memory_bytes(&std::fs::read_to_string(format!("/proc/{pid}/status"))?)?;
            let value = |name: &str| metric(&metrics, name);
            sum.syncs += value("etcd_disk_wal_fsync_duration_seconds_count")?;
            sum.syncs += value("etcd_disk_backend_commit_duration_seconds_count")?;
            sum.wal_sync_s += value("etcd_disk_wal_fsync_duration_seconds_sum")?;
            sum.leader_changes = sum.leader_changes.max(value("etcd_server_leader_changes_seen_total")?);
        }
        Ok(sum)
    }
}

/// User and system time of a process, in microseconds.
///
/// # Errors
/// It does not run.
pub fn cpu_us_of(pid: u32) -> Result<f64> {
    cpu_us(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// User and system time from the text of `/proc/PID/stat`.
fn cpu_us(stat: &str) -> Result<f64> {
    // The second field is the program's name in parentheses and may have spaces.
    let rest = stat.rsplit_once(')').context("no process stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields 14 and 15 of the whole line.
    let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) else { bail!("a short process stat") };
    Ok((user.parse::<f64>()? + system.parse::<f64>()?) * TICK_US)
}

/// Resident memory from the text of `/proc/PID/status`.
fn memory_bytes(status: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib = line.trim().trim_end_matches(" kB");
    Ok(kib.trim().parse::<f64>()? * 1024.0)
}

/// The text that a scraper gets.
///
/// # Errors
/// The member does not answer.
pub fn metrics(url: &str) -> Result<String> {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(METRICS_TIMEOUT))?;
    // HTTP/1.0: the body ends with the connection and comes in one piece.
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    if !head.contains(" 200 ") {
        bail!("{url}/metrics: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

/// One metric without labels.
fn metric(text: &str, name: &str) -> Result<f64> {
    let line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<f64>().ok();
    text.lines().find_map(line).with_context(|| format!("the metric {name} is missing"))
}

/// Bytes that a folder takes on its disk.
///
/// # Errors
/// It can't be read.
pub fn disk_bytes(folder: &Path) -> Result<f64> {
    /// The unit of `st_blocks`, whatever the file system's own.
    const BLOCK_BYTES: u64 = 512;
    let mut sum = 0.0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum += disk_bytes(&entry.path())?,
            Ok(metadata) => sum += (metadata.blocks() * BLOCK_BYTES) as f64,
            // Members remove files while this looks.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_us(stat).unwrap(), 2_000_000.0);
        assert!(cpu_us("7 (a) S 1").is_err());
        assert_eq!(memory_bytes("Name:\ta\nVmRSS:\t    2048 kB\n").unwrap(), 2_097_152.0);
    }

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        let text = "# HELP a b\na_total 3\na 1.5e3\na_bucket{le=\"1\"} 2\n";
        assert_eq!(metric(text, "a").unwrap(), 1_500.0);
        assert_eq!(metric(text, "a_total").unwrap(), 3.0);
        assert!(metric(text, "b").is_err());
    }
}
