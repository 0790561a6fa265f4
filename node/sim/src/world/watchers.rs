//! Watching clients, and the part of a server that serves them: their streams go on with what a member published, from its
//! ring or from history.

use std::sync::Arc;

use quorate_consensus::id::MemberId;
use quorate_replica::event::GroupId;
use quorate_state::error::{ApplyError, ReadError};
use quorate_state::event::Event;
use quorate_state::reader::Reader;
use quorate_state::watch::stream::{Delivery, Limits, Step, Stream, WatchId};
use quorate_state::watch::wanted::Wanted;

use super::{Happening, World};
use crate::check::watch::{Heard, Watch};
use crate::finding::Kind;
use crate::random::Random;

pub(super) const WATCHERS: usize = 4;
/// A stream stays with a member so long at most.
const STAY_MS_MAX: u64 = 4_000;
/// Small, so that catching up takes several reads.
const LIMITS: Limits = Limits { watches_max: 4, revisions_max: 5 };
/// A watch that goes on at a member which has not come that far.
pub(super) const AHEAD: &str = "watch began ahead of its member";
const ENDED: &str = "watch ended by a compaction";
/// Of 100 times that a stream goes on, its client asks how far it is in so many.
const ASKS_PERCENT: u64 = 10;
/// And the time for progress notifications has come.
const TICKS_PERCENT: u64 = 20;

/// A watch, wherever it is served.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) watch: Watch,
    /// Where it would go on: behind what it heard.
    next: i64,
    /// Whether its stream has it: not once it was told that it comes too late.
    served: bool,
}

impl Followed {
    fn new(random: &mut Random) -> Self {
        let (key, range_end) = match random.below(3) {
            0 => ("key-0".into(), vec![0].into()),
            1 => ("key-1".into(), "key-4".into()),
            _ => ("key-2".into(), bytes::Bytes::new()),
        };
        let (prev_kv, filter) = (random.chance(50), random.below(6));
        let watch =
            Watch { key, range_end, prev_kv, no_put: filter == 0, no_delete: filter == 1, heard: Vec::new() };
        Self { watch, next: 2, served: false }
    }

    fn hears(&mut self, header: i64, events: Vec<Event>) {
        self.watch.heard.push(Heard::Events(header, events));
        self.next = header + 1;
    }

    /// What it has not heard is compacted.
    fn ends(&mut self, compacted: i64) {
        self.watch.heard.push(Heard::Compacted(compacted));
        (self.next, self.served) = (compacted, false);
    }

    fn wanted(&self) -> Wanted {
        let Watch { key, range_end, prev_kv, no_put, no_delete, .. } = &self.watch;
        Wanted {
            key: key.clone(),
            range_end: range_end.clone(),
            no_put: *no_put,
            no_delete: *no_delete,
            prev_kv: *prev_kv,
            fragment: false,
            progress: true,
        }
    }
}

/// A client with one stream of watches.
#[derive(Debug)]
pub(super) struct Watcher {
    /// By id.
    pub(super) watches: Vec<Followed>,
    /// Who serves them; nobody between two members.
    pub(super) member: Option<MemberId>,
    stream: Stream,
    /// Of its own, so that watches change no world.
    random: Random,
}

impl Watcher {
    /// The stream's watches at a member that has compacted so far, each where it stopped. How many end by that.
    fn open(&mut self, compacted: i64) -> Result<u64, String> {
        self.stream = Stream::new(LIMITS);
        let mut lost = 0;
        for (id, followed) in (0..).map(WatchId).zip(&mut self.watches) {
            followed.watch.heard.push(Heard::Started(followed.next));
            followed.served = true;
            let created = self.stream.create(Some(id), followed.wanted(), followed.next, compacted);
            if created.map_err(|error| format!("a watch can't be created: {error}"))?.ended {
                followed.ends(compacted);
                lost += 1;
            }
        }
        Ok(lost)
    }

    fn followed(&mut self, id: WatchId) -> Option<&mut Followed> {
        self.watches.get_mut(usize::try_from(id.0).ok()?)
    }

    fn hears(&mut self, revisions: &[Arc<Vec<Event>>], from: i64, to: i64) {
        for Delivery { watch, prev_kv, events, .. } in self.stream.deliver(revisions, from, to) {
            let shown =
                |event: &Event| Event { prev_kv: event.prev_kv.clone().filter(|_| prev_kv), ..event.clone() };
            let events = events.into_iter().map(shown).collect();
            if let Some(followed) = self.followed(watch) {
                followed.hears(to, events);
            }
        }
    }
}

impl World {
    /// A client with two watches of some keys.
    pub(super) fn new_watcher(&self, place: usize) -> Watcher {
        let mut random = Random::new(self.seed ^ ((0x3a7c + place as u64) << 48));
        let watches = vec![Followed::new(&mut random), Followed::new(&mut random)];
        Watcher { watches, member: None, stream: Stream::new(LIMITS), random }
    }

