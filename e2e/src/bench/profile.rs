//! Where a member's time goes: flame graphs, processor time by layer, allocations, and how long a lone Put waits for what.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::flame::{self, Stacks};
use super::load::{self, Workload};
use super::machine::{self, About};
use super::markdown::latency;
use super::results::{Ceiling, Sample};
use super::store::{Cluster, Store};
use super::suite::{Bench, measure};
use super::usage::Usage;
use crate::command;

/// Samples a second and thread; no divisor of a timer's ticks.
const FREQUENCY: u32 = 499;
/// Bytes of stack that are kept of each sample: futures inside futures are deep.
const STACK_BYTES: u32 = 32_768;
/// What the program's allocator, mimalloc, is called by.
const ALLOCATORS: [&str; 3] = ["mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"];
/// The group of the probes on them.
const PROBES: &str = "quorate";

/// Layers, and the names of functions that belong to them. The innermost frame that is in any decides.
const LAYERS: [(&str, &[&str]); 11] = [
    ("sync of the log", &["fdatasync", "fsync", "sync_data"]),
    (
        "log: records, checksums, writes",
        &["quorate_storage::wal", "quorate_storage::disk", "quorate_storage::snapshot"],
    ),
    ("backend: engine below the state", &["quorate_storage::backend", "fjall", "lsm_tree"]),
    ("apply and reads: state machine", &["quorate_state"]),
    ("consensus", &["quorate_consensus"]),
    ("replica: batches, who waits, envelopes", &["quorate_replica"]),
    ("encoding and decoding of messages", &["prost", "quorate_api"]),
    ("peers: transport", &["quorate_server::transport"]),
    ("driver", &["quorate_server::driver"]),
    ("services: checks, answers, metrics", &["quorate_server"]),
    ("gRPC and HTTP/2", &["h2::", "hyper", "tonic", "tower", "http::", "http_body", "axum"]),
];
/// The runtime's own, if nothing above is further in.
const RUNTIME: &str = "runtime: scheduling, sockets";

fn layer(frames: &[String]) -> &'static str {
    let of = |frame: &String| {
        LAYERS
            .iter()
            .find(|(_, names)| names.iter().any(|name| frame.contains(name)))
            .map(|(layer, _)| *layer)
    };
    frames.iter().rev().find_map(of).unwrap_or_else(|| {
        if frames.iter().any(|frame| frame.contains("tokio") || frame.contains("mio::")) {
            RUNTIME
        } else {
            "other"
        }
    })
}

/// Samples by layer, the most first.
fn by_layer(stacks: &Stacks) -> Vec<(&'static str, f64)> {
    let mut shares: Vec<(&'static str, f64)> = Vec::new();
    let all = stacks.samples().max(1) as f64;
    for (frames, samples) in &stacks.0 {
        let (name, share) = (layer(frames), *samples as f64 / all);
        match shares.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += share,
            None => shares.push((name, share)),
        }
    }
    shares.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

/// What one load showed.
struct Profile {
    stacks: Stacks,
    sample: Sample,
    allocations: Option<f64>,
}

fn perf(words: &[String]) -> Result<Child> {
    Command::new("perf")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("perf is in Debian's linux-perf: apt-get install linux-perf")
}

/// Runs a load and records stacks of one member meanwhile.
fn record(
    bench: &Bench,
    cluster: &Cluster,
    pid: u32,
    workload: &Workload,
    seconds: f64,
) -> Result<(Stacks, Sample)> {
    let data = bench.folder().join("perf.data");
    // It ends by itself with the load: the sleep is the load's length.
    let words = format!(
        "record -q -F {FREQUENCY} --call-graph dwarf,{STACK_BYTES} -p {pid} -o {} -- sleep {seconds}",
        data.display()
    );
    let recorder = perf(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())?;
    let sample =
        measure(cluster, || load::quorate(&bench.binaries.quorate, workload, &cluster.endpoints(), seconds))?;
    let ended = recorder.wait_with_output()?;
    if !ended.status.success() {
        bail!("perf record: {}", String::from_utf8_lossy(&ended.stderr).trim());
    }
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"]).arg(&data);
    let stacks = Stacks::parse(&command::output(&mut script)?);
    std::fs::remove_file(&data)?;
    if stacks.samples() == 0 {
        bail!("perf took no samples");
    }
    Ok((stacks, sample))
}

/// Calls of allocation functions for one operation, by all members; nothing where probes can't be set.
fn allocations(bench: &Bench, cluster: &Cluster, workload: &Workload) -> Option<f64> {
    const SECONDS: f64 = 3.0;
    let program = bench.binaries.node.to_str()?;
    let probe = |words: &[&str]| command::output(Command::new("perf").args(["probe", "-q"]).args(words));
    for name in ALLOCATORS {
        probe(&["-x", program, &format!("{PROBES}:{name}={name}")]).ok()?;
    }
    let events = ALLOCATORS.map(|name| format!("{PROBES}:{name}")).join(",");
    let pids: Vec<String> =
        cluster.members.iter().filter_map(|member| member.pid().ok()).map(|pid| pid.to_string()).collect();
    let words =
        ["stat", "-x", ",", "-e", &events, "-p", &pids.join(","), "--", "sleep", &SECONDS.to_string()]
            .map(str::to_owned);
    let counted = perf(&words).ok().and_then(|counter| {
        let said = load::quorate(&bench.binaries.quorate, workload, &cluster.endpoints(), SECONDS);
        let text = counter.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&text.stderr).into_owned();
        let calls: f64 =
            text.lines().filter_map(|line| line.split(',').next()?.trim().parse::<f64>().ok()).sum();
        Some(calls / said.ok()?.operations)
    });
    for name in ALLOCATORS {
        let _ = probe(&["-d", &format!("{PROBES}:{name}")]);
    }
    counted.filter(|count| *count > 0.0)
}

