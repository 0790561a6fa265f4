//! The conformance suite: what every protocol must hold and do, with a few members on a lossy network whose disks forget what
//! was not synced.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::config::Config;
use crate::effect::{Effect, Write};
use crate::entry::{Entry, HardState, SnapshotMark};
use crate::id::{Epoch, Index, MemberId, ReadId, Time, WriteId};
use crate::input::{Input, Proposal, ProposalId};
use crate::kind::ProtocolKind;
use crate::log::{Layout, LogRead, Missing};
use crate::membership::{Member, Membership, Role};
use crate::protocol::{Part, Protocol};

#[derive(Clone, Debug)]
struct MemoryLog {
    layout: Layout,
    entries: Vec<Option<Entry>>,
}

impl LogRead for MemoryLog {
    fn snapshot_index(&self) -> Index {
        Index(0)
    }
    fn last_index(&self) -> Index {
        Index(self.entries.len() as u64)
    }
    fn epoch(&self, index: Index) -> Result<Epoch, Missing> {
        if index.0 == 0 {
            return Ok(Epoch(0));
        }
        let entry = self.entries.get(index.0 as usize - 1).and_then(Option::as_ref);
        entry.map(|entry| entry.epoch).ok_or(Missing::Beyond)
    }
    fn entries(&self, from: Index, to: Index, _bytes_max: usize) -> Result<Vec<Entry>, Missing> {
        let range = from.0 as usize - 1..(to.0 as usize - 1).min(self.entries.len());
        let found: Vec<Entry> =
            self.entries.get(range).unwrap_or_default().iter().map_while(Clone::clone).collect();
        if found.is_empty() { Err(Missing::Beyond) } else { Ok(found) }
    }
}

impl MemoryLog {
    fn new(kind: ProtocolKind) -> Self {
        Self { layout: kind.layout(), entries: Vec::new() }
    }

    fn apply(&mut self, write: &Write) {
        if let Some(keep) = write.keep {
            assert_eq!(self.layout, Layout::Tail, "slots are never cut");
            self.entries.truncate(keep.0 as usize);
        }
        for (place, entry) in write.entries.iter().enumerate() {
            let at = entry.index.0 as usize - 1;
            match self.layout {
                Layout::Tail => {
                    assert!(at <= self.entries.len(), "a gap in the log");
                    self.entries.truncate(at);
                    self.entries.push(Some(entry.clone()));
                }
                Layout::Slots => {
                    self.entries.resize((at + 1).max(self.entries.len()), None);
                    self.entries[at] = Some(entry.clone());
                }
            }
            assert_eq!(entry.index.0, write.entries[0].index.0 + place as u64, "a write without gaps");
        }
    }
}

#[derive(Debug)]
struct Node {
    protocol: Option<Box<dyn Protocol>>,
    commit: Index,
    removed: bool,
    log: MemoryLog,
    durable_log: MemoryLog,
    durable_hard: HardState,
    unsynced: Vec<Write>,
    held: Vec<(WriteId, MemberId, Bytes)>,
    persisted: WriteId,
    restarts: u64,
}

/// The world of one seed.
#[derive(Debug)]
struct World {
    kind: ProtocolKind,
    random: u64,
    now: Time,
    nodes: BTreeMap<MemberId, Node>,
    network: Vec<(MemberId, MemberId, Bytes)>,
    initial: Membership,
    committed: BTreeMap<Index, (Epoch, Bytes)>,
    leaders: BTreeMap<Epoch, MemberId>,
    reads: BTreeMap<(MemberId, ReadId), Index>,
    reads_served: u64,
    loss_percent: u64,
    proposed: u64,
}

