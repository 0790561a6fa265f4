//! How long no write is acknowledged when the leader is killed or stopped, and whether leaders change under load alone.
//!
//! A put is offered to every member every few milliseconds, whatever became of those before: the gap between
//! acknowledgements from anybody is the store's own, without the timeouts and retries of a particular client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use quorate_api::etcdserverpb::PutRequest;
use quorate_api::etcdserverpb::kv_client::KvClient;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::load::{self, Workload};
use super::machine::About;
use super::results::Spread;
use super::store::{Cluster, Store};
use super::suite::Bench;
use super::svg::{Plot, Scale, Series};
use super::usage::Usage;

/// Between two puts offered to one member; the gap is known to about a third of it.
const OFFER: Duration = Duration::from_millis(5);
/// Puts that one member has not answered; more are not offered to it.
const UNANSWERED_MAX: usize = 128;
/// A put without an answer is given up after this: before so many are unanswered that no more are offered, or a member that
/// lost some would look silent until they end.
const GIVE_UP: Duration = Duration::from_millis(600);
/// Acknowledgements must have come this long without a new gap before a fault counts as over.
const CALM: Duration = Duration::from_millis(500);
/// Longer than this nobody waits for.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the acknowledgements.
const LOOK: Duration = Duration::from_millis(20);

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL: the process ends, its connections are reset.
    Kill,
    /// SIGSTOP: the process stays and says nothing; SIGCONT when others have served for a while.
    Stop,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Stop => "SIGSTOP",
        }
    }
}

/// How often each fault happens to each store.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// See [`Fault::Kill`].
    pub kills: usize,
    /// See [`Fault::Stop`].
    pub stops: usize,
}

/// Gaps of one store under one fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gaps {
    /// The store.
    pub store: Store,
    /// The fault.
    pub fault: Fault,
    /// One for each fault, in the order they happened.
    pub gaps_ms: Vec<f64>,
}

/// Changes of leader under load without faults.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flaps {
    /// The store.
    pub store: Store,
    /// How long the load lasted.
    pub seconds: f64,
    /// Puts a second.
    pub per_second: f64,
    /// The most changes that one member saw.
    pub leader_changes: f64,
}

/// All of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failover {
    /// When, where, with what.
    pub about: About,
    /// Gaps.
    pub gaps: Vec<Gaps>,
    /// Leaders under load alone.
    pub flaps: Vec<Flaps>,
}

/// Offers puts and remembers when they were acknowledged.
struct Prober {
    acknowledged: Arc<Mutex<Vec<Instant>>>,
    tasks: JoinSet<()>,
}

impl Prober {
    fn start(cluster: &Cluster) -> Result<Self> {
        let acknowledged: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let mut tasks = JoinSet::new();
        for member in &cluster.members {
            let endpoint =
                Endpoint::from_shared(member.url.clone())?.connect_timeout(Duration::from_millis(200));
            tasks.spawn(offer(endpoint.connect_lazy(), Arc::clone(&acknowledged)));
        }
        Ok(Self { acknowledged, tasks })
    }

