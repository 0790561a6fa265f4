//! The world of one seed.

mod churn;
mod clients;
mod clock;
mod faults;
mod machine;
mod watchers;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use quorate_consensus::id::{Epoch, Index, MemberId, Time};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::membership::{Membership, Role};
use quorate_replica::event::{Event, GroupId, RequestId};
use quorate_replica::host::Host;
use quorate_replica::output::Output;
use quorate_storage::backend::Batch;
use quorate_storage::backend::memory::MemoryBackend;
use quorate_storage::wal::SyncJob;

use crate::check;
use crate::check::search::Verdict;
use crate::check::witness::Witness;
use crate::invariants::Invariants;
use crate::random::Random;
use crate::story::{self, Story};

use clients::{CLIENTS, Clients};
use machine::Machine;
use watchers::{WATCHERS, Watcher};

/// What a seed shows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Operations whose outcome was checked.
    pub operations: u64,
    /// Of these, those that succeeded.
    pub acknowledged: u64,
    /// Answers to watches that were checked.
    pub watched: u64,
    /// Histories for whose beginning the search found an order, too.
    pub searched: u64,
    /// Faults by class.
    pub faults: BTreeMap<&'static str, u64>,
    /// Rare states that were reached.
    pub reached: BTreeMap<&'static str, u64>,
    /// A hash over every event of the run: equal for equal seeds.
    pub trace: u64,
}

impl Report {
    /// Adds another seed's figures.
    pub fn add(&mut self, other: &Self) {
        self.simulated_ms += other.simulated_ms;
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
        self.watched += other.watched;
        self.searched += other.searched;
        for (sum, counts) in [(&mut self.faults, &other.faults), (&mut self.reached, &other.reached)] {
            counts.iter().for_each(|(what, count)| *sum.entry(what).or_default() += count);
        }
    }
}

#[derive(Debug)]
enum Happening {
    Message { from: MemberId, to: MemberId, payload: Bytes },
    Snapshot { from: MemberId, to: MemberId, index: Index, epoch: Epoch, chunks: Vec<Batch> },
    Synced { member: MemberId, boot: u64, job: SyncJob },
    Ask { client: usize },
    WatchElsewhere { watcher: usize },
    Reset { at: MemberId, peer: MemberId },
}

/// Members, network, clients, and what will happen.
#[derive(Debug)]
pub struct World {
    protocol: ProtocolKind,
    random: Random,
    now: Time,
    moment: u64,
    trace: DefaultHasher,
    machines: BTreeMap<MemberId, Machine>,
    agenda: BTreeMap<(Time, u64), Happening>,
    cuts: BTreeSet<(MemberId, MemberId)>,
    loss_percent: u64,
    /// The longest way of a message.
    reorder_ms: u64,
    /// Whether members come and go.
    churns: bool,
    /// Witnesses: no client comes to them, and no state is looked at.
    without_data: BTreeSet<MemberId>,
    /// Changes of the membership that were asked for.
    changes: BTreeMap<(MemberId, RequestId), &'static str>,
    clients: Clients,
    watchers: Vec<Watcher>,
    /// What happened, as the members published it.
    witness: Witness,
    invariants: Invariants,
    /// What was found to be broken first.
    broken: Option<String>,
    report: Report,
    story: Story,
    /// Timers in a row that rang without time going on.
    rings: u32,
}

const DELAY_MS_MAX: u64 = 12;
/// More timers than this at one moment are a timer that does not go away.
const RINGS_MAX: u32 = 10_000;
/// After healing everybody agrees within this time.
const PROGRESS_MS: u64 = 60_000;

impl World {
    /// A world of this many voters.
    #[must_use]
    pub fn new(protocol: ProtocolKind, seed: u64, voters: u64, story: Story) -> Self {
        Self::with_witnesses(protocol, seed, voters, 0, story)
    }