fn profile(bench: &Bench, cluster: &Cluster, pid: u32, workload: &Workload, seconds: f64) -> Result<Profile> {
    let (stacks, sample) = record(bench, cluster, pid, workload, seconds)?;
    let plain =
        measure(cluster, || load::quorate(&bench.binaries.quorate, workload, &cluster.endpoints(), seconds))?;
    // Samples tell shares; times are those of a load that nobody sampled.
    let sample = Sample { generator_us: sample.generator_us, ..plain };
    Ok(Profile { stacks, sample, allocations: allocations(bench, cluster, workload) })
}

/// Lone puts: their median, and the mean sync meanwhile.
struct Lone {
    put: Sample,
    sync_us: f64,
}

fn lone(bench: &Bench, cluster: &Cluster, seconds: f64) -> Result<Lone> {
    let before = Usage::of(cluster)?;
    let put = measure(cluster, || {
        load::quorate(&bench.binaries.quorate, &Workload::new("put", 1, 1), &cluster.endpoints(), seconds)
    })?;
    let after = Usage::of(cluster)?;
    Ok(Lone { put, sync_us: (after.wal_sync_s - before.wal_sync_s) / (after.syncs - before.syncs) * 1e6 })
}

/// Marks in budget.md between which this program writes; the rest is kept.
const BEGIN: &str = "<!-- measured: written by `make profile` -->";
const END: &str = "<!-- end of what is measured -->";

/// Writes the flame graphs and the measured part of the budget.
///
/// # Errors
/// perf is missing or may not look, or a load fails.
pub async fn run(bench: &Bench, command: &str, seconds: f64, docs: &Path) -> Result<()> {
    let about = About::now(command, &bench.binaries, bench.folder())?;
    let ceilings = machine::ceilings(bench.folder())?;
    let cluster = bench.cluster(Store::Quorate, 3).await?;
    let (put, get) = (Workload::new("put", 64, 16), Workload::new("get", 64, 16));
    load::prepare(&bench.binaries.quorate, &get, &cluster.endpoints())?;
    let lone = lone(bench, &cluster, seconds)?;
    let leader = cluster.members[cluster.leader().await?].pid()?;
    let puts = profile(bench, &cluster, leader, &put, seconds)?;
    let gets = profile(bench, &cluster, leader, &get, seconds)?;
    cluster.end().await?;
    std::fs::create_dir_all(docs)?;
    let graph = |file: &str, title: &str, profile: &Profile| {
        std::fs::write(docs.join(file), flame::svg(title, &profile.stacks))
    };
    graph("flame-put.svg", "The leader under puts of 64 clients", &puts)?;
    graph("flame-get.svg", "The leader under linearizable gets of 64 clients", &gets)?;
    let measured = budget(&about, &ceilings, &lone, &puts, &gets);
    let path = docs.join("budget.md");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(&path, replaced(&kept, &measured))?;
    Ok(())
}

