//! A run: threads, each with clients and connections of its own, and one that shows the progress.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

use super::keys::{Chooser, Distribution, Names};
use super::options::Load;
use super::progress::Progress;
use super::recorder::{Recorder, Totals};
use super::schedule::{Plan, Schedule};
use super::slot::Slot;
use super::target::Target;
use super::template::Values;
use super::workload::client::{Client, Content};
use super::workload::lease::LeaseClient;
use super::workload::mix::{Mix, Operation};
use super::workload::watch::{STAMP_BYTES, Stamp, Watchers};

/// Clients that write the keys before the measurement: enough for batches on the server.
const PREPARE_CLIENTS: u32 = 256;
/// Between two looks at threads that work.
const LOOK: Duration = Duration::from_secs(1);

/// What is done.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Calls, one after the other by each client.
    Calls(Mix),
    /// Puts, and watchers that see them all.
    Watch { watchers: u32, streams: u32 },
    /// Leases that are kept alive.
    Leases { leases: u64, ttl_s: i64 },
}

/// What came out.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) workload: &'static str,
    pub(super) load: Load,
    pub(super) totals: Totals,
    pub(super) elapsed: Duration,
    /// Processor time of this process.
    pub(super) cpu: Duration,
    /// Operations of an open loop that were due and not begun.
    pub(super) not_begun: u64,
    /// Why it did not run to its end.
    pub(super) ended_early: Option<anyhow::Error>,
}

/// Processor time of this process so far.
pub(super) fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

/// Writes the keys if asked to, then runs the load.
///
/// # Errors
/// The server can't be reached, keys can't be written, or an option is wrong.
pub(super) fn run(workload: &'static str, load: &Load, work: &Work) -> Result<Outcome> {
    let single = matches!(work, Work::Watch { .. } | Work::Leases { .. });
    if single && load.threads > 1 {
        bail!("{workload} has one thread only");
    }
    if matches!(work, Work::Watch { .. }) && load.value_size < STAMP_BYTES {
        bail!("a watch's values carry when they were sent: --value-size must be at least {STAMP_BYTES}");
    }
    if load.prepare {
        let mut prepare = load.clone();
        prepare.clients = load.clients.max(PREPARE_CLIENTS);
        prepare.distribution = Distribution::Sequential;
        let plan = Plan { duration: None, total: Some(load.keys), rate: None };
        let outcome = execute("prepare", &prepare, plan, &Work::Calls(Mix::only(Operation::Put)))?;
        if let Some(why) = outcome.ended_early {
            return Err(why.context("keys can't be written"));
        }
        if let Some((kind, count)) = outcome.totals.classes.values().flat_map(|class| &class.failures).next()
        {
            return Err(anyhow!("{count} keys can't be written: {kind}"));
        }
    }
    execute(workload, load, load.plan(), work)
}

fn execute(workload: &'static str, load: &Load, plan: Plan, work: &Work) -> Result<Outcome> {
    let names = Names::new(&load.prefix, load.keys, load.key_size)?;
    let mut random = fastrand::Rng::with_seed(load.seed);
    let values = Values::new(load.value_size, &mut random);
    let chooser = Chooser::new(load.distribution, load.keys);
    let mix = match work {
        Work::Calls(mix) => mix.clone(),
        Work::Watch { .. } | Work::Leases { .. } => Mix::only(Operation::Put),
    };
    let mut content = Content::new(mix, names, chooser, values, load.value_size);
    content.stamp = matches!(work, Work::Watch { .. }).then(Stamp::new);
    let content = Arc::new(content);

    let threads = load.threads.min(load.clients);
    let (ready, all_ready) = mpsc::channel();
    let (ended, all_ended) = mpsc::channel();
    let mut recorders = Vec::new();
    let mut starts = Vec::new();
    for number in 0..threads {
        let recorder = Arc::new(Recorder::default());
        recorders.push(Arc::clone(&recorder));
        let (start, begin) = mpsc::channel();
        starts.push(start);
        let part = Part {
            load: load.clone(),
            work: work.clone(),
            plan: share(plan, number, threads),
            clients: share_of(u64::from(load.clients), number, threads),
            connections: share_of(u64::from(load.connections), number, threads).max(1),
            first_connection: number as usize,
            content: Arc::clone(&content),
            recorder,
            random: random.fork(),
        };
        let (ready, ended) = (ready.clone(), ended.clone());
        std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
            let _ = ended.send(part.run(&ready, &begin));
        })?;
    }
    drop((ready, ended));
    for _ in 0..threads {
        if all_ready.recv().is_err() {
            // A thread ended before it was ready: it says why.
            break;
        }
    }
    let (began, cpu_before) = (Instant::now(), cpu_time());
    let begun = starts.iter().filter(|start| start.send(began).is_ok()).count();
    let mut progress = Progress::new(workload, load, began);
    let mut parts = Vec::new();
    while parts.len() < threads as usize {
        match all_ended.recv_timeout(LOOK) {
            Ok(part) => parts.push(part),
            Err(mpsc::RecvTimeoutError::Timeout) => progress.show(&recorders),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(anyhow!("a thread of the load died")),
        }
    }
    let (elapsed, cpu) = (began.elapsed(), cpu_time() - cpu_before);
    progress.end();
    let mut totals = Totals::default();
    recorders.iter().for_each(|recorder| totals.add(&recorder.snapshot()));
    let (mut not_begun, mut ended_early) = (0, None);
    for part in parts {
        match part {
            Ok(part) => {
                not_begun += part.not_begun;
                ended_early = ended_early.or(part.ended_early);
            }
            Err(error) => return Err(error),
        }
    }
    debug_assert_eq!(begun, threads as usize);
    Ok(Outcome { workload, load: load.clone(), totals, elapsed, cpu, not_begun, ended_early })
}

