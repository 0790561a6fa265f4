//! A few members on a lossy network, whose disks forget what was not synced. Checks in every step what must always hold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::log::MemoryLog;
use crate::config::Config;
use crate::effect::{Effect, Refusal, Write};
use crate::entry::{HardState, Kind, SnapshotMark};
use crate::id::{Epoch, Index, MemberId, ReadId, Time, WriteId};
use crate::input::{Input, Proposal, ProposalId};
use crate::kind::ProtocolKind;
use crate::log::{Layout, LogRead};
use crate::membership::{Member, Membership, Role};
use crate::protocol::{Part, Protocol, Status};

/// One member: its process and its disk.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) protocol: Option<Box<dyn Protocol>>,
    pub(super) commit: Index,
    pub(super) removed: bool,
    /// Its process takes no step; what is sent to it waits, and its disk works on untold.
    pub(super) stopped: bool,
    pub(super) log: MemoryLog,
    durable_log: MemoryLog,
    durable_hard: HardState,
    /// What the state machine is: durable at once, as if it were synced with every apply.
    mark: SnapshotMark,
    pub(super) applied_membership: Membership,
    unsynced: Vec<(Time, Write)>,
    /// How long a sync takes; `None`: it hangs.
    pub(super) sync_ms: Option<u64>,
    held: Vec<(WriteId, MemberId, Bytes)>,
    persisted: WriteId,
    restarts: u64,
}

/// The world of one seed.
#[derive(Debug)]
pub(super) struct World {
    pub(super) kind: ProtocolKind,
    random: u64,
    pub(super) now: Time,
    pub(super) nodes: BTreeMap<MemberId, Node>,
    pub(super) network: Vec<(MemberId, MemberId, Bytes)>,
    /// What members did, in order, if somebody listens.
    pub(super) heard: Option<Vec<(MemberId, Effect)>>,
    pub(super) append_bytes_max: usize,
    snapshots: Vec<(MemberId, MemberId)>,
    pub(super) snapshots_installed: u64,
    pub(super) committed: BTreeMap<Index, (Epoch, Bytes)>,
    leaders: BTreeMap<Epoch, MemberId>,
    reads: BTreeMap<(MemberId, ReadId), Index>,
    pub(super) reads_served: u64,
    pub(super) refused: Vec<Refusal>,
    pub(super) loss_percent: u64,
    pub(super) blocked: BTreeSet<(MemberId, MemberId)>,
    proposed: u64,
}

pub(crate) fn member(id: u64) -> Member {
    Member {
        id: MemberId(id),
        name: String::new(),
        peer_urls: vec![],
        client_urls: vec![],
        role: Role::Voter,
        zone: String::new(),
        leader_priority: 0,
    }
}

impl World {
    pub(super) fn new(kind: ProtocolKind, seed: u64, voters: u64, others: u64) -> Self {
        Self::with(kind, seed, [voters, 0, others], 1 << 20)
    }

    /// Voters with data, witnesses, and processes that are no members, in this order.
    pub(super) fn with(
        kind: ProtocolKind,
        seed: u64,
        [voters, witnesses, others]: [u64; 3],
        append_bytes_max: usize,
    ) -> Self {
        let role = |id| if id <= voters { Role::Voter } else { Role::Witness };
        let members =
            (1..=voters + witnesses).map(|id| (MemberId(id), Member { role: role(id), ..member(id) }));
        let members = members.collect();
        let initial = Membership { members, ..Membership::default() };
        let nodes = (1..=voters + witnesses + others).map(|id| {
            let node = Node {
                protocol: None,
                commit: Index(0),
                removed: false,
                stopped: false,
                log: MemoryLog::new(kind.layout()),
                durable_log: MemoryLog::new(kind.layout()),
                durable_hard: HardState::default(),
                mark: SnapshotMark { membership: initial.clone(), ..SnapshotMark::default() },
                applied_membership: initial.clone(),
                unsynced: vec![],
                sync_ms: Some(0),
                held: vec![],
                persisted: WriteId(0),
                restarts: 0,
            };
            (MemberId(id), node)
        });
        let mut world = Self {
            kind,
            random: seed,
            now: Time(0),
            nodes: nodes.collect(),
            network: vec![],
            heard: None,
            append_bytes_max,
            snapshots: vec![],
            snapshots_installed: 0,
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_served: 0,
            refused: vec![],
            loss_percent: 5,
            blocked: BTreeSet::new(),
            proposed: 0,
        };
        for id in world.ids() {
            world.start(id);
        }
        world
    }

