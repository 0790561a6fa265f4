//! Every replica of a member and the log that they share.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_consensus::config::Config;
use quorate_consensus::entry::{Entry, HardState, SnapshotMark};
use quorate_consensus::id::{Epoch, Index, MemberId, Time, WriteId};
use quorate_consensus::input::Input;
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::log::{Layout, LogRead};
use quorate_consensus::membership::Membership;
use quorate_consensus::protocol::Status;
use quorate_state::machine::StateMachine;
use quorate_storage::backend::{Backend, Batch};
use quorate_storage::disk::Disk;
use quorate_storage::wal::{self, Identity, Wal};

use crate::durability::Durability;
use crate::error::{BootError, Fatal};
use crate::event::{Event, GroupId};
use crate::leases::{LeaseRounds, Leases};
use crate::levels::Levels;
use crate::log::SharedLog;
use crate::mutants::mutant;
use crate::output::Output;
use crate::pending::Pending;
use crate::queue::CommandQueue;
use crate::replica::Replica;

/// How much of the log stays behind what is applied.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// A prefix of the log is dropped when so many applied entries can go (etcd's `--snapshot-count`) ...
    pub release_after: u64,
    /// ... but these stay, so that a member that is a little behind needs no snapshot (etcd's
    /// `--snapshot-catchup-entries`).
    pub catch_up_entries: u64,
    /// A witness keeps so many more, as headers without bodies: it has no snapshot for a member that stopped before it heard
    /// that what it holds is chosen. More than a leader has under way in general.
    pub witness_headers: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { release_after: 20_000, catch_up_entries: 5_000, witness_headers: 100_000 }
    }
}

/// Who this member is, and how it behaves.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The cluster.
    pub cluster_id: u64,
    /// The protocol of its groups.
    pub protocol: ProtocolKind,
    /// The protocol's settings; they name the member.
    pub consensus: Config,
    /// The log's sizes.
    pub wal: wal::Config,
    /// How much of the log stays.
    pub retention: Retention,
    /// The highest feature level that this member understands: [`quorate_state::machine::LEVEL`], but in tests of upgrades.
    pub feature_level: u32,
    /// The membership of a member that starts for the first time; not looked at later.
    pub initial: Membership,
}

/// One member.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    log: SharedLog,
    replicas: BTreeMap<GroupId, Replica>,
}

impl Host {
    /// Starts a member with one group: for the first time on an empty disk and backend, else from what they hold.
    ///
    /// # Errors
    /// What is damaged, mixed up or another's; the disk's and the engine's.
    pub fn open(
        config: HostConfig,
        disk: Arc<dyn Disk>,
        backend: Arc<dyn Backend>,
        now: Time,
    ) -> Result<Self, BootError> {
        // The state is durable before the log exists: a log without a state can't be.
        let initial = config.initial.at_founding().encode();
        let state = StateMachine::open_at(Arc::clone(&backend), initial, config.feature_level)?;
        let identity = Identity {
            cluster_id: config.cluster_id,
            member_id: config.consensus.id.0,
            protocol: config.protocol.code(),
            layout: match config.protocol.layout() {
                Layout::Tail => wal::Layout::Tail,
                Layout::Slots => wal::Layout::Slots,
            },
        };
        let wal = if Wal::exists(&*disk)? {
            Wal::open(disk, config.wal)?
        } else {
            Wal::create(disk, config.wal, identity)?
        };
        if wal.identity() != identity {
            let (found, expected) = (format!("{:?}", wal.identity()), format!("{identity:?}"));
            return Err(BootError::Foreign { found, expected });
        }
        let mut log = SharedLog(wal);
        adopt_snapshot(&config, &state, &mut log)?;
        let replica = boot(&config, &log, state, backend, now)?;
        Ok(Self { config, log, replicas: BTreeMap::from([(GroupId::DEFAULT, replica)]) })
    }

    /// Takes one event; events of groups that are not here are dropped.
    ///
    /// # Errors
    /// The member must end.
    pub fn step(&mut self, now: Time, group: GroupId, event: Event) -> Result<(), Fatal> {
        match self.replicas.get_mut(&group) {
            Some(replica) => replica.step(now, event, &mut self.log),
            None => Ok(()),
        }
    }

