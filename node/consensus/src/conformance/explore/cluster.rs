//! A few members, their disks and the network between them, all of it cloned and compared as one state.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

use super::super::log::MemoryLog;
use super::history::History;
use crate::config::Config;
use crate::effect::{Effect, Write};
use crate::entry::{Entry, HardState, SnapshotMark};
use crate::id::{Epoch, MemberId, ReadId, Time, WriteId};
use crate::input::{Input, Proposal, ProposalId};
use crate::kind::ProtocolKind;
use crate::log::LogRead;
use crate::membership::Membership;
use crate::paxos::Paxos;
use crate::protocol::Protocol;
use crate::raft::Raft;
use crate::zab::Zab;

/// One thing that goes wrong, or goes early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// The message that would arrive next is lost.
    Lose,
    /// It arrives late.
    Delay,
    /// It arrives, and once more late.
    Repeat,
    /// A member's process ends and starts again; this stays of what was not synced.
    Crash(MemberId, Kept),
    /// A member ticks as if its deadline had passed.
    Hasten(MemberId),
    /// A disk syncs nothing for a while.
    Stall(MemberId),
    /// Nothing reaches a member or leaves it for a while.
    Cut(MemberId),
    /// The next wish does not wait until nothing moves; whoever believes that it leads gets it.
    Early,
}

/// What a crash leaves of unsynced writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kept {
    Nothing,
    HardState,
    Everything,
}

/// What somebody asks for.
#[derive(Clone, Debug, Hash)]
pub(super) enum Wish {
    /// A value, of the leader.
    Propose,
    /// A linearizable read, of every member.
    Read,
    /// A membership, of the leader.
    Change(Membership),
}

/// Moments at which nothing moves that a fault lasts: a stalled disk, a late message; and a cut, in which others elect.
const LATE: u32 = 4;
const CUT: u32 = 8;

#[derive(Clone, Debug, Hash)]
pub(super) enum Machine {
    Raft(Raft),
    Paxos(Paxos),
    Zab(Zab),
}

impl Machine {
    fn start(
        kind: ProtocolKind,
        id: MemberId,
        hard: HardState,
        initial: &Membership,
        log: &MemoryLog,
    ) -> Self {
        let mut config = Config::new(id, id.0);
        (config.election_timeout_ms, config.heartbeat_interval_ms) = (20, 10);
        let mark = SnapshotMark { membership: initial.clone(), ..SnapshotMark::default() };
        let started = match kind {
            ProtocolKind::Raft => Raft::new(config, hard, mark, log, Time(0)).map(Self::Raft),
            ProtocolKind::MultiPaxos => Paxos::new(config, hard, mark, log, Time(0)).map(Self::Paxos),
            ProtocolKind::Zab => Zab::new(config, hard, mark, log, Time(0)).map(Self::Zab),
        };
        started.expect("the log is sound")
    }
}

impl Deref for Machine {
    type Target = dyn Protocol;

    fn deref(&self) -> &(dyn Protocol + 'static) {
        match self {
            Self::Raft(raft) => raft,
            Self::Paxos(paxos) => paxos,
            Self::Zab(zab) => zab,
        }
    }
}

impl DerefMut for Machine {
    fn deref_mut(&mut self) -> &mut (dyn Protocol + 'static) {
        match self {
            Self::Raft(raft) => raft,
            Self::Paxos(paxos) => paxos,
            Self::Zab(zab) => zab,
        }
    }
}

/// One member and its disk.
#[derive(Clone, Debug, Hash)]
pub(super) struct Node {
    pub(super) machine: Machine,
    pub(super) log: MemoryLog,
    durable_log: MemoryLog,
    pub(super) durable_hard: HardState,
    initial: Membership,
    unsynced: Vec<Write>,
    held: Vec<(WriteId, Letter)>,
    persisted: WriteId,
    stalled: u32,
    removed: bool,
}

impl Node {
    fn new(kind: ProtocolKind, id: MemberId, initial: &Membership) -> Self {
        let log = MemoryLog::new(kind.layout());
        Self {
            machine: Machine::start(kind, id, HardState::default(), initial, &log),
            durable_log: log.clone(),
            log,
            durable_hard: HardState::default(),
            initial: initial.clone(),
            unsynced: vec![],
            held: vec![],
            persisted: WriteId(0),
            stalled: 0,
            removed: false,
        }
    }

