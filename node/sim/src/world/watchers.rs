//! Watching clients, and the part of a member that serves them: a cursor for each watch, fed with what is published, and
//! from history where it lies behind.

use quorate_consensus::id::MemberId;
use quorate_replica::event::GroupId;
use quorate_state::error::{ApplyError, ReadError};
use quorate_state::event::Event;
use quorate_state::reader::Reader;

use super::{Happening, World};
use crate::check::watch::{Heard, Watch};
use crate::finding::Kind;

pub(super) const WATCHERS: usize = 4;
/// A watch stays with a member so long at most.
const STAY_MS_MAX: u64 = 4_000;

/// A client with one watch.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    pub(super) watch: Watch,
    /// Who serves it; nobody between two members.
    pub(super) member: Option<MemberId>,
    /// Where it would go on: behind what it heard.
    next: i64,
    /// Where the member stands with it.
    cursor: i64,
}

impl World {
    /// A watch with a filter by chance.
    pub(super) fn new_watcher(&mut self) -> Watcher {
        let random = &mut self.random;
        let (key, range_end) = match random.below(3) {
            0 => ("key-0".into(), vec![0].into()),
            1 => ("key-1".into(), "key-4".into()),
            _ => ("key-2".into(), bytes::Bytes::new()),
        };
        let (prev_kv, filter) = (random.chance(50), random.below(6));
        let watch =
            Watch { key, range_end, prev_kv, no_put: filter == 0, no_delete: filter == 1, heard: Vec::new() };
        Watcher { watch, member: None, next: 2, cursor: 2 }
    }

    /// A watch leaves its member and goes on at some other.
    pub(super) fn watch_elsewhere(&mut self, watcher: usize) {
        let stay_ms = self.random.below(STAY_MS_MAX);
        self.plan(100 + stay_ms, Happening::WatchElsewhere { watcher });
        let up: Vec<MemberId> = self
            .machines
            .iter()
            .filter(|(id, machine)| {
                machine.host.is_some() && machine.paused_until <= self.now && !self.without_data.contains(id)
            })
            .map(|(&id, _)| id)
            .collect();
        let member = up.get(self.random.below(up.len() as u64) as usize).copied();
        self.watchers[watcher].member = member;
        if let Some(member) = member {
            self.start_watch(watcher, member);
        }
    }

    pub(super) fn start_watch(&mut self, watcher: usize, member: MemberId) {
        let watching = &mut self.watchers[watcher];
        watching.member = Some(member);
        watching.cursor = watching.next;
        watching.watch.heard.push(Heard::Started(watching.next));
        let host = self.machines.get(&member).and_then(|machine| machine.host.as_ref());
        if let Some(replica) = host.and_then(|host| host.replica(GroupId::DEFAULT)) {
            let reader = replica.state().reader();
            self.deliver(watcher, &reader, &[]);
        }
    }

    /// A member published a state, with what is new in it.
    pub(super) fn published(&mut self, member: MemberId, reader: &Reader, events: &[Event]) {
        let at = self.moment();
        // What a process published when it ended may have reached nobody; it is in the history.
        let last = self.witness.last();
        let unheard = events.is_empty() && reader.revision() > last && reader.compacted() <= last;
        let history =
            if unheard { reader.events(last + 1, reader.revision()).unwrap_or_default() } else { Vec::new() };
        if let Err(what) = self.witness.published(at, if unheard { &history } else { events }) {
            self.broken.get_or_insert(Kind::States.found()(what));
        }
        for watcher in 0..self.watchers.len() {
            if self.watchers[watcher].member == Some(member) {
                self.deliver(watcher, reader, events);
            }
        }
    }

    fn deliver(&mut self, watcher: usize, reader: &Reader, fresh: &[Event]) {
        let tells_progress = self.random.chance(5);
        let watching = &mut self.watchers[watcher];
        let newest = reader.revision();
        if watching.cursor > newest {
            return;
        }
        let history;
        let events = if fresh.first().is_some_and(|event| event.kv.mod_revision <= watching.cursor) {
            let new = fresh.iter().position(|event| event.kv.mod_revision >= watching.cursor);
            &fresh[new.unwrap_or(fresh.len())..]
        } else {
            match reader.events(watching.cursor, newest) {
                Ok(events) => {
                    history = events;
                    &history
                }
                Err(ReadError::Refused(ApplyError::Compacted)) => {
                    let compacted = reader.compacted();
                    watching.watch.heard.push(Heard::Compacted(compacted));
                    watching.next = compacted + 1;
                    watching.member = None;
                    *self.report.reached.entry("watch ended by a compaction").or_default() += 1;
                    return;
                }
                Err(error) => {
                    let what = format!("a watch can't read its events: {error}");
                    self.broken.get_or_insert(Kind::Watches.found()(what));
                    return;
                }
            }
        };
        let mut heard: Vec<Event> =
            events.iter().filter(|event| watching.watch.wants(event)).cloned().collect();
        if !watching.watch.prev_kv {
            heard.iter_mut().for_each(|event| event.prev_kv = None);
        }
        watching.cursor = newest + 1;
        if !heard.is_empty() || tells_progress {
            watching.watch.heard.push(Heard::Events(newest, heard));
            watching.next = newest + 1;
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
        for watcher in 0..self.watchers.len() {
            self.start_watch(watcher, member);
            if self.watchers[watcher].member.is_none() {
                self.start_watch(watcher, member);
            }
            let cursor = self.watchers[watcher].cursor;
            if cursor != last + 1 {
                return Err(format!(
                    "watch {watcher} stands at {cursor} at the end, but {last} is the last revision"
                ));
            }
        }
        Ok(())
    }
}
