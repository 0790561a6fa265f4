//! A few members, their disks and the network between them, all of it cloned and compared as one state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use super::hashed::Hashed;
use super::history::History;
use super::node::{Letter, Node};
use crate::effect::Effect;
use crate::id::{MemberId, ReadId, Time};
use crate::input::{Input, Proposal, ProposalId};
use crate::kind::ProtocolKind;
use crate::membership::Membership;

/// What somebody asks for.
#[derive(Clone, Debug, Hash)]
pub(super) enum Wish {
    /// So many values, one right behind the other, of the leader.
    Propose(u32),
    /// A linearizable read, of every member.
    Read,
    /// A membership, of the leader.
    Change(Membership),
    /// Of the leader, that it be the only member.
    Alone,
}

/// What happens next without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A member's oldest write is synced.
    Sync(MemberId),
    /// The oldest message arrives.
    Arrive { from: MemberId, to: MemberId },
    /// Nothing moves: a wish is made, or time goes on.
    Rest,
}

/// Nothing passes between these members and the others, for so many moments at which nothing moves.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Cut {
    pub(super) side: (MemberId, MemberId),
    pub(super) left: u32,
}

impl Cut {
    fn parts(self, from: MemberId, to: MemberId) -> bool {
        let inside = |id| id == self.side.0 || id == self.side.1;
        inside(from) != inside(to)
    }
}

/// So many syncs and messages in a row are a quarrel that does not end.
const RESTLESS_MAX: u32 = 500;

/// One state.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) kind: ProtocolKind,
    pub(super) now: Time,
    pub(super) nodes: BTreeMap<MemberId, Hashed<Node>>,
    pub(super) network: VecDeque<Letter>,
    pub(super) late: Vec<(u32, Letter)>,
    pub(super) cut: Option<Cut>,
    pub(super) wishes: VecDeque<Wish>,
    ticks: u32,
    /// Of the run so far.
    steps: u32,
    /// Steps since nothing moved.
    restless: u32,
    proposed: u64,
    reads: u64,
    history: Hashed<History>,
}

