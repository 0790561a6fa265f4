//! Members, their disks and the network, moved by commands only.

use std::collections::BTreeSet;

use super::super::world::World;
use super::Teller;
use super::command::{Command, Expected, Filter};
use super::words;
use crate::id::{Index, MemberId, ReadId};
use crate::input::Input;
use crate::kind::ProtocolKind;
use crate::log::LogRead;
use crate::protocol::{Part, Status};

/// Rounds of delivering and syncing until nothing moves, at most.
const SETTLE_ROUNDS_MAX: usize = 200;

/// Longer than any election timeout.
const ELECT_AFTER_MS: u64 = 3_000;

/// The world of one story.
pub(super) struct Stage {
    kind: ProtocolKind,
    world: World,
    append_bytes_max: usize,
    stalled: BTreeSet<MemberId>,
    /// Everything that was told, quiet commands included.
    told: Vec<String>,
}

impl Teller for Stage {
    fn tell(&mut self, command: &str) -> Result<Vec<String>, String> {
        let (quiet, command) =
            command.strip_prefix("quiet ").map_or((false, command), |command| (true, command));
        let command = Command::parse(command)?;
        let mut lines = self.run(command)?;
        self.told.append(&mut lines.clone());
        if quiet {
            lines.clear();
        }
        Ok(lines)
    }
}

impl Stage {
    pub(super) fn new(kind: ProtocolKind) -> Self {
        Self {
            kind,
            world: World::new(kind, 1, 1, 0),
            append_bytes_max: 1 << 20,
            stalled: BTreeSet::new(),
            told: Vec::new(),
        }
    }

    fn run(&mut self, command: Command) -> Result<Vec<String>, String> {
        match command {
            Command::Members(counts) => {
                self.world = World::with(self.kind, 1, counts, self.append_bytes_max);
                self.world.loss_percent = 0;
                self.world.heard = Some(Vec::new());
            }
            Command::OneByOne => self.append_bytes_max = 1,
            Command::Elect(id) => {
                self.world.now = self.world.now.after_ms(ELECT_AFTER_MS);
                self.world.step(id, Input::Tick);
            }
            Command::Wait(ms) => self.world.now = self.world.now.after_ms(ms),
            Command::Tick(ids) => self.tick(&ids),
            Command::Run(ms) => return Ok(self.run_for(ms)),
            Command::Deliver(filter) => return self.deliver(&filter),
            Command::Drop(filter) => return Ok(self.lose(&filter)),
            Command::Sync(ids) => ids.into_iter().for_each(|id| self.world.sync(id)),
            Command::Settle(ids) => return Ok(self.settle(&ids)),
            Command::Stall(ids) => self.stalled.extend(ids),
            Command::Cut(links) => self.world.blocked.extend(links),
            Command::Heal => {
                self.world.blocked.clear();
                self.stalled.clear();
            }
            Command::Crash { id, keeping } => self.world.crash_keeping(id, keeping, keeping),
            Command::Restart(id) => self.world.start(id),
            Command::Propose { id, values } => self.world.propose_values(id, values),
            Command::Read { id, read } => self.world.step(id, Input::Read(ReadId(read))),
            Command::Transfer { id, to } => self.world.step(id, Input::Transfer(to)),
            Command::Change { id, change } => self.world.change_by(id, |membership| change.apply(membership)),
            Command::Reset { id, peer } => {
                self.world.step(id, Input::Unreachable { peer, reset: true });
            }
            Command::Compact(id) => self.world.compact(id),
            Command::Status => return Ok(self.world.statuses().iter().map(status).collect()),
            Command::Log(id) => return Ok(vec![self.log(id)]),
            Command::Expect(expected) => return self.expect(&expected).map(|()| Vec::new()),
        }
        Ok(self.heard())
    }

    /// What members did since the last time.
    fn heard(&mut self) -> Vec<String> {
        let heard = self.world.heard.as_mut().map(std::mem::take).unwrap_or_default();
        heard.iter().map(|(id, effect)| words::effect(self.kind, *id, effect)).collect()
    }

    fn tick(&mut self, ids: &[MemberId]) {
        if ids.is_empty() {
            return self.world.tick_all();
        }
        ids.iter().for_each(|&id| self.world.step(id, Input::Tick));
    }

    /// Time goes on, and everybody does what is due.
    fn run_for(&mut self, ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..ms / 10 {
            self.world.now = self.world.now.after_ms(10);
            self.world.tick_all();
            lines.extend(self.heard());
            lines.extend(self.move_all(&[]));
        }
        lines
    }

