//! Below the services: a task owns the [`Host`] and steps it, one thread syncs the log, one makes the backend durable.
//!
//! The driver is a task of the runtime that serves connections, not a thread: a request goes to it and its answer comes back
//! without a wake-up of another thread, which costs more than the step itself.
//!
//! The queue into the driver is bounded: at its limit requests are refused as too many and peer messages are dropped (both
//! are expected by their senders); completions of syncs wait for room. A fatal error ends the process with exit code 1:
//! what memory holds may then not be what the disk holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use quorate_consensus::id::{Epoch, Index, MemberId, Time};
use quorate_replica::error::Fatal;
use quorate_replica::event::{Event, GroupId, Request, RequestId};
use quorate_replica::host::Host;
use quorate_replica::output::{Answer, Failure, Output};
use quorate_replica::snapshot::Snapshot;
use quorate_storage::backend::{Backend, Batch};
use quorate_storage::wal::SyncJob;

use crate::alarm::Alarm;
use crate::metrics::METRICS;
use crate::node::{Leadership, Node, Published};

/// Messages waiting for the driver, at most.
const QUEUE_MAX: usize = 16_384;
/// Messages stepped before one flush, at most: bounds the time until the first of them is answered.
const BATCH_MAX: usize = 2_048;
/// The driver wakes at least this often.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// While the engine is behind, it is looked at this often.
const HELD_UP_MAX: Duration = Duration::from_millis(5);

/// What a driver is told.
#[derive(Debug)]
pub enum Message {
    /// An event of a group.
    Event(GroupId, Event),
    /// A client's request.
    Request {
        /// The group.
        group: GroupId,
        /// What is wanted.
        request: Request,
        /// For how long.
        timeout: Duration,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Answer, Failure>>,
    },
    /// A sync ran.
    Synced(u64),
    /// A backend is durable.
    Persisted(GroupId, Index),
    /// A snapshot arrived whole.
    Install {
        /// The group.
        group: GroupId,
        /// Its place in the log.
        mark: (Index, Epoch),
        /// Its content.
        chunks: Vec<Batch>,
        /// Told when it is installed.
        done: oneshot::Sender<()>,
    },
    /// End, once nothing waits for a sync.
    Stop,
}

/// What the transport is to do.
#[derive(Debug)]
pub enum Outgoing {
    /// Send.
    Message {
        /// The group.
        group: GroupId,
        /// To whom.
        to: MemberId,
        /// What.
        payload: bytes::Bytes,
    },
    /// Stream a snapshot.
    Snapshot {
        /// The group.
        group: GroupId,
        /// To whom.
        to: MemberId,
        /// What.
        snapshot: Box<Snapshot>,
    },
}

/// Messages waiting for the transport's dispatch, at most; then the newest are dropped, as a network would.
pub const OUTGOING_MAX: usize = 65_536;

/// Nanoseconds since 1970: requests' names rise over restarts of a member by it.
#[must_use]
pub fn unix_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// The running driver.
#[derive(Debug)]
pub struct Handle {
    queue: mpsc::Sender<Message>,
    task: JoinHandle<()>,
    backend: Arc<dyn Backend>,
}

impl Handle {
    /// Ends the driver after what is on its way to the disk, and makes the backend durable: the next start has nothing to
    /// apply again, and serves at once what this one has shown.
    pub async fn stop(self) {
        // A full queue means that the driver lives: waiting ends. An error means that it has ended.
        let _ = self.queue.send(Message::Stop).await;
        let _ = self.task.await;
        let backend = self.backend;
        match tokio::task::spawn_blocking(move || backend.persist()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the next start applies some entries again"
                );
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the backend was not made durable")
            }
        }
    }
}

struct Driver {
    host: Host,
    node: Arc<Node>,
    queue: mpsc::Receiver<Message>,
    start: Instant,
    replies: BTreeMap<RequestId, oneshot::Sender<Result<Answer, Failure>>>,
    last_request: u64,
    syncs: Sender<SyncJob>,
    syncing: bool,
    persists: Sender<(GroupId, Index)>,
    outgoing: mpsc::Sender<Outgoing>,
    /// Snapshots that found no place among what goes out; the protocol waits to hear of each.
    not_sent: Vec<(GroupId, MemberId)>,
    alarm: Alarm,
    stopping: bool,
}

/// Starts task and threads. `start` is the zero of the host's clock.
///
/// # Errors
/// The system has no more threads.
///
/// # Panics
/// Outside a runtime.
pub fn start(
    host: Host,
    node: Arc<Node>,
    start: Instant,
    outgoing: mpsc::Sender<Outgoing>,
) -> std::io::Result<Handle> {
    let (queue, receiver) = mpsc::channel(QUEUE_MAX);
    let (syncs, sync_jobs) = channel::<SyncJob>();
    let (persists, persist_jobs) = channel::<(GroupId, Index)>();
    // What this member may serve is known before the first request comes.
    if let Some(replica) = host.replica(GroupId::DEFAULT) {
        node.shows.membership.send_replace(replica.membership().clone());
    }
    node.connect(queue.clone());
    let done = queue.clone();
    thread::Builder::new().name("log-sync".into()).spawn(move || run_syncs(&sync_jobs, &done))?;
    let done = queue.clone();
    let backend = Arc::clone(&node.backend);
    let persisting = Arc::clone(&backend);
    thread::Builder::new()
        .name("persist".into())
        .spawn(move || run_persists(&persist_jobs, &*persisting, &done))?;
    let driver = Driver {
        host,
        node,
        queue: receiver,
        start,
        replies: BTreeMap::new(),
        last_request: unix_nanoseconds(),
        not_sent: Vec::new(),
        syncs,
        syncing: false,
        persists,
        outgoing,
        alarm: Alarm::default(),
        stopping: false,
    };
    Ok(Handle { queue, task: tokio::spawn(driver.run()), backend })
}