    fn times(&self) -> Vec<Instant> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until acknowledgements come again after a fault, and gives the longest gap that ended after it.
    async fn gap(&self, fault: Instant) -> Result<Duration> {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = Instant::now();
            let (longest, end) = longest_gap(&self.times(), fault, now);
            if end < now && now - end > CALM && now - fault > CALM {
                return Ok(longest);
            }
            if now - fault > OUTAGE_MAX {
                bail!("no write was acknowledged for {} s", OUTAGE_MAX.as_secs());
            }
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// The longest gap between acknowledgements that ended after the fault, and when it ended; one that has not ended yet ends now.
fn longest_gap(times: &[Instant], fault: Instant, now: Instant) -> (Duration, Instant) {
    let mut times = times.to_vec();
    times.push(now);
    times.sort_unstable();
    let gaps = times.windows(2).filter(|pair| pair[1] > fault).map(|pair| (pair[1] - pair[0], pair[1]));
    gaps.max_by_key(|(gap, _)| *gap).unwrap_or((now.saturating_duration_since(fault), now))
}

async fn offer(channel: Channel, acknowledged: Arc<Mutex<Vec<Instant>>>) {
    let mut offers = tokio::time::interval(OFFER);
    let mut unanswered = JoinSet::new();
    for number in 0_u64.. {
        offers.tick().await;
        while unanswered.try_join_next().is_some() {}
        if unanswered.len() >= UNANSWERED_MAX {
            continue;
        }
        let (mut kv, acknowledged) = (KvClient::new(channel.clone()), Arc::clone(&acknowledged));
        unanswered.spawn(async move {
            let key = format!("failover/{:04}", number % 1_000);
            let put = PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
            if let Ok(Ok(_)) = tokio::time::timeout(GIVE_UP, kv.put(put)).await {
                acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
        });
    }
}

async fn gaps(bench: &Bench, store: Store, fault: Fault, times: usize) -> Result<Vec<f64>> {
    let mut cluster = bench.cluster(store, 3).await?;
    let prober = Prober::start(&cluster)?;
    let mut gaps_ms = Vec::new();
    for _ in 0..times {
        let leader = cluster.leader().await?;
        prober.forget();
        tokio::time::sleep(CALM).await;
        if prober.times().is_empty() {
            bail!("no write is acknowledged before the fault");
        }
        let began = Instant::now();
        match fault {
            Fault::Kill => cluster.members[leader].kill(),
            Fault::Stop => cluster.members[leader].signal(Signal::STOP)?,
        }
        let gap = prober.gap(began).await;
        match fault {
            Fault::Kill => cluster.members[leader].start()?,
            Fault::Stop => cluster.members[leader].signal(Signal::CONT)?,
        }
        gaps_ms.push(gap?.as_secs_f64() * 1e3);
        cluster.members[leader].wait_writable().await?;
    }
    drop(prober);
    cluster.end().await?;
    Ok(gaps_ms)
}

async fn flaps(bench: &Bench, store: Store, seconds: f64) -> Result<Flaps> {
    let cluster = bench.cluster(store, 3).await?;
    let before = Usage::of(&cluster)?;
    let load = Workload::new("put", 256, 16);
    let said = load::quorate(&bench.binaries.quorate, &load, &cluster.endpoints(), seconds)?;
    let leader_changes = Usage::of(&cluster)?.leader_changes - before.leader_changes;
    cluster.end().await?;
    Ok(Flaps { store, seconds, per_second: said.per_second, leader_changes })
}

/// Runs all faults on all stores.
///
/// # Errors
/// A store does not come up, or does not come back.
pub async fn run(
    bench: &Bench,
    command: &str,
    stores: &[Store],
    times: Times,
    flap_seconds: f64,
    keep: impl Fn(&Failover) -> Result<()>,
) -> Result<Failover> {
    let about = About::now(command, &bench.binaries, bench.folder())?;
    let mut failover = Failover { about, gaps: Vec::new(), flaps: Vec::new() };
    for store in stores {
        for (fault, times) in [(Fault::Kill, times.kills), (Fault::Stop, times.stops)] {
            let shown = format!("{}, {}", store.name(), fault.name());
            let gaps_ms = gaps(bench, *store, fault, times).await.with_context(|| shown.clone())?;
            eprintln!(
                "{shown}: median {:.0} ms",
                Spread::of(gaps_ms.iter().copied()).map_or(0.0, |gap| gap.median)
            );
            failover.gaps.push(Gaps { store: *store, fault, gaps_ms });
            keep(&failover)?;
        }
        failover.flaps.push(flaps(bench, *store, flap_seconds).await?);
        keep(&failover)?;
    }
    Ok(failover)
}

/// The value that this share of all does not exceed.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let at = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// The tables.
#[must_use]
pub fn markdown(failover: &Failover) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "# Failover\n\n{}\nThree members, default settings. A put is offered to every member every {} ms; a gap is the longest \
         time without an acknowledgement from anybody around one fault of the leader.\n\n\
         | store | fault | times | median | p90 | p99 | longest |\n|---|---|---|---|---|---|---|\n",
        failover.about.markdown(),
        OFFER.as_millis()
    );
    for Gaps { store, fault, gaps_ms } in &failover.gaps {
        let at = |share| format!("{:.0} ms", quantile(gaps_ms, share));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            store.name(),
            fault.name(),
            gaps_ms.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
    text.push_str("\n![gaps](failover.svg)\n\n## Leaders under load alone\n\n");
    text.push_str("256 clients put as fast as they can, without faults.\n\n");
    text.push_str("| store | seconds | puts/s | changes of leader |\n|---|---|---|---|\n");
    for Flaps { store, seconds, per_second, leader_changes } in &failover.flaps {
        let _ = writeln!(text, "| {} | {seconds:.0} | {per_second:.0} | {leader_changes:.0} |", store.name());
    }
    text
}

/// Which share of the gaps after a kill is no longer than what.
#[must_use]
pub fn plot(failover: &Failover) -> Plot {
    let series = |gaps: &Gaps| {
        let mut sorted = gaps.gaps_ms.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let points = sorted.iter().enumerate().map(|(at, gap)| (*gap, (at + 1) as f64 / count * 100.0));
        Series { name: gaps.store.name().to_owned(), points: points.collect() }
    };
    Plot {
        title: "Gaps without an acknowledged write after kill -9 of the leader".into(),
        x: ("gap of at most so many ms".into(), Scale::Logarithmic),
        y: ("% of the kills".into(), Scale::Linear),
        series: failover.gaps.iter().filter(|gaps| gaps.fault == Fault::Kill).map(series).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_longest_that_ends_after_the_fault() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // A long gap before the fault is none of its doing.
        let times = [at(0), at(300), at(310), at(450), at(455)];
        assert_eq!(longest_gap(&times, at(312), at(460)), (Duration::from_millis(140), at(450)));
        // One that goes on counts until now.
        assert_eq!(longest_gap(&times, at(312), at(900)), (Duration::from_millis(445), at(900)));
        assert_eq!(longest_gap(&[], at(100), at(400)).0, Duration::from_millis(300));
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| quantile(&values, share)), [100.0, 198.0, 200.0]);
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
    }
}
