//! The world of one seed.

mod ambush;
mod churn;
mod clients;
mod clock;
pub mod cuts;
mod damage;
mod events;
mod faults;
mod machine;
mod network;
mod phases;
mod report;
pub mod sometimes;
mod synchronisation;
mod trace;
mod upgrades;
mod watchers;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use quorate_consensus::id::{Epoch, Index, MemberId, Time};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::membership::{Membership, Role};
use quorate_replica::event::{GroupId, RequestId};
use quorate_replica::host::Host;
use quorate_storage::backend::Batch;
use quorate_storage::wal::SyncJob;

use crate::check::witness::Witness;
use crate::finding::Finding;
use crate::invariants::Invariants;
use crate::random::Random;
use crate::schedule::Schedule;
use crate::seed;
use crate::story::Story;

pub use ambush::Ambush;
use clients::{CLIENTS, Clients};
use damage::Atlas;
use machine::Machine;
use network::Network;
pub use report::Report;
use trace::Trace;
use watchers::{WATCHERS, Watcher};

#[derive(Debug)]
enum Happening {
    Message { from: MemberId, to: MemberId, payload: Bytes },
    Snapshot { from: MemberId, to: MemberId, index: Index, epoch: Epoch, chunks: Vec<Batch> },
    Synced { member: MemberId, boot: u64, job: SyncJob },
    Persisted { member: MemberId, boot: u64, group: GroupId, through: Index },
    Ask { client: usize },
    WatchElsewhere { watcher: usize },
    FaultBegins { place: usize },
    FaultEnds { place: usize },
    Restart { member: MemberId },
    Operate,
    Churn { asked: MemberId },
    Ambush { leader: MemberId },
    AmbushEnds { number: u64 },
    CrashInSync { member: MemberId, boot: u64 },
    Reset { at: MemberId, peer: MemberId },
}

/// Members, network, clients, and what will happen.
#[derive(Debug)]
pub struct World {
    protocol: ProtocolKind,
    seed: u64,
    random: Random,
    now: Time,
    moment: u64,
    trace: Trace,
    machines: BTreeMap<MemberId, Machine>,
    agenda: BTreeMap<(Time, u64), Happening>,
    network: Network,
    schedule: Schedule,
    /// Faults of the schedule that are not over, and the machines that they hit.
    active: BTreeSet<usize>,
    hit: BTreeMap<usize, Vec<MemberId>>,
    snapshots_interrupted: u64,
    atlas: Atlas,
    /// Machines that stay down until everything heals.
    held_down: BTreeSet<MemberId>,
    /// The operator changes the membership.
    plans_changes: bool,
    seen: sometimes::Seen,
    accepted: synchronisation::Accepted,
    /// Whether members come and go.
    churns: bool,
    /// Whether members of two versions work together.
    upgrades: bool,
    /// Whether leaders are ambushed, and how.
    ambush: Option<Ambush>,
    /// How many were.
    ambushes: u64,
    /// How many members there were at first, numbered from 1.
    founders: u64,
    /// How many witnesses the members should have.
    witnesses: u64,
    /// Witnesses: no client comes to them, and no state is looked at.
    without_data: BTreeSet<MemberId>,
    /// When somebody asked for a change of the membership last.
    change_asked: Time,
    /// Those that began as voters or whose promotion was asked for.
    may_vote: BTreeSet<MemberId>,
    /// Changes of the membership that were asked for.
    changes: BTreeMap<(MemberId, RequestId), &'static str>,
    clients: Clients,
    watchers: Vec<Watcher>,
    /// What happened, as the members published it.
    witness: Witness,
    invariants: Invariants,
    /// What was found to be broken first.
    broken: Option<Finding>,
    report: Report,
    story: Story,
    /// Timers in a row that rang without time going on.
    rings: u32,
}

