//! Stores beside each other: A B A B, each round on a fresh cluster, all loads of a round in the same order.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::load::{self, Kind, Said, Workload};
use super::machine::{self, About};
use super::results::{Results, Sample};
use super::store::{Binaries, Cluster, Store};
use super::usage::{Usage, disk_bytes};

/// The ceiling's name in tables.
pub const ECHO: &str = "empty echo";
/// The generator's name in tables.
pub const OWN: &str = "quorate bench";
/// See above.
pub const ETCD_BENCHMARK: &str = "etcd's benchmark";
/// See above.
pub const H2LOAD: &str = "h2load";

/// Programs, and a folder on a real disk that is removed at the end.
#[derive(Debug)]
pub struct Bench {
    /// The programs.
    pub binaries: Binaries,
    /// etcd's own generator.
    pub etcd_benchmark: PathBuf,
    folder: tempfile::TempDir,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sizes of clusters.
    pub members: Vec<usize>,
    /// Pairs of runs.
    pub rounds: usize,
    /// How long each load lasts.
    pub seconds: f64,
    /// Loads, in this order.
    pub workloads: Vec<Workload>,
    /// Once more with etcd's benchmark and h2load.
    pub others: bool,
    /// The stores.
    pub stores: Vec<Store>,
}

impl Bench {
    /// Makes a folder below `parent`.
    ///
    /// # Errors
    /// It can't be made, or lies in memory.
    pub fn new(binaries: Binaries, etcd_benchmark: PathBuf, parent: &Path) -> Result<Self> {
        std::fs::create_dir_all(parent)?;
        machine::need_real_disk(parent)?;
        let folder = tempfile::Builder::new().prefix("quorate-benchmarks-").tempdir_in(parent)?;
        Ok(Self { binaries, etcd_benchmark, folder })
    }

    /// Where data lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a fresh cluster.
    ///
    /// # Errors
    /// See [`Cluster::start`].
    pub async fn cluster(&self, store: Store, members: usize) -> Result<Cluster> {
        let folder = self.folder().join(format!("{}-{members}", store.name().replace([' ', ','], "")));
        Cluster::start(store, &self.binaries, members, &folder)
            .await
            .with_context(|| format!("{} with {members} members", store.name()))
    }

    /// Runs a plan; results so far are given to `keep` after each round, so that nothing is lost if a later one fails.
    ///
    /// # Errors
    /// A store does not start, or a load fails.
    pub async fn run(
        &self,
        plan: &Plan,
        command: &str,
        keep: impl Fn(&Results) -> Result<()>,
    ) -> Result<Results> {
        let about = About::now(command, &self.binaries, self.folder())?;
        let ceilings = machine::ceilings(self.folder())?;
        let mut results = Results { about, ceilings, rows: Vec::new() };
        for round in 1..=plan.rounds {
            self.echo(plan, &mut results)?;
            for members in &plan.members {
                for store in &plan.stores {
                    let shown =
                        format!("round {round} of {}, {}, {members} members", plan.rounds, store.name());
                    self.round(plan, *store, *members, &mut results).await.with_context(|| shown.clone())?;
                    eprintln!("{shown}: done");
                }
            }
            keep(&results)?;
        }
        Ok(results)
    }

    async fn round(&self, plan: &Plan, store: Store, members: usize, results: &mut Results) -> Result<()> {
        let cluster = self.cluster(store, members).await?;
        let endpoints = cluster.endpoints();
        let mut prepared = 0;
        for workload in &plan.workloads {
            if workload.keys > prepared {
                load::prepare(&self.binaries.quorate, workload, &endpoints)?;
                prepared = workload.keys;
            }
            let sample = measure(&cluster, || {
                load::quorate(&self.binaries.quorate, workload, &endpoints, plan.seconds)
            })
            .with_context(|| workload.name.clone())?;
            results.push((members, &workload.name, OWN, store.name()), sample);
        }
        if plan.others {
            self.others(plan, &cluster, store, results).await?;
        }
        cluster.end().await
    }

    async fn others(
        &self,
        plan: &Plan,
        cluster: &Cluster,
        store: Store,
        results: &mut Results,
    ) -> Result<()> {
        const CLIENTS: u32 = 64;
        /// Operations a second, about: these generators end by number.
        const PER_SECOND: f64 = 8_000.0;
        let total = (plan.seconds * PER_SECOND) as u64;
        let members = cluster.members.len();
        let leader = cluster.members[cluster.leader().await?].url.clone();
        for kind in [Kind::Put, Kind::Read] {
            let name = match kind {
                Kind::Put => format!("put, {CLIENTS} clients"),
                Kind::Read => format!("get, {CLIENTS} clients"),
            };
            let sample = measure(cluster, || {
                load::etcd_benchmark(&self.etcd_benchmark, kind, CLIENTS, &cluster.endpoints(), total)
            })?;
            results.push((members, &name, ETCD_BENCHMARK, store.name()), sample);
            let body = self.folder().join("body");
            load::write_body(kind, &body)?;
            // It takes one address: the leader's, for both stores.
            let sample = measure(cluster, || load::h2load(kind, CLIENTS, &leader, &body, total))?;
            results.push((members, &name, H2LOAD, store.name()), sample);
        }
        Ok(())
    }

    fn echo(&self, plan: &Plan, results: &mut Results) -> Result<()> {
        let echo = Echo::start(&self.binaries.quorate)?;
        for workload in &plan.workloads {
            // What it can answer.
            if !matches!(workload.words.first().map(String::as_str), Some("put" | "get")) {
                continue;
            }
            let before = super::usage::cpu_us_of(echo.process.id())?;
            let said = load::quorate(&self.binaries.quorate, workload, &echo.url, plan.seconds)?;
            let cpu_us = (super::usage::cpu_us_of(echo.process.id())? - before) / said.operations;
            let sample = sample(&said, cpu_us, 0.0, 0.0, 0.0);
            for members in &plan.members {
                results.push((*members, &workload.name, OWN, ECHO), sample);
            }
        }
        Ok(())
    }
}

fn sample(said: &Said, cpu_us: f64, syncs: f64, memory_bytes: f64, disk_bytes: f64) -> Sample {
    let Said { operations: _, per_second, p50_us, p99_us, p999_us, generator_us } = *said;
    Sample { per_second, p50_us, p99_us, p999_us, cpu_us, syncs, memory_bytes, disk_bytes, generator_us }
}

/// Runs a load and looks at the members before and after.
///
/// # Errors
/// The load fails, or a member does not answer.
pub fn measure(cluster: &Cluster, load: impl FnOnce() -> Result<Said>) -> Result<Sample> {
    let before = Usage::of(cluster)?;
    let said = load()?;
    let after = Usage::of(cluster)?;
    let each = |difference: f64| difference / said.operations.max(1.0);
    Ok(sample(
        &said,
        each(after.cpu_us - before.cpu_us),
        each(after.syncs - before.syncs),
        after.memory_bytes,
        disk_bytes(cluster.folder())?,
    ))
}

/// The echo server, a process of its own as the stores are.
struct Echo {
    process: Child,
    url: String,
}

impl Echo {
    fn start(quorate: &Path) -> Result<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = free.local_addr()?;
        drop(free);
        let process = Command::new(quorate)
            .args(["bench", "echo", &format!("--listen={address}")])
            .stdin(Stdio::null())
            .spawn()?;
        let echo = Self { process, url: format!("http://{address}") };
        crate::command::until("the echo server", Duration::from_secs(10), || {
            Ok(std::net::TcpStream::connect(address)?)
        })?;
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