    /// A world of so many voters, of which the last ones are witnesses. Then nobody comes or goes.
    #[must_use]
    pub fn with_witnesses(
        protocol: ProtocolKind,
        seed: u64,
        voters: u64,
        witnesses: u64,
        story: Story,
    ) -> Self {
        let role = |id| if id > voters - witnesses { Role::Witness } else { Role::Voter };
        let members = (1..=voters).map(|id| (MemberId(id), churn::member(id, role(id)))).collect();
        let initial = Membership { members, ..Membership::default() };
        let mut world = Self {
            protocol,
            random: Random::new(seed),
            now: Time(0),
            moment: 0,
            trace: DefaultHasher::new(),
            machines: (1..=voters).map(|id| (MemberId(id), Machine::new(initial.clone()))).collect(),
            agenda: BTreeMap::new(),
            cuts: BTreeSet::new(),
            loss_percent: 0,
            reorder_ms: DELAY_MS_MAX,
            // Every other world: those of one voter stay as they are.
            churns: voters > 1 && witnesses == 0 && seed % 8 >= 4,
            without_data: (voters - witnesses + 1..=voters).map(MemberId).collect(),
            changes: BTreeMap::new(),
            clients: Clients::default(),
            watchers: Vec::new(),
            witness: Witness::default(),
            invariants: Invariants::new(protocol),
            broken: None,
            report: Report::default(),
            story,
            rings: 0,
        };
        world.machines.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| world.boot(id));
        (0..CLIENTS).for_each(|client| world.plan(client as u64, Happening::Ask { client }));
        for watcher in 0..WATCHERS {
            let watching = world.new_watcher();
            world.watchers.push(watching);
            world.plan(10, Happening::WatchElsewhere { watcher });
        }
        world
    }

    /// Safety under faults for `faulty_ms`, then healing and progress within a bound, then the checks.
    ///
    /// # Errors
    /// What went wrong.
    pub fn run(mut self, faulty_ms: u64) -> Result<Report, String> {
        self.loss_percent = self.random.below(8);
        while self.now.0 < faulty_ms {
            self.advance();
            self.sound()?;
            if self.random.chance(3) {
                self.fault();
            }
        }
        self.heal();
        let deadline = self.now.after_ms(PROGRESS_MS);
        self.clients.stopped = true;
        while !self.is_quiet() {
            if self.now > deadline {
                let statuses: Vec<_> = self
                    .hosts()
                    .filter_map(|host| Some(format!("{:?}", host.replica(GroupId::DEFAULT)?)))
                    .collect();
                return Err(format!("no agreement {PROGRESS_MS} ms after healing: {statuses:?}"));
            }
            self.advance();
            self.sound()?;
            // Whoever asked for a newcomer may have ended before it heard the answer.
            if let Some(membership) = self.membership().cloned() {
                self.start_newcomers(&membership);
            }
        }
        self.verify()?;
        self.report.simulated_ms = self.now.0;
        self.report.trace = self.trace.finish();
        Ok(self.report)
    }

    fn sound(&mut self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), |what| Err(format!("at {} ms: {what}", self.now)))
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.machines.values().filter_map(|machine| machine.host.as_ref())
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.story >= Story::Short {
            println!("{:>8} ms  {}", self.now.0, what());
        }
    }

    fn plan(&mut self, in_ms: u64, happening: Happening) {
        self.moment += 1;
        self.agenda.insert((self.now.after_ms(in_ms), self.moment), happening);
    }

    fn boot(&mut self, id: MemberId) {
        self.tell(|| format!("member {id} starts"));
        let (protocol, seed, now) = (self.protocol, self.random.draw(), self.now);
        self.machines.get_mut(&id).expect("a member of the world").boot(id, protocol, seed, now);
    }

    /// What a member's clock shows.
    fn local(&self, id: MemberId) -> Time {
        self.machines.get(&id).map_or(self.now, |machine| machine.local(self.now))
    }

    /// Until when a member does nothing, if it pauses.
    fn paused(&self, id: MemberId) -> Option<u64> {
        let until = self.machines.get(&id)?.paused_until;
        (until > self.now).then(|| until.since_ms(self.now))
    }

    /// Everybody answered, and all members applied the same.
    fn is_quiet(&self) -> bool {
        let Some(membership) = self.membership() else { return false };
        let applied = membership.members.keys().map(|id| {
            let host = self.machines.get(id).and_then(|machine| machine.host.as_ref());
            host.and_then(|host| Some(host.replica(GroupId::DEFAULT)?.state().applied()))
        });
        let applied: BTreeSet<_> = applied.collect();
        !self.clients.is_waiting() && applied.len() == 1 && !applied.contains(&None) && !membership.is_joint()
    }

    /// The next thing happens: a planned one, or a member's timer.
    fn advance(&mut self) {
        let timer =
            self.machines.iter().filter_map(|(id, machine)| Some((machine.deadline(self.now)?, *id))).min();
        let planned = self.agenda.first_key_value().map(|((at, _), _)| *at);
        match (planned, timer) {
            (Some(at), Some((due, id))) if due < at => self.ring(due, id),
            (None, Some((due, id))) => self.ring(due, id),
            (Some(_), _) => {
                if let Some(((at, _), happening)) = self.agenda.pop_first() {
                    self.now = self.now.max(at);
                    self.happen(happening);
                }
            }
            (None, None) => self.now = self.now.after_ms(1),
        }
    }

    fn ring(&mut self, due: Time, id: MemberId) {
        self.rings = if due > self.now { 0 } else { self.rings + 1 };
        assert!(self.rings < RINGS_MAX, "member {id}'s timer rings without end");
        self.now = self.now.max(due);
        self.event(id, Event::Tick);
    }

    fn happen(&mut self, happening: Happening) {
        let place = match &happening {
            Happening::Message { to, .. } | Happening::Snapshot { to, .. } => Some(*to),
            Happening::Synced { member, .. } => Some(*member),
            Happening::Reset { at, .. } => Some(*at),
            Happening::Ask { .. } | Happening::WatchElsewhere { .. } => None,
        };
        if let Some(in_ms) = place.and_then(|id| self.paused(id)) {
            return self.plan(in_ms, happening);
        }
        match happening {
            Happening::Message { from, to, payload } => {
                (self.now.0, from, to, &payload).hash(&mut self.trace);
                if self.story == Story::Messages {
                    let protocol = self.protocol;
                    self.tell(|| format!("{from} -> {to}  {}", story::message(protocol, &payload)));
                }
                self.event(to, Event::Peer { from, payload });
            }
            Happening::Snapshot { from, to, index, epoch, chunks } => {
                let now = self.local(to);
                if let Some(host) = self.machines.get_mut(&to).and_then(|machine| machine.host.as_mut()) {
                    if host.install(now, GroupId::DEFAULT, (index, epoch), chunks).is_err() {
                        return self.crash(to);
                    }
                    *self.report.reached.entry("snapshot installed").or_default() += 1;
                    self.flush(to);
                }
                self.event(from, Event::SnapshotSent { to, ok: true });
            }
            Happening::Synced { member, boot, job } => self.synced(member, boot, job),
            Happening::Ask { client } => self.ask(client),
            Happening::WatchElsewhere { watcher } => self.watch_elsewhere(watcher),
            Happening::Reset { at, peer } => self.event(at, Event::Unreachable { peer, reset: true }),
        }
    }

    fn synced(&mut self, member: MemberId, boot: u64, job: SyncJob) {
        let now = self.local(member);
        let Some(machine) = self.machines.get_mut(&member).filter(|machine| machine.boots == boot) else {
            return;
        };
        let Some(host) = &mut machine.host else { return };
        let Ok(number) = job.run() else {
            // What a failed sync left on the medium is not known: the member ends.
            return self.crash(member);
        };
        match host.synced(now, number) {
            Ok(()) => self.flush(member),
            Err(_) => self.crash(member),
        }
    }

    fn event(&mut self, id: MemberId, event: Event) {
        let now = self.local(id);
        if let Some(host) = self.machines.get_mut(&id).and_then(|machine| machine.host.as_mut()) {
            // A member whose disk fails ends.
            match host.step(now, GroupId::DEFAULT, event) {
                Ok(()) => self.flush(id),
                Err(_) => self.crash(id),
            }
        }
    }

    fn flush(&mut self, id: MemberId) {
        let now = self.local(id);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let (boot, backend) = (machine.boots, machine.backend.clone());
        let Some(host) = &mut machine.host else { return };
        // A new segment is synced when it is made, which may fail too.
        let Ok(outputs) = host.flush(now) else { return self.crash(id) };
        if let Err(what) = self.invariants.check(id, host) {
            self.broken.get_or_insert(what);
        }
        for output in outputs {
            self.perform(id, boot, &backend, output);
        }
    }

    fn perform(&mut self, id: MemberId, boot: u64, backend: &MemoryBackend, output: Output) {
        match output {
            Output::Send { to, payload, .. } => self.post(id, to, payload),
            Output::Sync(job) => {
                let in_ms = self.random.below(self.machines[&id].sync_ms_max);
                self.plan(in_ms, Happening::Synced { member: id, boot, job });
            }
            Output::Reply { id: request, result } => match self.changes.remove(&(id, request)) {
                Some(class) => self.changed(class, result),
                None => self.answered(id, request, result),
            },
            Output::SendSnapshot { to, mut snapshot, .. } => {
                let mut chunks = Vec::new();
                while let Some(chunk) = snapshot.next_chunk().expect("memory works") {
                    chunks.push(chunk);
                }
                let (index, epoch) = (snapshot.index, snapshot.epoch);
                let in_ms = 20 + self.random.below(50);
                self.plan(in_ms, Happening::Snapshot { from: id, to, index, epoch, chunks });
            }
            Output::Persist { group, through } => {
                use quorate_storage::backend::Backend;
                backend.persist().expect("memory works");
                if let Some(host) = self.machines.get_mut(&id).and_then(|machine| machine.host.as_mut())
                    && host.persisted(group, through).is_err()
                {
                    self.crash(id);
                }
            }
            Output::Leadership { epoch, established, .. } => {
                if established {
                    *self.report.reached.entry("leader established").or_default() += 1;
                    self.tell(|| format!("member {id} leads in epoch {epoch}"));
                }
            }
            Output::Removed { .. } => self.retire(id),
            Output::Published { reader, events, .. } => self.published(id, &reader, &events),
            Output::Membership { .. } => {}
        }
    }

    fn post(&mut self, from: MemberId, to: MemberId, payload: Bytes) {
        if self.cuts.contains(&(from, to)) || self.random.chance(self.loss_percent) {
            *self.report.faults.entry("message lost").or_default() += 1;
            return;
        }
        let delay = self.random.below(self.reorder_ms);
        if self.loss_percent > 0 && self.random.chance(2) {
            *self.report.faults.entry("message repeated").or_default() += 1;
            let later = delay + self.random.below(300);
            self.plan(later, Happening::Message { from, to, payload: payload.clone() });
        }
        self.plan(delay, Happening::Message { from, to, payload });
    }

    /// Every judge looks at what clients saw.
    fn verify(&mut self) -> Result<(), String> {
        let members: Vec<MemberId> = self
            .membership()
            .map(|membership| membership.members.keys().copied().collect())
            .unwrap_or_default();
        let mut hashes = BTreeSet::new();
        for id in members.iter().filter(|id| !self.without_data.contains(id)) {
            let host = self.machines.get(id).and_then(|machine| machine.host.as_ref());
            let Some(replica) = host.and_then(|host| host.replica(GroupId::DEFAULT)) else { continue };
            let reader = replica.state().reader();
            hashes.insert(reader.hash(0).map_err(|error| error.to_string())?);
            let holding = check::durability::Holding::of(&reader)?;
            check::durability::check(&self.clients.records, &self.witness, &holding)
                .map_err(|what| format!("member {id}: {what}"))?;
        }
        if hashes.len() != 1 {
            return Err(format!("members that applied the same hold different states: {hashes:?}"));
        }
        self.finish_watches(members[0])?;
        let records = &self.clients.records;
        self.report.operations = records.len() as u64;
        self.report.acknowledged = records.iter().filter(|record| clients::is_success(record)).count() as u64;
        let explained = check::linearizability::check(records, &self.witness)?;
        check::compaction::check(records)?;
        let clock = |from: u64, to: u64| {
            let to = Time(to.min(self.now.0));
            let passed = self
                .machines
                .values()
                .map(|machine| machine.clock.at(to).since_ms(machine.clock.before(Time(from))));
            passed.max().unwrap_or(0)
        };
        check::lease::check(records, &self.witness, &explained, &clock)?;
        for watcher in &self.watchers {
            check::watch::check(&watcher.watch, &self.witness)?;
            self.report.watched += watcher.watch.heard.len() as u64;
        }
        match check::search::search(records) {
            Verdict::Linearizable => self.report.searched += 1,
            Verdict::GaveUp => {}
            Verdict::Not(stuck) => {
                return Err(format!("no order was found: what could be next does not fit: {stuck}"));
            }
        }
        Ok(())
    }
}