/// Ends the process: the member must not go on.
fn fatal(error: &dyn std::error::Error) -> ! {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    tracing::error!(error = text, "the member must end");
    std::process::exit(1)
}

fn run_syncs(jobs: &Receiver<SyncJob>, done: &mpsc::Sender<Message>) {
    while let Ok(job) = jobs.recv() {
        let began = Instant::now();
        match job.run() {
            Ok(number) => {
                METRICS.wal_fsync.observe(began.elapsed().as_secs_f64());
                if done.blocking_send(Message::Synced(number)).is_err() {
                    return;
                }
            }
            Err(error) => fatal(&error),
        }
    }
}

fn run_persists(jobs: &Receiver<(GroupId, Index)>, backend: &dyn Backend, done: &mpsc::Sender<Message>) {
    while let Ok((group, through)) = jobs.recv() {
        let began = Instant::now();
        if let Err(error) = backend.persist() {
            fatal(&error);
        }
        METRICS.backend_commit.observe(began.elapsed().as_secs_f64());
        if done.blocking_send(Message::Persisted(group, through)).is_err() {
            return;
        }
    }
}

impl Driver {
    async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => fatal(&error),
            }
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// One round: wait, step what is at hand, flush once. `false` when it is over.
    async fn turn(&mut self) -> Result<bool, Fatal> {
        let wake_within = if self.host.is_held_up() { HELD_UP_MAX } else { IDLE_MAX };
        let wait = Duration::from_millis(self.host.deadline().since_ms(self.now())).min(wake_within);
        let first = if wait.is_zero() {
            self.queue.try_recv().ok()
        } else {
            tokio::select! {
                biased;
                message = self.queue.recv() => match message {
                    Some(message) => Some(message),
                    None => return Ok(false),
                },
                () = self.alarm.ring_within(wait) => None,
            }
        };
        // Connections that have something to say now get into the same batch.
        tokio::task::yield_now().await;
        let now = self.now();
        // What becomes due by the messages of this round may still travel with what is flushed for them.
        let due = self.host.deadline() <= now;
        if let Some(message) = first {
            self.take(now, message)?;
        }
        for _ in 1..BATCH_MAX {
            let Ok(message) = self.queue.try_recv() else { break };
            self.take(now, message)?;
        }
        self.flush(now)?;
        if due {
            self.host.step(now, GroupId::DEFAULT, Event::Tick)?;
            self.flush(now)?;
        }
        self.show_status();
        Ok(!self.stopping || self.syncing)
    }

    fn flush(&mut self, now: Time) -> Result<(), Fatal> {
        for output in self.host.flush(now)? {
            self.perform(output);
        }
        for (group, to) in std::mem::take(&mut self.not_sent) {
            self.host.step(now, group, Event::SnapshotSent { to, ok: false })?;
        }
        Ok(())
    }

    fn take(&mut self, now: Time, message: Message) -> Result<(), Fatal> {
        match message {
            Message::Event(group, event) => self.host.step(now, group, event),
            Message::Request { group, request, timeout, reply } => {
                self.last_request += 1;
                let id = RequestId(self.last_request);
                self.replies.insert(id, reply);
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX / 2);
                self.host.step(now, group, Event::Request { id, request, deadline: now.after_ms(timeout_ms) })
            }
            Message::Synced(number) => {
                self.syncing = false;
                self.host.synced(now, number)
            }
            Message::Persisted(group, through) => self.host.persisted(group, through),
            Message::Install { group, mark, chunks, done } => {
                self.host.install(now, group, mark, chunks)?;
                let _ = done.send(());
                Ok(())
            }
            Message::Stop => {
                self.stopping = true;
                Ok(())
            }
        }
    }

    fn perform(&mut self, output: Output) {
        let shows = &self.node.shows;
        match output {
            Output::Send { group, to, payload } => {
                let _ = self.outgoing.try_send(Outgoing::Message { group, to, payload });
            }
            Output::Sync(job) => {
                self.syncing = true;
                let _ = self.syncs.send(job);
            }
            Output::Reply { id, result } => {
                if let Some(reply) = self.replies.remove(&id) {
                    let _ = reply.send(result);
                }
            }
            Output::Published { group: _, reader, events, applied } => {
                self.node.ring().publish(events, reader.revision());
                shows.published.send_replace(Some(Published { reader, applied }));
            }
            Output::SendSnapshot { group, to, snapshot } => {
                if self.outgoing.try_send(Outgoing::Snapshot { group, to, snapshot }).is_err() {
                    self.not_sent.push((group, to));
                }
            }
            Output::Persist { group, through } => {
                let _ = self.persists.send((group, through));
            }
            Output::Leadership { group: _, epoch, leader, established } => {
                tracing::info!(
                    epoch = epoch.0,
                    leader = leader.map_or(0, |id| id.0),
                    established,
                    "leadership"
                );
                if leader.is_some() && leader != shows.leadership.borrow().leader {
                    METRICS.leader_changes.inc();
                }
                shows.leadership.send_replace(Leadership { epoch, leader });
            }
            Output::Membership { group: _, membership } => {
                shows.membership.send_replace(membership);
            }
            Output::Removed { group: _ } => {
                tracing::warn!("this member was removed from the cluster");
                shows.removed.send_replace(true);
            }
        }
    }

    fn show_status(&self) {
        if let Some(status) = self.host.status(GroupId::DEFAULT) {
            METRICS.pending.set(i64::try_from(self.replies.len()).unwrap_or(i64::MAX));
            self.node.shows.status.send_if_modified(|shown| {
                let changed = shown.as_ref() != Some(&status);
                *shown = Some(status);
                changed
            });
        }
    }
}