    fn deliver(&mut self, filter: &Filter) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        for at in self.matching(filter)?.into_iter().enumerate().map(|(before, at)| at - before) {
            lines.extend(self.deliver_at(at));
        }
        Ok(lines)
    }

    /// Places in the network of the messages that are meant, oldest first.
    fn matching(&self, filter: &Filter) -> Result<Vec<usize>, String> {
        let meant = |(from, to, payload): &(MemberId, MemberId, bytes::Bytes)| {
            let words = words::message(self.kind, payload.clone());
            let name = words.split([' ', ':']).next().unwrap_or_default();
            filter.means(*from, *to, name)
        };
        let network = self.world.network.iter().enumerate();
        let found: Vec<usize> = network.filter(|(_, it)| meant(it)).map(|(at, _)| at).collect();
        if found.is_empty() { Err("no message is meant".to_owned()) } else { Ok(found) }
    }

    fn deliver_at(&mut self, at: usize) -> Vec<String> {
        let (from, to, payload) = self.world.network.remove(at);
        let words = words::message(self.kind, payload.clone());
        let down = self.world.nodes.get(&to).is_none_or(|node| node.protocol.is_none());
        if down || self.world.blocked.contains(&(from, to)) {
            return vec![format!("({from} -> {to} {words} is lost)")];
        }
        self.world.step(to, Input::Message { from, payload });
        let mut lines = vec![format!("{to} gets {words} from {from}")];
        lines.extend(self.heard().into_iter().map(|line| format!("  {line}")));
        lines
    }

    fn lose(&mut self, filter: &Filter) -> Vec<String> {
        let found = self.matching(filter).unwrap_or_default();
        let mut lines = Vec::new();
        for at in found.into_iter().rev() {
            let (from, to, payload) = self.world.network.remove(at);
            lines.push(format!("({from} -> {to} {} is lost)", words::message(self.kind, payload)));
        }
        lines.reverse();
        lines
    }

    fn settle(&mut self, among: &[MemberId]) -> Vec<String> {
        let mut lines = self.heard();
        for _ in 0..SETTLE_ROUNDS_MAX {
            let moved = self.move_all(among);
            if moved.is_empty() {
                return lines;
            }
            lines.extend(moved);
        }
        lines.push("(it never settles)".to_owned());
        lines
    }

    /// Delivers what is on its way, ends snapshots, syncs disks; only those of `among`, or all.
    fn move_all(&mut self, among: &[MemberId]) -> Vec<String> {
        let meant = |id: MemberId| among.is_empty() || among.contains(&id);
        let mut lines = Vec::new();
        let mut at = 0;
        for _ in 0..self.world.network.len() {
            let (from, to, _) = &self.world.network[at];
            if meant(*from) && meant(*to) {
                lines.extend(self.deliver_at(at));
            } else {
                at += 1;
            }
        }
        self.world.deliver_snapshots();
        for id in self.world.ids() {
            if meant(id) && !self.stalled.contains(&id) && self.world.has_unsynced(id) {
                self.world.sync(id);
                lines.push(format!("{id} has synced"));
            }
            lines.extend(self.heard().into_iter().map(|line| format!("  {line}")));
        }
        lines
    }

    fn log(&self, id: MemberId) -> String {
        let log = &self.world.nodes[&id].log;
        let mut words = format!("{id}:");
        let mut index = log.snapshot_index().next();
        if index > Index(1) {
            words.push_str(&format!(" snapshot up to {},", log.snapshot_index()));
        }
        while index <= log.last_index() {
            let entry = log.entries(index, index.next(), usize::MAX).ok().and_then(|mut found| found.pop());
            words.push_str(&match entry {
                Some(entry) => format!(" {},", words::entry(&entry)),
                None => format!(" {index} a hole,"),
            });
            index = index.next();
        }
        words.trim_end_matches(',').to_owned()
    }

    fn expect(&self, expected: &Expected) -> Result<(), String> {
        let holds = match expected {
            Expected::Leader { id, not } => (self.world.leader() == *id) != *not,
            Expected::Committed { id, value, not } => {
                let node = &self.world.nodes[id];
                let entries =
                    node.log.entries(node.log.snapshot_index().next(), node.commit.next(), usize::MAX);
                entries.unwrap_or_default().iter().any(|entry| entry.payload == value.as_bytes()) != *not
            }
            Expected::Voters { id, voters, not } => {
                let protocol = self.world.nodes[id].protocol.as_ref();
                protocol.is_some_and(|protocol| protocol.membership().voters() == *voters) != *not
            }
            Expected::Said { words, not } => self.told.iter().any(|line| line.contains(words)) != *not,
        };
        if holds { Ok(()) } else { Err(format!("does not hold; the leader is {:?}", self.world.leader())) }
    }
}

fn status(status: &Status) -> String {
    let part = match status.part {
        Part::Follower => "follows",
        Part::Candidate => "stands",
        Part::Leader => "leads",
    };
    let leader = status.leader.map_or("nobody".to_owned(), |leader| leader.to_string());
    let Status { id, epoch, commit, .. } = status;
    format!("{id} {part} in epoch {epoch}, leader {leader}, commit {commit}")
}