    pub(super) fn ids(&self) -> Vec<MemberId> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    pub(super) fn start(&mut self, id: MemberId) {
        let (now, seed, kind) = (self.now, self.random, self.kind);
        let node = self.nodes.get_mut(&id).expect("a node");
        node.restarts += 1;
        node.log = node.durable_log.clone();
        node.unsynced.clear();
        node.held.clear();
        node.persisted = WriteId(0);
        node.commit = node.mark.index;
        node.applied_membership = node.mark.membership.clone();
        let config =
            Config { append_bytes_max: self.append_bytes_max, ..Config::new(id, seed ^ node.restarts) };
        let started = kind.start(config, node.durable_hard, node.mark.clone(), &node.log, now);
        node.protocol = Some(started.expect("the log is sound"));
    }

    /// Some of what was not synced may have reached the disk all the same; the hard state lies apart from the entries.
    pub(super) fn crash(&mut self, id: MemberId) {
        let unsynced = self.nodes[&id].unsynced.len() as u64;
        let (kept, kept_hard) = (self.draw(1 + unsynced), self.draw(1 + unsynced));
        self.crash_keeping(id, kept as usize, kept_hard as usize);
    }

    /// Of the writes under way so many reached the disk.
    pub(super) fn crash_keeping(&mut self, id: MemberId, kept: usize, kept_hard: usize) {
        self.reads.retain(|(reader, _), _| *reader != id);
        let node = self.nodes.get_mut(&id).expect("a node");
        node.protocol = None;
        let writes: Vec<Write> = node.unsynced.drain(..).map(|(_, write)| write).collect();
        for write in writes.iter().take(kept) {
            node.durable_log.apply(write);
        }
        for write in writes.iter().take(kept_hard) {
            node.durable_hard = write.hard_state.unwrap_or(node.durable_hard);
        }
    }

