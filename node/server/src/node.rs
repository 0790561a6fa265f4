//! What services see of the member: its identity, the newest published state, who leads, and a way to ask it things.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use quorate_api::etcdserverpb::{AlarmType, ResponseHeader};
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::membership::{Membership, Role};
use quorate_consensus::protocol::Status;
use quorate_replica::event::{GroupId, Request};
use quorate_replica::output::{Answer, Failure};
use quorate_state::command::{Alarm, AlarmChange, Command, CommandKind};
use quorate_state::reader::Reader;
use quorate_state::response::Response;
use quorate_state::watch::ring::Ring;
use quorate_storage::backend::Backend;

use crate::api_error::{self, ApiError};
use crate::config::Config;
use crate::driver::Message;
use crate::quota::Quota;
use crate::scans::Scans;

/// How long a request may take (etcd: 5 s and two election timeouts).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);
/// A member that is told to end waits no longer for a successor.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(3);
/// More decided but not applied entries than this: new writes are refused (etcd `v3_server.go`).
const APPLY_GAP_MAX: u64 = 5_000;
/// Of recent events so many revisions are kept for watches; those that fell further behind read history.
const RECENT_REVISIONS_MAX: usize = 4_096;
/// And so many bytes of their keys and values.
const RECENT_BYTES_MAX: usize = 8 << 20;
/// A hash reads everything that is stored; more of them at a time would take the disk from reads and end no sooner.
const HASHES_AT_A_TIME: usize = 1;

/// Who leads, as this member knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The epoch.
    pub epoch: Epoch,
    /// The leader.
    pub leader: Option<MemberId>,
}

/// The newest applied state.
#[derive(Clone, Debug)]
pub struct Published {
    /// Reads of it.
    pub reader: Reader,
    /// The last index inside.
    pub applied: Index,
}

/// The driver's ends of what the node shows.
#[derive(Debug)]
pub struct Senders {
    /// Applied state.
    pub published: watch::Sender<Option<Published>>,
    /// Leader.
    pub leadership: watch::Sender<Leadership>,
    /// Members.
    pub membership: watch::Sender<Membership>,
    /// The protocol's status.
    pub status: watch::Sender<Option<Status>>,
    /// This member was removed.
    pub removed: watch::Sender<bool>,
}

/// One member, as services and transport see it.
#[derive(Debug)]
pub struct Node {
    /// What it was told.
    pub config: Config,
    /// Its cluster.
    pub cluster_id: u64,
    /// Its id.
    pub id: MemberId,
    /// The group's engine, for its size.
    pub backend: Arc<dyn Backend>,
    /// Reads that may take long.
    pub scans: Scans,
    /// Hashes of all there is: none takes the turn of a read.
    pub hashes: Scans,
    /// Recent events for watches.
    ring: Mutex<Ring>,
    /// What it shows.
    pub shows: Senders,
    /// Becomes true when the process is to end.
    pub stopping: watch::Sender<bool>,
    driver: OnceLock<mpsc::Sender<Message>>,
    last_lease: AtomicU64,
    quota: Quota,
}

impl Node {
    /// A node whose driver is not started yet.
    ///
    /// # Errors
    /// A thread for long reads can't be started.
    pub fn new(
        config: Config,
        cluster_id: u64,
        id: MemberId,
        backend: Arc<dyn Backend>,
    ) -> io::Result<Arc<Self>> {
        let shows = Senders {
            published: watch::channel(None).0,
            leadership: watch::channel(Leadership::default()).0,
            membership: watch::channel(Membership::default()).0,
            status: watch::channel(None).0,
            removed: watch::channel(false).0,
        };
        let quota = Quota::new(config.quota_bytes);
        let last_lease = AtomicU64::new(crate::driver::unix_nanoseconds() ^ id.0.rotate_left(20));
        Ok(Arc::new(Self {
            config,
            cluster_id,
            id,
            backend,
            scans: Scans::for_this_machine()?,
            hashes: Scans::with_threads(HASHES_AT_A_TIME)?,
            ring: Mutex::new(Ring::new(RECENT_REVISIONS_MAX, RECENT_BYTES_MAX)),
            shows,
            stopping: watch::channel(false).0,
            driver: OnceLock::new(),
            last_lease,
            quota,
        }))
    }