/// The text with the part between the marks replaced; they are added where they are missing.
fn replaced(kept: &str, measured: &str) -> String {
    let (before, after) = match (kept.split_once(BEGIN), kept.split_once(END)) {
        (Some((before, _)), Some((_, after))) => (before, after),
        _ => ("# The budget of one Put\n\n", "\n"),
    };
    format!("{before}{BEGIN}\n\n{measured}\n{END}{after}")
}

fn budget(about: &About, ceilings: &[Ceiling], lone: &Lone, puts: &Profile, gets: &Profile) -> String {
    let mut text = format!("{}\n", about.markdown());
    let _ = writeln!(text, "## Processor time, 64 clients on 16 connections, three members\n");
    let _ = writeln!(
        text,
        "All members together: {:.0} us for a put ({:.2} syncs), {:.0} us for a linearizable get. Shares are the leader's samples; \
         the microseconds are these shares of the sums.\n",
        puts.sample.cpu_us, puts.sample.syncs, gets.sample.cpu_us
    );
    text.push_str("| layer | put | us | get | us |\n|---|---|---|---|---|\n");
    let (of_puts, of_gets) = (by_layer(&puts.stacks), by_layer(&gets.stacks));
    let mut layers: Vec<&str> = of_puts.iter().map(|(layer, _)| *layer).collect();
    layers.extend(
        of_gets.iter().map(|(layer, _)| *layer).filter(|layer| of_puts.iter().all(|put| put.0 != *layer)),
    );
    for layer in layers {
        let share = |shares: &[(&str, f64)]| {
            shares.iter().find(|(name, _)| *name == layer).map_or(0.0, |(_, share)| *share)
        };
        let (put, get) = (share(&of_puts), share(&of_gets));
        let _ = writeln!(
            text,
            "| {layer} | {:.1} % | {:.1} | {:.1} % | {:.1} |",
            put * 100.0,
            put * puts.sample.cpu_us,
            get * 100.0,
            get * gets.sample.cpu_us
        );
    }
    let count = |count: Option<f64>| count.map_or("not counted".to_owned(), |count| format!("{count:.0}"));
    let _ = writeln!(
        text,
        "\nCalls of {} by all members: {} for a put, {} for a get.\n\n![put](flame-put.svg)\n![get](flame-get.svg)\n",
        ALLOCATORS.join(", "),
        count(puts.allocations),
        count(gets.allocations)
    );
    let _ = writeln!(text, "## A lone put, three members\n\n| part | time |\n|---|---|");
    let _ = writeln!(text, "| whole, median of one client | {} |", latency(lone.put.p50_us.unwrap_or(0.0)));
    let _ = writeln!(text, "| one sync of a member's log, mean | {} |", latency(lone.sync_us));
    for ceiling in ceilings {
        let _ = writeln!(text, "| {}, median | {} |", ceiling.what, latency(ceiling.p50_us));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_innermost_known_frame_decides() {
        let sync = frames(&["t", "tokio::run", "quorate_storage::wal::Wal::flush", "fdatasync", "syscall"]);
        assert_eq!(layer(&sync), "sync of the log");
        assert_eq!(layer(&frames(&["t", "tokio::run", "h2::send", "malloc"])), "gRPC and HTTP/2");
        assert_eq!(
            layer(&frames(&["t", "quorate_state::apply", "fjall::write"])),
            "backend: engine below the state"
        );
        assert_eq!(layer(&frames(&["t", "tokio::park", "epoll_wait"])), RUNTIME);
        assert_eq!(layer(&frames(&["t", "start_thread"])), "other");
    }

    #[test]
    fn shares_add_up() {
        let mut stacks = Stacks::default();
        stacks.0.insert(frames(&["t", "h2::a"]), 3);
        stacks.0.insert(frames(&["t", "hyper::b"]), 3);
        stacks.0.insert(frames(&["t", "c"]), 2);
        assert_eq!(by_layer(&stacks), [("gRPC and HTTP/2", 0.75), ("other", 0.25)]);
    }

    #[test]
    fn what_people_wrote_is_kept() {
        let first = replaced("", "slow");
        let written = format!("{first}## Levers\n");
        let second = replaced(&written, "fast");
        assert!(second.contains("fast") && !second.contains("slow") && second.ends_with("## Levers\n"));
    }
}