    /// Hands on everything that the events so far gave rise to: one write for all groups, messages, answers.
    ///
    /// # Errors
    /// The member must end.
    pub fn flush(&mut self, now: Time) -> Result<Vec<Output>, Fatal> {
        let mut outputs = Vec::new();
        for replica in self.replicas.values_mut() {
            replica.finish(now, &mut self.log)?;
        }
        if let Some(job) = self.log.0.flush()? {
            for replica in self.replicas.values_mut() {
                replica.durability.flushed(job.number());
            }
            outputs.push(Output::Sync(job));
        }
        for replica in self.replicas.values_mut() {
            replica.tell_membership();
            outputs.append(&mut replica.outputs);
        }
        Ok(outputs)
    }

    /// The sync of this number has run.
    ///
    /// # Errors
    /// The member must end.
    pub fn synced(&mut self, now: Time, number: u64) -> Result<(), Fatal> {
        self.log.0.synced(number)?;
        for replica in self.replicas.values_mut() {
            replica.synced(now, number, &mut self.log)?;
        }
        Ok(())
    }

    /// A group's backend was made durable as [`Output::Persist`] asked.
    ///
    /// # Errors
    /// The member must end.
    pub fn persisted(&mut self, group: GroupId, through: Index) -> Result<(), Fatal> {
        match self.replicas.get_mut(&group) {
            Some(replica) => replica.persisted(through, &mut self.log),
            None => Ok(()),
        }
    }

    /// Installs a snapshot that was received whole. Nothing happens if this member has its last entry already.
    ///
    /// # Errors
    /// The member must end.
    pub fn install(
        &mut self,
        now: Time,
        group: GroupId,
        (index, epoch): (Index, Epoch),
        chunks: Vec<Batch>,
    ) -> Result<(), Fatal> {
        let Some(replica) = self.replicas.get_mut(&group) else { return Ok(()) };
        let held = match replica.layout {
            Layout::Tail => self.log.group(group).epoch(index) == Ok(epoch),
            // An accepted value may not be the chosen one.
            Layout::Slots => false,
        };
        if (index <= replica.commit || held) && !mutant!(OldSnapshotInstalled) {
            return Ok(());
        }
        replica.install(now, (index, epoch), chunks, &mut self.log)
    }

    /// When the next [`Event::Tick`] is due for some group; the past if work waits.
    #[must_use]
    pub fn deadline(&self) -> Time {
        let deadlines = self
            .replicas
            .values()
            .map(|replica| if replica.has_work() { Time(0) } else { replica.deadline() });
        deadlines.min().unwrap_or(Time(u64::MAX))
    }

    /// Whether some group waits for room in its engine; nothing tells when there is some.
    #[must_use]
    pub fn is_held_up(&self) -> bool {
        self.replicas.values().any(Replica::is_held_up)
    }

    /// A group's replica.
    #[must_use]
    pub fn replica(&self, group: GroupId) -> Option<&Replica> {
        self.replicas.get(&group)
    }

    /// Entries `from..to` of a group's log, as far as it holds them without a gap: for looking at it from outside.
    #[must_use]
    pub fn entries(&self, group: GroupId, from: Index, to: Index) -> Vec<Entry> {
        self.log.group(group).entries(from, to, usize::MAX).unwrap_or_default()
    }

    /// A group's log as written, durable or not: for looking at it from outside.
    pub fn log(&self, group: GroupId) -> impl LogRead + '_ {
        self.log.group(group)
    }

    /// A group's hard state as written, durable or not.
    #[must_use]
    pub fn hard_state(&self, group: GroupId) -> HardState {
        self.log.group(group).hard_state()
    }

    /// How far a group's log is durable, and whether everything written is, the hard state too.
    #[must_use]
    pub fn durable(&self, group: GroupId) -> (Index, bool) {
        let durability = self.replicas.get(&group).map(|replica| &replica.durability);
        let index = durability.map_or(Index(0), Durability::durable);
        (index.min(self.log.group(group).last_index()), durability.is_none_or(Durability::is_idle))
    }

    /// The last write that a group asked for since the start, and the last one that is durable.
    #[must_use]
    pub fn writes(&self, group: GroupId) -> (WriteId, WriteId) {
        let durability = self.replicas.get(&group).map(|replica| &replica.durability);
        durability.map_or((WriteId(0), WriteId(0)), Durability::writes)
    }

    /// A group's status.
    #[must_use]
    pub fn status(&self, group: GroupId) -> Option<Status> {
        self.replicas.get(&group).map(Replica::status)
    }

    /// This member.
    #[must_use]
    pub fn member_id(&self) -> MemberId {
        self.config.consensus.id
    }

    /// The cluster.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        self.config.cluster_id
    }
}