    /// Recent events for watches. Never held over an await.
    pub fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects the driver. Once.
    pub fn connect(&self, driver: mpsc::Sender<Message>) {
        let _ = self.driver.set(driver);
    }

    /// Hands the driver something; `false` if its queue is full or it has ended.
    pub fn tell(&self, message: Message) -> bool {
        self.driver.get().is_some_and(|driver| driver.try_send(message).is_ok())
    }

    /// Hands the driver something that must not be lost, when there is room.
    pub async fn deliver(&self, message: Message) {
        if let Some(driver) = self.driver.get() {
            // A driver that has ended needs nothing any more.
            let _ = driver.send(message).await;
        }
    }

    /// Asks the replica.
    ///
    /// # Errors
    /// etcd's error for what went wrong.
    pub async fn ask(&self, request: Request) -> Result<Answer, ApiError> {
        self.ask_within(request, REQUEST_TIMEOUT).await
    }

    /// Asks the replica with a time of its own.
    ///
    /// # Errors
    /// etcd's error for what went wrong.
    pub async fn ask_within(&self, request: Request, timeout: Duration) -> Result<Answer, ApiError> {
        let (reply, answer) = oneshot::channel();
        let driver = self.driver.get().ok_or(api_error::STOPPED)?;
        let message = Message::Request { group: GroupId::DEFAULT, request, timeout, reply };
        driver.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => api_error::REQUEST_TOO_MANY_REQUESTS,
            TrySendError::Closed(_) => api_error::STOPPED,
        })?;
        // The replica answers at the deadline at the latest; the driver's end drops the sender.
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failure::NoLeader)) if !self.has_leader() => Err(api_error::NO_LEADER),
            Ok(Err(failure)) => Err(api_error::failure(failure)),
            Err(_) => Err(api_error::STOPPED),
        }
    }

    /// Has a command decided and applied.
    ///
    /// # Errors
    /// etcd's status.
    pub async fn command(&self, kind: CommandKind) -> Result<Response, tonic::Status> {
        if self.apply_gap() > APPLY_GAP_MAX {
            return Err(api_error::REQUEST_TOO_MANY_REQUESTS.into());
        }
        match self.ask(Request::Command(Command::new(kind))).await? {
            Answer::Applied { response, .. } => response.map_err(api_error::refusal),
            Answer::Readable(_) | Answer::Changed(_) | Answer::Transferred(_) | Answer::Lease { .. } => {
                Err(tonic::Status::internal("quorate: an answer of another kind"))
            }
        }
    }

    fn apply_gap(&self) -> u64 {
        let commit = self.shows.status.borrow().as_ref().map_or(0, |status| status.commit.0);
        commit.saturating_sub(self.applied().0)
    }

    /// A reader that holds everything decided before this call (or, serializable, whatever is here).
    ///
    /// # Errors
    /// etcd's error.
    pub async fn reader(&self, serializable: bool) -> Result<Reader, ApiError> {
        if serializable {
            return self.local_reader().ok_or(api_error::STOPPED);
        }
        self.confirmed(Request::Read).await
    }

    /// The members, with everything decided before this call; of a witness too.
    ///
    /// # Errors
    /// etcd's error.
    pub async fn confirmed_membership(&self) -> Result<Membership, ApiError> {
        self.confirmed(Request::ReadMembership).await?;
        Ok(self.shows.membership.borrow().clone())
    }

    async fn confirmed(&self, read: Request) -> Result<Reader, ApiError> {
        match self.ask(read).await? {
            Answer::Readable(reader) => Ok(reader),
            Answer::Applied { .. } | Answer::Changed(_) | Answer::Transferred(_) | Answer::Lease { .. } => {
                Err(api_error::TIMEOUT)
            }
        }
    }

    /// The newest reader here.
    #[must_use]
    pub fn local_reader(&self) -> Option<Reader> {
        self.shows.published.borrow().as_ref().map(|published| published.reader.clone())
    }

    /// The last applied index.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.shows.published.borrow().as_ref().map_or(Index(0), |published| published.applied)
    }

    /// The newest revision here.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.shows.published.borrow().as_ref().map_or(1, |published| published.reader.revision())
    }

    /// Whether a leader is known.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.shows.leadership.borrow().leader.is_some()
    }

    /// This member's role; `None` before it is known as a member. A removed witness is one until it ends.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.shows.membership.borrow().role(self.id)
    }

    /// Whether the members know this one as it is configured. One that joins knows itself only when it has read that.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let config = &self.config;
        self.shows.membership.borrow().members.get(&self.id).is_some_and(|member| {
            member.name == config.name
                && member.client_urls == config.advertise_client_urls
                && member.zone == config.zone
                && member.leader_priority == config.leader_priority
        })
    }

    /// Whether this member is a learner.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.role() == Some(Role::Learner)
    }

    /// Whether this member votes and holds no data.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.role() == Some(Role::Witness)
    }

    /// The part of every reply.
    #[must_use]
    pub fn header(&self, revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.id.0,
            revision,
            raft_term: self.shows.leadership.borrow().epoch.0,
        })
    }

    /// A lease id that nobody has, positive as etcd's are.
    pub fn new_lease_id(&self) -> i64 {
        let next = self.last_lease.fetch_add(1, Ordering::Relaxed) & i64::MAX.unsigned_abs();
        i64::try_from(next).unwrap_or(1).max(1)
    }

    /// The alarms of all members.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        self.shows
            .published
            .borrow()
            .as_ref()
            .map_or_else(Vec::new, |published| published.reader.alarms().to_vec())
    }

    /// Whether some member has raised this alarm.
    #[must_use]
    pub fn has_alarm(&self, kind: AlarmType) -> bool {
        let published = self.shows.published.borrow();
        published.as_ref().is_some_and(|published| {
            published.reader.alarms().iter().any(|alarm| alarm.kind == i32::from(kind))
        })
    }

    /// Refuses a write that would grow the store when it is full. The first one above the quota raises the alarm, which
    /// stays until it is disarmed, as in etcd.
    ///
    /// # Errors
    /// There is no space.
    pub fn check_room(self: &Arc<Self>) -> Result<(), ApiError> {
        if self.has_alarm(AlarmType::Nospace) {
            return Err(api_error::NO_SPACE);
        }
        if self.quota.is_exceeded(|| self.backend.size_bytes().0) {
            let node = Arc::clone(self);
            tokio::spawn(async move {
                let alarm = Alarm { member: node.id.0, kind: AlarmType::Nospace.into() };
                let raised = node.command(CommandKind::Alarm(AlarmChange { alarm, raise: true })).await;
                if let Err(status) = raised {
                    tracing::warn!(status = status.message(), "the alarm for space was not raised");
                }
            });
            return Err(api_error::NO_SPACE);
        }
        Ok(())
    }

    /// Refuses everything once a member is known to have other data.
    ///
    /// # Errors
    /// There is such an alarm.
    pub fn check_whole(&self) -> Result<(), ApiError> {
        if self.has_alarm(AlarmType::Corrupt) { Err(api_error::CORRUPT) } else { Ok(()) }
    }
}

/// Ends when the process is to end. (Unlike the channel's own waiting, its future may move between threads.)
pub async fn ended(stopping: &mut watch::Receiver<bool>) {
    // The sender lives in the node, which outlives every task; were it gone, ending is right too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