    /// A client leaves its member and goes on at some other.
    pub(super) fn watch_elsewhere(&mut self, watcher: usize) {
        let stay_ms = self.watchers[watcher].random.below(STAY_MS_MAX);
        self.plan(100 + stay_ms, Happening::WatchElsewhere { watcher });
        let up: Vec<MemberId> = self
            .machines
            .iter()
            .filter(|(id, machine)| {
                machine.host.is_some() && machine.paused_until <= self.now && !self.without_data.contains(id)
            })
            .map(|(&id, _)| id)
            .collect();
        let watching = &mut self.watchers[watcher];
        let member = up.get(watching.random.below(up.len() as u64) as usize).copied();
        watching.member = None;
        if let Some(member) = member {
            self.start_watches(watcher, member);
        }
    }

    fn start_watches(&mut self, watcher: usize, member: MemberId) {
        let Some(reader) = self.reader(member) else { return };
        let watching = &mut self.watchers[watcher];
        watching.member = Some(member);
        match watching.open(reader.compacted()) {
            Ok(lost) => *self.report.reached.entry(ENDED).or_default() += lost,
            Err(what) => drop(self.broken.get_or_insert(Kind::Watches.found()(what))),
        }
        if self.watchers[watcher].watches.iter().any(|followed| followed.next > reader.revision() + 1) {
            self.reached(AHEAD);
        }
        self.watches_go_on(watcher, member, &reader);
    }

    fn reader(&self, member: MemberId) -> Option<Reader> {
        let host = self.machines.get(&member)?.host.as_ref()?;
        Some(host.replica(GroupId::DEFAULT)?.state().reader())
    }

    /// A member published a state, with what is new in it.
    pub(super) fn published(&mut self, member: MemberId, reader: &Reader, events: Vec<Event>) {
        let at = self.moment();
        // What a process published when it ended may have reached nobody; it is in the history.
        let last = self.witness.last();
        let unheard = events.is_empty() && reader.revision() > last && reader.compacted() <= last;
        let history =
            if unheard { reader.events(last + 1, reader.revision()).unwrap_or_default() } else { Vec::new() };
        if let Err(what) = self.witness.published(at, if unheard { &history } else { &events }) {
            self.broken.get_or_insert(Kind::States.found()(what));
        }
        if let Some(machine) = self.machines.get_mut(&member) {
            machine.ring.publish(events, reader.revision());
        }
        for watcher in 0..self.watchers.len() {
            if self.watchers[watcher].member == Some(member) {
                self.watches_go_on(watcher, member, reader);
            }
        }
    }

    /// A stream tells what its member's state has for it; now and then its client asks how far it is, or the time for telling that
    /// has come.
    fn watches_go_on(&mut self, watcher: usize, member: MemberId, reader: &Reader) {
        let newest = reader.revision();
        let (watching, ring) = (&mut self.watchers[watcher], &self.machines[&member].ring);
        let ticks = watching.random.chance(TICKS_PERCENT);
        if watching.random.chance(ASKS_PERCENT) {
            watching.stream.ask_progress(newest);
        }
        loop {
            let (from, to) = match watching.stream.step(newest) {
                Step::Read { from, to } => (from, to),
                Step::Progress { revision } => {
                    let served = watching.watches.iter_mut().filter(|followed| followed.served);
                    served.for_each(|followed| followed.hears(revision, Vec::new()));
                    continue;
                }
                Step::Rest => break,
            };
            let recent = ring.read(from, to).map(Ok);
            match recent.unwrap_or_else(|| reader.events(from, to).map(|events| vec![Arc::new(events)])) {
                Ok(revisions) => watching.hears(&revisions, from, to),
                Err(ReadError::Refused(ApplyError::Compacted)) => {
                    for id in watching.stream.compacted(from) {
                        watching.followed(id).into_iter().for_each(|it| it.ends(reader.compacted()));
                        *self.report.reached.entry(ENDED).or_default() += 1;
                    }
                }
                Err(error) => {
                    let what = format!("a watch can't read its events: {error}");
                    self.broken.get_or_insert(Kind::Watches.found()(what));
                    return;
                }
            }
        }
        if ticks {
            for id in watching.stream.tick(newest) {
                if let Some(followed) = watching.followed(id) {
                    followed.hears(newest, Vec::new());
                }
            }
        }
    }

    /// A member ended: its watches are told nothing, and go on elsewhere when they notice.
    pub(super) fn unwatched(&mut self, member: MemberId) {
        for watching in self.watchers.iter_mut().filter(|watching| watching.member == Some(member)) {
            watching.member = None;
        }
    }

    /// Every watch hears the end, from this member.
    pub(super) fn finish_watches(&mut self, member: MemberId) -> Result<(), String> {
        let last = self.witness.last();
        let Some(reader) = self.reader(member) else { return Err(format!("{member} is down at the end")) };
        for watcher in 0..self.watchers.len() {
            // The second time those start that are told that they come too late.
            self.start_watches(watcher, member);
            self.start_watches(watcher, member);
            self.watchers[watcher].stream.ask_progress(last);
            self.watches_go_on(watcher, member, &reader);
            let ends = self.watchers[watcher].watches.iter().map(|followed| followed.next);
            if let Some(next) = ends.into_iter().find(|next| *next != last + 1) {
                return Err(format!(
                    "a watch of client {watcher} goes on at {next} at the end, but {last} is the last revision"
                ));
            }
        }
        Ok(())
    }
}