    pub(super) fn step(&mut self, id: MemberId, input: Input) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(protocol) = node.protocol.as_mut().filter(|_| !node.stopped) else { return };
        let mut effects = vec![];
        protocol.step(self.now, input, &node.log, &mut effects);
        if let Some(heard) = &mut self.heard {
            heard.extend(effects.iter().map(|effect| (id, effect.clone())));
        }
        let status = protocol.status();
        let mut commits = vec![];
        let mut answered = vec![];
        for effect in effects {
            match effect {
                Effect::Write(write) => {
                    node.log.apply(&write);
                    // A crash may keep the hard state and lose the entries: its hint then speaks of what was there before.
                    let hint = write.hard_state.unwrap_or_default().commit;
                    let durable = node.durable_log.epoch(hint) == node.log.epoch(hint);
                    assert!(
                        durable || node.log.layout == Layout::Slots,
                        "{hint} is told as committed unsynced"
                    );
                    node.unsynced.push((self.now, write));
                }
                Effect::Send { to, payload, after } => match after {
                    Some(write) if write > node.persisted => node.held.push((write, to, payload)),
                    Some(_) | None => self.network.push((id, to, payload)),
                },
                Effect::Commit(index) => commits.push(index),
                Effect::ReadReady { id: read, index } => answered.push((read, index)),
                Effect::SendSnapshot { to } => self.snapshots.push((id, to)),
                Effect::Refuse { id: _, refusal } => self.refused.push(refusal),
                Effect::Accepted { .. } | Effect::ReadRefused { .. } | Effect::Leadership { .. } => {}
                Effect::Removed => node.removed = true,
            }
        }
        if status.part == Part::Leader {
            let witness = self.nodes[&id].applied_membership.is_witness(id);
            assert!(!witness, "witness {id} leads");
            let leader = *self.leaders.entry(status.epoch).or_insert(id);
            assert_eq!(leader, id, "two leaders in epoch {}", status.epoch);
        }
        if self.kind == ProtocolKind::Zab && status.established {
            let current = self.nodes[&id].durable_hard.established;
            assert_eq!(current, status.epoch, "member {id} leads in an epoch that is not current there");
        }
        for index in commits {
            self.check_commit(id, index);
        }
        for (read, index) in answered {
            let floor = self.reads.remove(&(id, read));
            assert!(floor.is_none_or(|floor| index >= floor), "a stale read at {index}");
            self.reads_served += u64::from(floor.is_some());
        }
    }

    /// State machine safety: nobody ever commits anything else at an index.
    fn check_commit(&mut self, id: MemberId, commit: Index) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let known = node.commit;
        node.commit = known.max(commit);
        let entries = if known < commit {
            node.log.entries(known.next(), commit.next(), usize::MAX).expect("what is committed is here")
        } else {
            Vec::new()
        };
        assert_eq!(entries.len() as u64, commit.0.saturating_sub(known.0), "what is committed has no holes");
        let witness = self.nodes[&id].applied_membership.is_witness(id);
        for entry in entries {
            assert!(entry.kind != Kind::Command || !witness, "witness {id} holds data");
            assert!(entry.kind != Kind::Header || witness, "{id} holds no data at {}", entry.index);
            if let Some(next) = Membership::of(&entry).expect("a membership") {
                let node = self.nodes.get_mut(&id).expect("a node");
                if next.follows(&node.applied_membership, node.log.layout) {
                    node.applied_membership = next;
                }
            }
            // A value of Multi-Paxos may be accepted in several ballots.
            let epoch = if self.kind == ProtocolKind::MultiPaxos { Epoch(0) } else { entry.epoch };
            if witness && entry.kind == Kind::Header {
                continue;
            }
            let value = (epoch, entry.payload.clone());
            let known = self.committed.entry(entry.index).or_insert_with(|| value.clone());
            assert_eq!(*known, value, "two values committed at {}", entry.index);
        }
    }

    /// Makes everything durable that has been on its way for as long as a sync takes here.
    pub(super) fn sync(&mut self, id: MemberId) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(sync_ms) = node.sync_ms.filter(|_| !node.stopped) else { return };
        let done = node.unsynced.partition_point(|(at, _)| self.now.since_ms(*at) >= sync_ms);
        let writes: Vec<Write> = node.unsynced.drain(..done).map(|(_, write)| write).collect();
        let Some(last) = writes.last().map(|write| write.id) else { return };
        for write in writes {
            node.durable_log.apply(&write);
            node.durable_hard = write.hard_state.unwrap_or(node.durable_hard);
        }
        node.persisted = last;
        let (ready, held) = node.held.drain(..).partition(|(write, _, _)| *write <= last);
        node.held = held;
        let ready: Vec<(WriteId, MemberId, Bytes)> = ready;
        self.network.extend(ready.into_iter().map(|(_, to, payload)| (id, to, payload)));
        self.step(id, Input::Persisted(last));
    }

    pub(super) fn has_unsynced(&self, id: MemberId) -> bool {
        let node = &self.nodes[&id];
        node.protocol.is_some() && !node.unsynced.is_empty()
    }

    /// Puts what was applied into a snapshot and drops it from the log.
    pub(super) fn compact(&mut self, id: MemberId) {
        self.sync(id);
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.protocol.is_none() || !node.unsynced.is_empty() || node.commit <= node.log.snapshot_index() {
            return;
        }
        let epoch = node.log.epoch(node.commit).expect("what is committed is here");
        node.mark = SnapshotMark { index: node.commit, epoch, membership: node.applied_membership.clone() };
        node.log.compact(node.commit);
        node.durable_log.compact(node.commit);
    }

    /// Ends the snapshot streams under way.
    pub(super) fn deliver_snapshots(&mut self) {
        for (from, to) in std::mem::take(&mut self.snapshots) {
            let lost = self.blocked.contains(&(from, to)) || self.draw(100) < self.loss_percent;
            let sender = &self.nodes[&from];
            assert!(!sender.applied_membership.is_witness(from), "a witness sends a snapshot");
            if sender.protocol.is_none() {
                continue;
            }
            let ok = !lost && self.nodes[&to].protocol.is_some();
            if ok && sender.commit > self.nodes[&to].commit {
                let epoch = sender.log.epoch(sender.commit).expect("what is committed is here");
                let membership = sender.applied_membership.clone();
                self.install(to, SnapshotMark { index: sender.commit, epoch, membership });
            }
            self.step(from, Input::SnapshotSent { to, ok });
        }
    }

    /// Everything under way is synced, then the snapshot replaces state machine and log.
    fn install(&mut self, id: MemberId, mark: SnapshotMark) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let sync_ms = node.sync_ms.replace(0);
        self.sync(id);
        let node = self.nodes.get_mut(&id).expect("a node");
        node.sync_ms = sync_ms;
        // A history that has the last entry needs nothing, and what is behind it may have been acknowledged.
        let held = node.log.layout == Layout::Tail && node.log.epoch(mark.index) == Ok(mark.epoch);
        if node.commit >= mark.index || held {
            return;
        }
        node.commit = mark.index;
        node.applied_membership = mark.membership.clone();
        node.log.reset(mark.index, mark.epoch);
        node.durable_log.reset(mark.index, mark.epoch);
        node.mark = mark.clone();
        self.snapshots_installed += 1;
        self.step(id, Input::SnapshotInstalled(mark));
    }

    pub(super) fn tick_all(&mut self) {
        for id in self.ids() {
            if self.nodes[&id].protocol.as_ref().is_some_and(|protocol| protocol.deadline() <= self.now) {
                self.step(id, Input::Tick);
            }
        }
    }

    pub(super) fn deliver_some(&mut self) {
        for _ in 0..self.network.len() {
            let pick = self.draw(self.network.len() as u64) as usize;
            let (from, to, payload) = self.network.swap_remove(pick);
            if self.nodes[&to].stopped {
                self.network.push((from, to, payload));
                continue;
            }
            if self.blocked.contains(&(from, to)) || self.draw(100) < self.loss_percent {
                continue;
            }
            if self.draw(100) < self.loss_percent {
                self.network.push((from, to, payload.clone()));
            }
            self.step(to, Input::Message { from, payload });
        }
    }

    /// Time passes without a fault of its own: who is due ticks, messages arrive, disks sync as fast as they do.
    pub(super) fn pass(&mut self, ms: u64) {
        self.loss_percent = 0;
        self.now = self.now.after_ms(ms);
        self.tick_all();
        self.deliver_some();
        self.deliver_snapshots();
        for id in self.ids() {
            self.sync(id);
        }
    }

    pub(super) fn propose(&mut self, id: MemberId) {
        self.propose_values(id, vec![(self.proposed + 1).to_string()]);
    }

    pub(super) fn propose_values(&mut self, id: MemberId, values: Vec<String>) {
        let mut proposals = Vec::new();
        for value in values {
            self.proposed += 1;
            proposals.push(Proposal { id: ProposalId(self.proposed), payload: value.into() });
        }
        self.step(id, Input::Propose(proposals));
    }

    pub(super) fn read(&mut self, id: MemberId, read: u64) {
        let newest = self.committed.last_key_value().map_or(Index(0), |(index, _)| *index);
        self.reads.insert((id, ReadId(read)), newest);
        self.step(id, Input::Read(ReadId(read)));
    }

    pub(super) fn leader(&self) -> Option<MemberId> {
        let statuses = self.statuses().into_iter().filter(|status| status.established);
        statuses.max_by_key(|status| status.epoch).map(|status| status.id)
    }

    /// Of those that run.
    pub(super) fn statuses(&self) -> Vec<Status> {
        let running = self.nodes.values().filter_map(|node| node.protocol.as_ref());
        running.map(|protocol| protocol.status()).collect()
    }

    pub(super) fn change(&mut self, target: impl FnOnce(&mut Membership)) {
        if let Some(leader) = self.leader() {
            self.change_by(leader, target);
        }
    }

    pub(super) fn change_by(&mut self, id: MemberId, target: impl FnOnce(&mut Membership)) {
        let Some(protocol) = &self.nodes[&id].protocol else { return };
        let mut wanted = protocol.membership().clone();
        target(&mut wanted);
        self.step(id, Input::ProposeMembership { id: ProposalId(0), target: wanted });
    }

    pub(super) fn pass_for(&mut self, ms: u64) {
        (0..ms / 10).for_each(|_| self.pass(10));
    }

    pub(super) fn propose_to_leader(&mut self) {
        if let Some(leader) = self.leader() {
            self.propose(leader);
        }
    }

    /// A leader that everybody follows.
    pub(super) fn heal_until_all_follow(&mut self) -> MemberId {
        self.heal_until("everybody follows one leader", |world| {
            let leader = world.leader();
            leader.is_some() && world.statuses().into_iter().all(|status| status.leader == leader)
        });
        self.leader().expect("just found")
    }

    /// Everything works again, slow disks excepted: runs until `done`, with a bound.
    pub(super) fn heal_until(&mut self, what: &str, done: impl FnMut(&mut Self) -> bool) {
        self.blocked.clear();
        for id in self.ids() {
            if self.nodes[&id].protocol.is_none() {
                self.start(id);
            }
        }
        self.until(what, done);
    }

    /// Runs until `done`, with a bound.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..2_000 {
            if done(self) {
                return;
            }
            self.pass(10);
        }
        let nodes = self.statuses();
        let members: Vec<_> = self.nodes.values().map(|node| &node.protocol).collect();
        panic!("no progress after healing: {what}: {nodes:#?} {members:?}");
    }

    pub(super) fn chaos(&mut self, rounds: u64) {
        for round in 0..rounds {
            self.now = self.now.after_ms(10 + self.draw(30));
            self.tick_all();
            self.deliver_some();
            if self.draw(10) == 0 {
                self.deliver_snapshots();
            }
            let ids = self.ids();
            let id = ids[self.draw(ids.len() as u64) as usize];
            let other = ids[self.draw(ids.len() as u64) as usize];
            match self.draw(20) {
                0 if self.draw(4) == 0 => self.crash(id),
                1 if self.nodes[&id].protocol.is_none() => self.start(id),
                2 => drop(self.blocked.insert((id, other))),
                3 | 4 => self.blocked.clear(),
                5 => self.step(id, Input::Transfer(None)),
                6 => self.step(id, Input::Unreachable { peer: other, reset: round % 2 == 0 }),
                7..=9 => self.read(id, round),
                10..=13 => self.propose(id),
                14 => self.change(|membership| {
                    let missing =
                        (1..=ids.len() as u64).find(|id| !membership.members.contains_key(&MemberId(*id)));
                    if let Some(id) = missing.filter(|id| !membership.removed.contains(&MemberId(*id))) {
                        membership.members.insert(MemberId(id), member(id));
                    }
                }),
                15 if self.draw(4) == 0 => self.compact(id),
                _ => self.sync(id),
            }
        }
    }
}