fn member(id: u64) -> Member {
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
    fn new(kind: ProtocolKind, seed: u64, voters: u64, others: u64) -> Self {
        let members = (1..=voters).map(|id| (MemberId(id), member(id))).collect();
        let initial = Membership { members, ..Membership::default() };
        let nodes = (1..=voters + others).map(|id| {
            let node = Node {
                protocol: None,
                commit: Index(0),
                removed: false,
                log: MemoryLog::new(kind),
                durable_log: MemoryLog::new(kind),
                durable_hard: HardState::default(),
                unsynced: vec![],
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
            initial,
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_served: 0,
            loss_percent: 5,
            proposed: 0,
        };
        for id in world.ids() {
            world.start(id);
        }
        world
    }

    fn ids(&self) -> Vec<MemberId> {
        self.nodes.keys().copied().collect()
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn start(&mut self, id: MemberId) {
        let (initial, now, seed, kind) = (self.initial.clone(), self.now, self.random, self.kind);
        let node = self.nodes.get_mut(&id).expect("a node");
        node.restarts += 1;
        node.log = node.durable_log.clone();
        node.unsynced.clear();
        node.held.clear();
        node.persisted = WriteId(0);
        node.commit = Index(0);
        let mark = SnapshotMark { membership: initial, ..SnapshotMark::default() };
        let config = Config::new(id, seed ^ node.restarts);
        node.protocol = Some(kind.start(config, node.durable_hard, mark, &node.log, now));
    }

    fn crash(&mut self, id: MemberId) {
        let node = self.nodes.get_mut(&id).expect("a node");
        node.protocol = None;
        self.reads.retain(|(reader, _), _| *reader != id);
        // Some of what was not synced may have reached the disk all the same; the hard state lies apart from the entries.
        let writes: Vec<Write> = self.nodes.get_mut(&id).expect("a node").unsynced.drain(..).collect();
        let kept = self.draw(1 + writes.len() as u64) as usize;
        let kept_hard = self.draw(1 + writes.len() as u64) as usize;
        let node = self.nodes.get_mut(&id).expect("a node");
        for write in &writes[..kept] {
            node.durable_log.apply(write);
        }
        for write in &writes[..kept_hard] {
            node.durable_hard = write.hard_state.unwrap_or(node.durable_hard);
        }
        // The commit index is a hint that may not name what was lost.
        node.durable_hard.commit = Index(0);
    }

    fn step(&mut self, id: MemberId, input: Input) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(protocol) = &mut node.protocol else { return };
        let mut effects = vec![];
        protocol.step(self.now, input, &node.log, &mut effects);
        let status = protocol.status();
        let mut commits = vec![];
        let mut answered = vec![];
        for effect in effects {
            match effect {
                Effect::Write(write) => {
                    node.log.apply(&write);
                    node.unsynced.push(write);
                }
                Effect::Send { to, payload, after } => match after {
                    Some(write) if write > node.persisted => node.held.push((write, to, payload)),
                    Some(_) | None => self.network.push((id, to, payload)),
                },
                Effect::Commit(index) => commits.push(index),
                Effect::ReadReady { id: read, index } => answered.push((read, index)),
                Effect::Accepted { .. }
                | Effect::Refuse { .. }
                | Effect::ReadRefused { .. }
                | Effect::SendSnapshot { .. }
                | Effect::Leadership { .. } => {}
                Effect::Removed => node.removed = true,
            }
        }
        if status.part == Part::Leader {
            let leader = *self.leaders.entry(status.epoch).or_insert(id);
            assert_eq!(leader, id, "two leaders in epoch {}", status.epoch);
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
        for entry in entries {
            // A value of Multi-Paxos may be accepted in several ballots.
            let epoch = if self.kind == ProtocolKind::MultiPaxos { Epoch(0) } else { entry.epoch };
            let value = (epoch, entry.payload.clone());
            let known = self.committed.entry(entry.index).or_insert_with(|| value.clone());
            assert_eq!(*known, value, "two values committed at {}", entry.index);
        }
    }

    fn sync(&mut self, id: MemberId) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(last) = node.unsynced.last().map(|write| write.id) else { return };
        let writes: Vec<Write> = node.unsynced.drain(..).collect();
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

    fn tick_all(&mut self) {
        for id in self.ids() {
            if self.nodes[&id].protocol.as_ref().is_some_and(|protocol| protocol.deadline() <= self.now) {
                self.step(id, Input::Tick);
            }
        }
    }

    fn deliver_some(&mut self, blocked: &BTreeSet<(MemberId, MemberId)>) {
        for _ in 0..self.network.len() {
            let pick = self.draw(self.network.len() as u64) as usize;
            let (from, to, payload) = self.network.swap_remove(pick);
            if blocked.contains(&(from, to)) || self.draw(100) < self.loss_percent {
                continue;
            }
            if self.draw(100) < self.loss_percent {
                self.network.push((from, to, payload.clone()));
            }
            self.step(to, Input::Message { from, payload });
        }
    }

    fn propose(&mut self, id: MemberId) {
        self.proposed += 1;
        let payload = Bytes::from(self.proposed.to_string());
        self.step(id, Input::Propose(vec![Proposal { id: ProposalId(self.proposed), payload }]));
    }

    fn read(&mut self, id: MemberId, read: u64) {
        let newest = self.committed.last_key_value().map_or(Index(0), |(index, _)| *index);
        self.reads.insert((id, ReadId(read)), newest);
        self.step(id, Input::Read(ReadId(read)));
    }

    fn leader(&self) -> Option<MemberId> {
        let statuses =
            self.nodes.values().filter_map(|node| node.protocol.as_ref()).map(|protocol| protocol.status());
        statuses.filter(|status| status.established).max_by_key(|status| status.epoch).map(|status| status.id)
    }

    fn change(&mut self, target: impl FnOnce(&mut Membership)) {
        let Some(leader) = self.leader() else { return };
        let Some(protocol) = &self.nodes[&leader].protocol else { return };
        let mut wanted = protocol.membership().clone();
        target(&mut wanted);
        self.step(leader, Input::ProposeMembership { id: ProposalId(0), target: wanted });
    }

    /// Everything works again: runs until `done`, with a bound.
    fn heal_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        self.loss_percent = 0;
        for id in self.ids() {
            if self.nodes[&id].protocol.is_none() {
                self.start(id);
            }
        }
        for _ in 0..2_000 {
            if done(self) {
                return;
            }
            self.now = self.now.after_ms(10);
            self.tick_all();
            self.deliver_some(&BTreeSet::new());
            for id in self.ids() {
                self.sync(id);
            }
        }
        let nodes: Vec<_> = self
            .nodes
            .values()
            .filter_map(|node| node.protocol.as_ref())
            .map(|protocol| protocol.status())
            .collect();
        let members: Vec<_> = self.nodes.values().map(|node| &node.protocol).collect();
        panic!("no progress after healing: {what}: {nodes:#?} {members:?}");
    }

    fn chaos(&mut self, rounds: u64) {
        let mut blocked = BTreeSet::new();
        for round in 0..rounds {
            self.now = self.now.after_ms(10 + self.draw(30));
            self.tick_all();
            self.deliver_some(&blocked);
            let ids = self.ids();
            let id = ids[self.draw(ids.len() as u64) as usize];
            let other = ids[self.draw(ids.len() as u64) as usize];
            match self.draw(20) {
                0 if self.draw(4) == 0 => self.crash(id),
                1 if self.nodes[&id].protocol.is_none() => self.start(id),
                2 => drop(blocked.insert((id, other))),
                3 | 4 => blocked.clear(),
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
                _ => self.sync(id),
            }
        }
    }
}

fn chaos(kind: ProtocolKind) {
    let mut reads_served = 0;
    for seed in 1..=300 {
        let mut world = World::new(kind, seed * 7919, 3, 2);
        world.chaos(600);
        let before = world.committed.len();
        world.heal_until(&format!("seed {seed}"), |world| {
            if let Some(leader) = world.leader() {
                world.propose(leader);
            }
            world.committed.len() > before + 20
        });
        reads_served += world.reads_served;
    }
    assert!(reads_served > 1_000, "reads were hardly exercised: {reads_served}");
}

#[test]
fn raft_keeps_the_invariants_and_healing_brings_progress() {
    chaos(ProtocolKind::Raft);
}

#[test]
fn multi_paxos_keeps_the_invariants_and_healing_brings_progress() {
    chaos(ProtocolKind::MultiPaxos);
}

#[test]
fn zab_keeps_the_invariants_and_healing_brings_progress() {
    chaos(ProtocolKind::Zab);
}

#[test]
fn a_single_voter_leads_at_once() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 1, 1, 0);
        for _ in 0..6 {
            world.tick_all();
            world.sync(MemberId(1));
        }
        assert_eq!(world.leader(), Some(MemberId(1)), "{kind}");
        assert_eq!(world.now, Time(0));
    }
}