/// A crash may come between the state and the log of an installed snapshot: the log then lacks what is in the state, or has
/// something else in its place. In [`Layout::Slots`] that would be values which were accepted and not chosen, and a leader would
/// send them as chosen ones.
fn adopt_snapshot(config: &HostConfig, state: &StateMachine, log: &mut SharedLog) -> Result<(), BootError> {
    let (applied, epoch) = state.applied();
    let view = log.group(GroupId::DEFAULT);
    let first = view.snapshot_index().0;
    let held = match config.protocol.layout() {
        Layout::Tail => view.epoch(Index(applied)) == Ok(Epoch(epoch)),
        Layout::Slots => {
            state.installed()? <= first && (first + 1..=applied).all(|slot| view.epoch(Index(slot)).is_ok())
        }
    };
    if !held && applied > first {
        log.0.reset(GroupId::DEFAULT.0, applied, epoch)?;
    }
    Ok(())
}

fn boot(
    config: &HostConfig,
    log: &SharedLog,
    state: StateMachine,
    backend: Arc<dyn Backend>,
    now: Time,
) -> Result<Replica, BootError> {
    let group = GroupId::DEFAULT;
    let view = log.group(group);
    if let Some(index) = view.first_faulty() {
        return Err(BootError::Faulty(index));
    }
    let (applied, epoch) = state.applied();
    let (first, last) = (view.snapshot_index().0, view.last_index().0);
    if applied < first || applied > last {
        return Err(BootError::Mismatch { applied, first, last });
    }
    let mut membership = Membership::decode(state.membership()).map_err(|_| BootError::Membership)?;
    if mutant!(RemovedMembersReturn) {
        membership = config.initial.clone();
    }
    let mark = SnapshotMark { index: Index(applied), epoch: Epoch(epoch), membership };
    let mut hard_state = view.hard_state();
    // What was applied was decided.
    hard_state.commit = hard_state.commit.max(Index(applied)).min(view.last_index());
    if config.protocol.layout() == Layout::Slots {
        // The hint may lie behind a slot whose accept was not durable.
        hard_state.commit = Index(applied);
    }
    let commit = hard_state.commit;
    // What is here is served before anything new is applied.
    let published =
        Output::Published { group, reader: state.reader(), events: Vec::new(), applied: Index(applied) };
    let protocol = config.protocol.start(config.consensus.clone(), hard_state, mark, &view, now)?;
    Ok(Replica {
        group,
        id: config.consensus.id,
        layout: config.protocol.layout(),
        protocol,
        state,
        backend,
        leases: Leases::default(),
        lease_rounds: LeaseRounds::default(),
        levels: Levels::default(),
        durability: Durability::new(),
        pending: Pending::default(),
        commands: CommandQueue::default(),
        read_batch: Vec::new(),
        asked: BTreeMap::new(),
        forwarded_bytes: 0,
        reads: BTreeMap::new(),
        read_retry_at: now,
        proposed: BTreeMap::new(),
        changing: BTreeMap::new(),
        changes: Vec::new(),
        last_proposal: 0,
        // A read of an earlier start may still be answered: its name must not come again.
        last_read: if mutant!(ReadIdsStartOver) { 0 } else { config.consensus.seed },
        commit,
        leader: None,
        leading: None,
        persisting: false,
        retention: config.retention,
        told_membership: Membership::default(),
        effects: Vec::new(),
        outputs: vec![published],
    })
}

impl Replica {
    fn install(
        &mut self,
        now: Time,
        (index, epoch): (Index, Epoch),
        chunks: Vec<Batch>,
        log: &mut SharedLog,
    ) -> Result<(), Fatal> {
        // One batch: a crash in the middle leaves the old state or the new one.
        let mut whole = Batch::default();
        chunks.into_iter().for_each(|chunk| whole.changes.extend(chunk.changes));
        whole.changes.push(StateMachine::installed_mark(index.0));
        let machine = |error: quorate_storage::backend::BackendError| Fatal::Machine(error.into());
        self.backend.replace(whole).map_err(machine)?;
        let supported = self.state.supported_level();
        self.state = StateMachine::open_at(Arc::clone(&self.backend), bytes::Bytes::new(), supported)?;
        log.0.reset(self.group.0, index.0, epoch.0)?;
        self.commit = self.commit.max(index);
        let membership = Membership::decode(self.state.membership()).unwrap_or_default();
        self.input(now, Input::SnapshotInstalled(SnapshotMark { index, epoch, membership }), log)?;
        let (group, reader) = (self.group, self.state.reader());
        self.outputs.push(Output::Published { group, reader, events: Vec::new(), applied: index });
        Ok(())
    }
}