    /// Whether an entry that a leader of `epoch` committed is on this disk, so that it counts for the quorum.
    pub(super) fn holds(&self, kind: ProtocolKind, entry: &Entry, epoch: Epoch) -> bool {
        let found = self.durable_log.entries(entry.index, entry.index.next(), 1);
        let Some(found) = found.ok().and_then(|entries| entries.into_iter().next()) else { return false };
        match kind {
            ProtocolKind::Raft => found == *entry,
            ProtocolKind::Zab => found == *entry && self.durable_hard.established >= epoch,
            ProtocolKind::MultiPaxos => found.payload == entry.payload,
        }
    }
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Letter {
    from: MemberId,
    to: MemberId,
    payload: Bytes,
}

/// One state.
#[derive(Clone, Debug, Hash)]
pub(super) struct Cluster {
    kind: ProtocolKind,
    now: Time,
    nodes: BTreeMap<MemberId, Node>,
    network: VecDeque<Letter>,
    late: Vec<(u32, Letter)>,
    cut: Option<(MemberId, u32)>,
    wishes: VecDeque<Wish>,
    ticks: u32,
    proposed: u64,
    reads: u64,
    history: History,
}

impl Cluster {
    /// Processes 1 to `count` with the same first membership; time goes on `ticks` times.
    pub(super) fn new(
        kind: ProtocolKind,
        initial: &Membership,
        count: u64,
        wishes: Vec<Wish>,
        ticks: u32,
    ) -> Self {
        let ids = (1..=count).map(MemberId);
        Self {
            kind,
            now: Time(0),
            nodes: ids.map(|id| (id, Node::new(kind, id, initial))).collect(),
            network: VecDeque::new(),
            late: vec![],
            cut: None,
            wishes: wishes.into(),
            ticks,
            proposed: 0,
            reads: 0,
            history: History::default(),
        }
    }

    /// A member starts with another membership than the rest.
    pub(super) fn found(&mut self, id: MemberId, initial: &Membership) {
        self.nodes.insert(id, Node::new(self.kind, id, initial));
    }

    /// What can go wrong here.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = vec![];
        if !self.network.is_empty() {
            faults.extend([Fault::Lose, Fault::Delay, Fault::Repeat]);
        }
        for (&id, node) in self.nodes.iter().filter(|(_, node)| !node.removed) {
            faults.extend([Fault::Crash(id, Kept::Nothing), Fault::Hasten(id), Fault::Cut(id)]);
            if !node.unsynced.is_empty() {
                faults.extend([Fault::Crash(id, Kept::HardState), Fault::Crash(id, Kept::Everything)]);
                faults.push(Fault::Stall(id));
            }
        }
        if !self.wishes.is_empty() {
            faults.push(Fault::Early);
        }
        faults
    }