/// More timers than this at one moment are a timer that does not go away.
const RINGS_MAX: u32 = 10_000;

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn of_seed(protocol: ProtocolKind, seed: u64, story: Story) -> Self {
        Self::with_witnesses(protocol, seed, seed::voters(seed), seed::witnesses(seed), story)
    }

    /// A world of this many voters.
    #[must_use]
    pub fn new(protocol: ProtocolKind, seed: u64, voters: u64, story: Story) -> Self {
        Self::with_witnesses(protocol, seed, voters, 0, story)
    }

    /// A world of so many voters, of which the last ones are witnesses. Then nothing is damaged: an entry may be held by one member
    /// and a witness alone.
    #[must_use]
    pub fn with_witnesses(
        protocol: ProtocolKind,
        seed: u64,
        voters: u64,
        witnesses: u64,
        story: Story,
    ) -> Self {
        let role = |id| if id > voters - witnesses { Role::Witness } else { Role::Voter };
        let members = (1..=voters).map(|id| (MemberId(id), churn::member(seed, id, role(id)))).collect();
        let initial = Membership { members, ..Membership::default() };
        let mut world = Self {
            protocol,
            seed,
            random: Random::new(seed),
            now: Time(0),
            moment: 0,
            trace: Trace::default(),
            machines: (1..=voters).map(|id| (MemberId(id), Machine::new(initial.clone()))).collect(),
            agenda: BTreeMap::new(),
            network: Network::default(),
            schedule: Schedule::default(),
            active: BTreeSet::new(),
            hit: BTreeMap::new(),
            snapshots_interrupted: 0,
            atlas: Atlas::default(),
            held_down: BTreeSet::new(),
            plans_changes: true,
            seen: sometimes::Seen::default(),
            accepted: synchronisation::Accepted::default(),
            // Every other world: those of one voter stay as they are.
            churns: voters > 1 && seed % 8 >= 4,
            upgrades: seed % 6 == 1 || seed % 7 == 1,
            ambush: None,
            ambushes: 0,
            founders: voters,
            witnesses,
            without_data: (voters - witnesses + 1..=voters).map(MemberId).collect(),
            change_asked: Time(0),
            may_vote: (1..=voters).map(MemberId).collect(),
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
            let watching = world.new_watcher(watcher);
            world.watchers.push(watching);
            world.plan(10, Happening::WatchElsewhere { watcher });
        }
        world
    }

    /// The same with members that come and go, or without.
    #[must_use]
    pub fn churning(self, churns: bool) -> Self {
        Self { churns, ..self }
    }

    /// Whether leaders are ambushed.
    #[must_use]
    pub fn ambushing(self, ambush: Option<Ambush>) -> Self {
        Self { ambush, ..self }
    }

    fn sound(&mut self) -> Result<(), Finding> {
        let Some(Finding { kind, what }) = self.broken.take() else { return Ok(()) };
        Err(kind.found()(format!("at {} ms: {what}", self.now)))
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
        let starts = |machine: &Machine| machine.host.is_none() && !machine.is_gone();
        if self.machines.get(&id).is_some_and(starts) && !self.held_down.contains(&id) {
            self.choose_version(id);
        }
        let (protocol, seed, now) = (self.protocol, self.random.draw(), self.now);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if machine.host.is_some() || machine.is_gone() || self.held_down.contains(&id) {
            return;
        }
        if machine.disk.misdirected_lately() {
            // The write may have been of the last batch, whose loss looks as a torn one does: without repair from peers nobody
            // can tell.
            return self.lost(id);
        }
        match machine.boot(id, protocol, seed, now) {
            Ok(()) => {
                self.tell(|| format!("member {id} starts"));
                self.found_sound(id);
                self.looked_at(id);
                self.started(id);
            }
            Err(error) => self.not_started(id, &error),
        }
    }

    /// The invariants look at a member as recovery left it: its first step may legally cut what they know to be durable.
    fn looked_at(&mut self, id: MemberId) {
        let Some(host) = self.machines.get(&id).and_then(|machine| machine.host.as_ref()) else { return };
        if let Err(what) = self.invariants.check(id, self.without_data.contains(&id), host) {
            self.broken.get_or_insert(what);
        }
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
}