/// This thread's share of a number.
fn share_of(whole: u64, number: u32, threads: u32) -> u64 {
    whole / u64::from(threads) + u64::from(u64::from(number) < whole % u64::from(threads))
}

fn share(plan: Plan, number: u32, threads: u32) -> Plan {
    Plan {
        duration: plan.duration,
        total: plan.total.map(|total| share_of(total, number, threads)),
        rate: plan.rate.map(|rate| rate / f64::from(threads)),
    }
}

/// What one thread does.
struct Part {
    load: Load,
    work: Work,
    plan: Plan,
    clients: u64,
    connections: u64,
    first_connection: usize,
    content: Arc<Content>,
    recorder: Arc<Recorder>,
    random: fastrand::Rng,
}

/// What a task of a thread runs.
enum AnyClient {
    Calls(Client),
    Leases(LeaseClient),
}

struct PartOutcome {
    not_begun: u64,
    ended_early: Option<anyhow::Error>,
}

impl Part {
    fn run(self, ready: &mpsc::Sender<()>, begin: &mpsc::Receiver<Instant>) -> Result<PartOutcome> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.load(ready, begin))
    }

    async fn load(
        mut self,
        ready: &mpsc::Sender<()>,
        begin: &mpsc::Receiver<Instant>,
    ) -> Result<PartOutcome> {
        let target = Arc::new(Target::new(&self.load.target).await?);
        let mut slots = Vec::new();
        for number in 0..self.connections.min(self.clients) {
            let number = self.first_connection + usize::try_from(number)?;
            slots.push(Arc::new(Slot::open(&target, number).await?));
        }
        let clients = self.clients(&target, &slots).await?;
        let watchers = match (&self.work, self.content.stamp) {
            (Work::Watch { watchers, streams }, Some(stamp)) => {
                let (names, counts) = (&self.content.names, (*watchers, *streams));
                Some(Watchers::open(&target, &slots, names, &self.recorder, stamp, counts).await?)
            }
            _ => None,
        };
        ready.send(()).context("nobody waits for the load any more")?;
        let schedule = Arc::new(Schedule::new(self.plan, begin.recv().context("the load was given up")?));
        let mut tasks = JoinSet::new();
        for client in clients {
            let schedule = Arc::clone(&schedule);
            match client {
                AnyClient::Calls(client) => tasks.spawn(client.run(schedule)),
                AnyClient::Leases(client) => tasks.spawn(client.run(schedule)),
            };
        }
        let pacer = {
            let schedule = Arc::clone(&schedule);
            tokio::spawn(async move { schedule.pace().await })
        };
        let mut ended_early = None;
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended? {
                ended_early = Some(error);
            }
        }
        // Without clients nothing is left to be paced.
        if ended_early.is_some() {
            pacer.abort();
        } else {
            pacer.await??;
        }
        if let Some(watchers) = watchers {
            watchers.end(self.recorder.counts().0, target.timeout).await;
        }
        Ok(PartOutcome { not_begun: schedule.not_begun(), ended_early })
    }

    async fn clients(&mut self, target: &Arc<Target>, slots: &[Arc<Slot>]) -> Result<Vec<AnyClient>> {
        let mut clients = Vec::new();
        for number in 0..self.clients {
            let (target, slot) =
                (Arc::clone(target), Arc::clone(&slots[usize::try_from(number)? % slots.len()]));
            let recorder = Arc::clone(&self.recorder);
            clients.push(match self.work {
                Work::Calls(_) | Work::Watch { .. } => {
                    let (content, random) = (Arc::clone(&self.content), self.random.fork());
                    AnyClient::Calls(Client::new(target, content, recorder, slot, random).await)
                }
                Work::Leases { leases, ttl_s } => {
                    // Each client has at least one.
                    let own = (leases / self.clients + u64::from(number < leases % self.clients)).max(1);
                    AnyClient::Leases(LeaseClient::new(target, recorder, slot, own, ttl_s).await?)
                }
            });
        }
        Ok(clients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_everything() {
        let shares: Vec<u64> = (0..3).map(|number| share_of(8, number, 3)).collect();
        assert_eq!(shares, [3, 3, 2]);
        let plan = Plan { duration: None, total: Some(5), rate: Some(9.0) };
        let second = share(plan, 1, 2);
        assert_eq!((second.total, second.rate), (Some(2), Some(4.5)));
    }
}