    pub(super) fn fail(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Lose => drop(self.network.pop_front()),
            Fault::Delay => self.late.extend(self.network.pop_front().map(|letter| (LATE, letter))),
            Fault::Repeat => self.late.extend(self.network.front().map(|letter| (LATE, letter.clone()))),
            Fault::Crash(id, kept) => self.crash(id, kept),
            Fault::Hasten(id) => {
                self.now = self.now.max(self.nodes[&id].machine.deadline());
                self.step(id, Input::Tick)?;
            }
            Fault::Stall(id) => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.stalled = LATE;
                }
            }
            Fault::Cut(id) => self.cut = Some((id, CUT)),
            Fault::Early => {
                if let Some(wish) = self.wishes.pop_front() {
                    for leader in self.leaders() {
                        self.make(leader, &wish)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next thing happens. `false` at the end of the run.
    pub(super) fn advance(&mut self) -> Result<bool, String> {
        let writing = self.nodes.iter().find(|(_, node)| node.stalled == 0 && !node.unsynced.is_empty());
        if let Some(id) = writing.map(|(&id, _)| id) {
            return self.sync(id).map(|()| true);
        }
        if let Some(Letter { from, to, payload }) = self.network.pop_front() {
            let lost = self.cut.is_some_and(|(id, _)| id == from || id == to);
            if !lost && self.nodes.contains_key(&to) {
                self.step(to, Input::Message { from, payload })?;
            }
            return Ok(true);
        }
        let lasting = self.end_faults();
        if let (Some(leader), false) = (self.leaders().last().copied(), self.wishes.is_empty()) {
            if let Some(wish) = self.wishes.pop_front() {
                self.make(leader, &wish)?;
            }
            return Ok(true);
        }
        if self.ticks == 0 {
            return Ok(lasting);
        }
        self.ticks -= 1;
        let running = self.nodes.iter().filter(|(_, node)| !node.removed);
        let deadlines: Vec<_> = running.map(|(&id, node)| (node.machine.deadline(), id)).collect();
        self.now = deadlines.iter().map(|(at, _)| *at).min().unwrap_or_default().max(self.now);
        for (at, id) in deadlines {
            if at <= self.now {
                self.step(id, Input::Tick)?;
            }
        }
        Ok(true)
    }

    /// Nothing moves: what was to last for a while comes nearer to its end. Whether something does last.
    fn end_faults(&mut self) -> bool {
        let mut lasting = false;
        for node in self.nodes.values_mut() {
            lasting |= node.stalled > 0;
            node.stalled = node.stalled.saturating_sub(1);
        }
        for (left, letter) in std::mem::take(&mut self.late) {
            lasting = true;
            if left > 1 {
                self.late.push((left - 1, letter));
            } else {
                self.network.push_back(letter);
            }
        }
        lasting |= self.cut.is_some();
        self.cut = self.cut.and_then(|(id, left)| (left > 1).then(|| (id, left - 1)));
        lasting
    }

    /// Those that believe to lead, the newest last.
    fn leaders(&self) -> Vec<MemberId> {
        let statuses = self.nodes.values().filter(|node| !node.removed).map(|node| node.machine.status());
        let mut leaders: Vec<_> =
            statuses.filter(|it| it.established).map(|status| (status.epoch, status.id)).collect();
        leaders.sort_unstable();
        leaders.into_iter().map(|(_, id)| id).collect()
    }

    fn make(&mut self, leader: MemberId, wish: &Wish) -> Result<(), String> {
        match wish {
            Wish::Propose => {
                self.proposed += 1;
                let payload = Bytes::from(self.proposed.to_string());
                self.step(leader, Input::Propose(vec![Proposal { id: ProposalId(self.proposed), payload }]))
            }
            Wish::Change(target) => {
                let input = Input::ProposeMembership { id: ProposalId(0), target: target.clone() };
                self.step(leader, input)
            }
            Wish::Read => {
                for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                    self.reads += 1;
                    self.history.asked(id, ReadId(self.reads));
                    self.step(id, Input::Read(ReadId(self.reads)))?;
                }
                Ok(())
            }
        }
    }

    fn crash(&mut self, id: MemberId, kept: Kept) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        for write in std::mem::take(&mut node.unsynced) {
            if kept == Kept::Everything {
                node.durable_log.apply(&write);
            }
            if kept != Kept::Nothing {
                node.durable_hard = write.hard_state.unwrap_or(node.durable_hard);
            }
        }
        node.held.clear();
        (node.persisted, node.stalled) = (WriteId(0), 0);
        node.log = node.durable_log.clone();
        node.machine = Machine::start(self.kind, id, node.durable_hard, &node.initial, &node.log);
    }

    fn sync(&mut self, id: MemberId) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let epochs = |hard: HardState| (hard.epoch, hard.established);
        for write in std::mem::take(&mut node.unsynced) {
            node.durable_log.apply(&write);
            let before = epochs(node.durable_hard);
            node.durable_hard = write.hard_state.unwrap_or(node.durable_hard);
            let after = epochs(node.durable_hard);
            if after.0 < before.0 || after.1 < before.1 {
                return Err(format!("the epochs of {id} went back from {before:?} to {after:?}"));
            }
            node.persisted = write.id;
        }
        let persisted = node.persisted;
        let held = std::mem::take(&mut node.held);
        let (ready, held): (Vec<_>, _) = held.into_iter().partition(|(after, _)| *after <= persisted);
        node.held = held;
        self.network.extend(ready.into_iter().map(|(_, letter)| letter));
        self.step(id, Input::Persisted(persisted))
    }

    fn step(&mut self, id: MemberId, input: Input) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.removed) else { return Ok(()) };
        let mut effects = vec![];
        node.machine.step(self.now, input, &node.log, &mut effects);
        for effect in effects {
            match effect {
                Effect::Write(write) => {
                    self.history.wrote(&write.entries)?;
                    node.log.apply(&write);
                    node.unsynced.push(write);
                }
                Effect::Send { to, payload, after } => {
                    let letter = Letter { from: id, to, payload };
                    match after.filter(|after| *after > node.persisted) {
                        Some(after) => node.held.push((after, letter)),
                        None => self.network.push_back(letter),
                    }
                }
                Effect::ReadReady { id: read, index } => self.history.answered(id, read, index)?,
                Effect::Removed => node.removed = true,
                Effect::SendSnapshot { to } => return Err(format!("{to} needs a snapshot of a whole log")),
                Effect::Commit(_)
                | Effect::Accepted { .. }
                | Effect::Refuse { .. }
                | Effect::ReadRefused { .. }
                | Effect::Leadership { .. } => {}
            }
        }
        self.history.check(self.kind, id, &self.nodes)
    }
}