#[test]
fn five_replace_three_at_once_and_the_removed_are_told() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 3, 3, 2);
        world.heal_until("a leader", |world| world.leader().is_some());
        world.change(|membership| {
            membership.members.insert(MemberId(4), member(4));
            membership.members.insert(MemberId(5), member(5));
            membership.members.remove(&MemberId(1));
            membership.removed.insert(MemberId(1));
        });
        world.heal_until("the change", |world| {
            let settled = |id: u64| {
                world.nodes[&MemberId(id)].protocol.as_ref().is_some_and(|protocol| {
                    !protocol.membership().is_joint()
                        && protocol.membership().members.len() == 4
                        && protocol.status().commit >= Index(2)
                })
            };
            (2..=5).all(settled)
        });
        world.heal_until("the removed one is told", |world| world.nodes[&MemberId(1)].removed);
        let before = world.committed.len();
        world.heal_until("the new voters decide", |world| {
            if let Some(leader) = world.leader() {
                world.propose(leader);
            }
            world.committed.len() > before + 20
        });
    }
}

#[test]
fn followers_of_a_leader_whose_process_ended_do_not_wait_a_timeout() {
    for kind in ProtocolKind::ALL {
        for seed in 1..50 {
            let mut world = World::new(kind, seed, 3, 0);
            world.heal_until("a leader", |world| world.leader().is_some());
            let leader = world.leader().expect("just found");
            world.heal_until("followers", |world| {
                let leaders = world.nodes.values().filter_map(|node| node.protocol.as_ref());
                leaders.map(|protocol| protocol.status().leader).all(|known| known == Some(leader))
            });
            world.crash(leader);
            world.loss_percent = 0;
            let began = world.now;
            for peer in world.ids() {
                world.step(peer, Input::Unreachable { peer: leader, reset: true });
            }
            while world.leader().is_none() {
                assert!(world.now.since_ms(began) < 500, "{kind}, seed {seed}: no leader within 500 ms");
                world.now = world.now.after_ms(5);
                world.tick_all();
                world.deliver_some(&BTreeSet::new());
                world.ids().into_iter().for_each(|id| world.sync(id));
            }
        }
    }
}