/// How long the run took to come here makes no difference to how it goes on.
impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { kind: _, now, nodes, network, late, cut, wishes, ticks, proposed, reads, history, .. } =
            self;
        (now, nodes, network, late, cut).hash(state);
        (wishes, ticks, proposed, reads, history).hash(state);
    }
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
            nodes: ids.map(|id| (id, Hashed::new(Node::new(kind, id, initial)))).collect(),
            network: VecDeque::new(),
            late: vec![],
            cut: None,
            wishes: wishes.into(),
            ticks,
            steps: 0,
            restless: 0,
            proposed: 0,
            reads: 0,
            history: Hashed::default(),
        }
    }

    /// A member starts with another membership than the rest.
    pub(super) fn found(&mut self, id: MemberId, initial: &Membership) {
        self.nodes.insert(id, Hashed::new(Node::new(self.kind, id, initial)));
    }

    /// Runs until somebody leads.
    pub(super) fn settled(mut self) -> Self {
        while self.leaders().is_empty() && self.advance() == Ok(true) {}
        self
    }

    pub(super) fn next(&self) -> Next {
        let writing = self.nodes.iter().find(|(_, node)| node.stalled == 0 && !node.unsynced.is_empty());
        match (writing, self.network.front()) {
            (Some((&id, _)), _) => Next::Sync(id),
            (None, Some(&Letter { from, to, .. })) => Next::Arrive { from, to },
            (None, None) => Next::Rest,
        }
    }

    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// What happens next, for a reader.
    pub(super) fn describe(&self) -> String {
        match (self.next(), self.network.front()) {
            (Next::Sync(id), _) => format!("{id} syncs {:?}", self.nodes[&id].unsynced.first()),
            (Next::Arrive { from, to }, Some(letter)) => {
                let lost = if self.cut.is_some_and(|cut| cut.parts(from, to)) { " (cut)" } else { "" };
                format!("{from} to {to}{lost}: {}", letter.describe(self.kind))
            }
            (Next::Rest | Next::Arrive { .. }, _) => {
                let leaders = self.leaders();
                format!("nothing moves at {} ms; {leaders:?} lead; wishes: {:?}", self.now.0, self.wishes)
            }
        }
    }

    /// The next thing happens. `false` at the end of the run.
    pub(super) fn advance(&mut self) -> Result<bool, String> {
        self.steps += 1;
        self.restless += 1;
        match self.next() {
            _ if self.restless > RESTLESS_MAX => Err(format!("{RESTLESS_MAX} steps, and no rest")),
            Next::Sync(id) => self.sync(id).map(|()| true),
            Next::Arrive { .. } => self.arrive().map(|()| true),
            Next::Rest => self.rest(),
        }
    }

    fn arrive(&mut self) -> Result<(), String> {
        let Some(Letter { from, to, payload }) = self.network.pop_front() else { return Ok(()) };
        let lost = self.cut.is_some_and(|cut| cut.parts(from, to));
        if lost {
            return Ok(());
        }
        self.step(to, Input::Message { from, payload })
    }

    fn rest(&mut self) -> Result<bool, String> {
        self.restless = 0;
        let lasting = self.end_faults();
        let leader = self.leaders().last().copied();
        if let (Some(leader), Some(wish)) = (leader, self.wishes.front().cloned()) {
            self.wishes.pop_front();
            self.make(leader, &wish)?;
            return Ok(true);
        }
        if self.ticks == 0 {
            return Ok(lasting);
        }
        self.ticks -= 1;
        self.pass().map(|()| true)
    }

    /// Time goes on to the next deadline.
    fn pass(&mut self) -> Result<(), String> {
        let running = self.nodes.iter().filter(|(_, node)| !node.removed);
        let deadlines: Vec<_> = running.map(|(&id, node)| (node.machine.deadline(), id)).collect();
        self.now = deadlines.iter().map(|(at, _)| *at).min().unwrap_or_default().max(self.now);
        for (at, id) in deadlines {
            if at <= self.now {
                self.step(id, Input::Tick)?;
            }
        }
        Ok(())
    }

    /// Nothing moves: what was to last for a while comes nearer to its end. Whether something does last.
    fn end_faults(&mut self) -> bool {
        let mut lasting = self.cut.is_some() || !self.late.is_empty();
        for node in self.nodes.values_mut().filter(|node| node.stalled > 0) {
            lasting = true;
            node.change().stalled -= 1;
        }
        for (left, letter) in std::mem::take(&mut self.late) {
            if left > 1 {
                self.late.push((left - 1, letter));
            } else {
                self.network.push_back(letter);
            }
        }
        self.cut = self.cut.and_then(|Cut { side, left }| (left > 1).then(|| Cut { side, left: left - 1 }));
        lasting
    }

    /// Those that believe to lead, the newest last.
    pub(super) fn leaders(&self) -> Vec<MemberId> {
        let statuses = self.nodes.values().filter(|node| !node.removed).map(|node| node.machine.status());
        let mut leaders: Vec<_> =
            statuses.filter(|it| it.established).map(|status| (status.epoch, status.id)).collect();
        leaders.sort_unstable();
        leaders.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn make(&mut self, leader: MemberId, wish: &Wish) -> Result<(), String> {
        match wish {
            Wish::Propose(values) => {
                for _ in 0..*values {
                    self.proposed += 1;
                    let payload = Bytes::from(self.proposed.to_string());
                    let proposal = Proposal { id: ProposalId(self.proposed), payload };
                    self.step(leader, Input::Propose(vec![proposal]))?;
                }
                Ok(())
            }
            Wish::Change(target) => self.change(leader, target.clone()),
            Wish::Alone => {
                let mut target = self.nodes[&leader].machine.membership().settled();
                let others: BTreeSet<_> = target.members.keys().copied().filter(|id| *id != leader).collect();
                target.members.retain(|id, _| *id == leader);
                target.removed.extend(others);
                self.change(leader, target)
            }
            Wish::Read => {
                for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                    self.reads += 1;
                    self.history.change().asked(id, ReadId(self.reads));
                    self.step(id, Input::Read(ReadId(self.reads)))?;
                }
                Ok(())
            }
        }
    }

    fn change(&mut self, leader: MemberId, target: Membership) -> Result<(), String> {
        self.step(leader, Input::ProposeMembership { id: ProposalId(0), target })
    }

    pub(super) fn sync(&mut self, id: MemberId) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let node = node.change();
        let ready = node.sync(id)?;
        let persisted = node.persisted;
        self.network.extend(ready);
        self.step(id, Input::Persisted(persisted))
    }

    pub(super) fn step(&mut self, id: MemberId, input: Input) -> Result<(), String> {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.removed) else { return Ok(()) };
        let node = node.change();
        // Of those that are voters before the step: what it commits may change them, and they choose that, too.
        let quorum = node.machine.membership().quorum();
        let mut effects = vec![];
        node.machine.step(self.now, input, &node.log, &mut effects);
        for effect in effects {
            match effect {
                Effect::Write(write) => {
                    self.history.change().wrote(&write.entries)?;
                    node.log.apply(&write);
                    node.unsynced.push(write);
                }
                Effect::Send { to, payload, after } => {
                    self.network.extend(node.send(Letter { from: id, to, payload }, after));
                }
                Effect::ReadReady { id: read, index } => {
                    self.history.change().answered(id, read, index)?;
                }
                Effect::Removed => node.removed = true,
                Effect::SendSnapshot { to } => return Err(format!("{to} needs a snapshot of a whole log")),
                Effect::Commit(_)
                | Effect::Accepted { .. }
                | Effect::Refuse { .. }
                | Effect::ReadRefused { .. }
                | Effect::Leadership { .. } => {}
            }
        }
        History::check(&mut self.history, self.kind, id, &quorum, &self.nodes)
    }
}
