//! The watches of one client's stream, each with a cursor.
//!
//! A header of an answer says how far its watch has heard everything, and a client goes on behind it elsewhere, so it never runs
//! ahead of events (etcd #15220), never falls behind an earlier one, and is not given for a watch that begins later than it says
//! (etcd #20221).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::Event;
use crate::mutants::mutant;

use super::wanted::Wanted;

/// The name of a watch within its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

/// Why a watch was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// It wants no key.
    #[error("the watch's range of keys is empty")]
    EmptyRange,
    /// There is no room for it on this stream.
    #[error("too many watches on one stream")]
    TooMany,
    /// The stream has a watch of that name.
    #[error("the stream has a watch {} already", .0.0)]
    Duplicate(WatchId),
}

/// What a stream may hold, and hold up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Watches.
    pub watches_max: usize,
    /// Revisions that are read at a time, at least 1.
    pub revisions_max: i64,
}

/// A watch that the client is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its name.
    pub id: WatchId,
    /// It asked for what is forgotten: the client is told that, too, and the watch is gone.
    pub ended: bool,
}

/// What a stream needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// These revisions, both included, for [`Stream::deliver`]; or [`Stream::compacted`] where they are forgotten.
    Read {
        /// The first one.
        from: i64,
        /// The last one.
        to: i64,
    },
    /// The client is told that all its watches have heard everything up to here, as it asked to be.
    Progress {
        /// The last revision that they heard.
        revision: i64,
    },
    /// Nothing before something new is published.
    Rest,
}

/// Events for one watch: an answer, whose header names the last revision that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// For whom.
    pub watch: WatchId,
    /// Whether the client shall see what was there before.
    pub prev_kv: bool,
    /// Whether the answer may come in parts.
    pub fragment: bool,
    /// In order, whole revisions, at least one event.
    pub events: Vec<&'a Event>,
}

#[derive(Debug)]
struct Cursor {
    wanted: Wanted,
    /// The first revision that it has not heard.
    next: i64,
    /// Whether it was told something since the last [`Stream::tick`].
    active: bool,
}

/// The watches of one stream.
#[derive(Debug)]
pub struct Stream {
    limits: Limits,
    cursors: BTreeMap<WatchId, Cursor>,
    next_id: i64,
    /// The client wants to know when everything up to here was heard.
    asked: Option<i64>,
}

impl Stream {
    /// Without watches.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, cursors: BTreeMap::new(), next_id: 0, asked: None }
    }

    /// A watch from revision `from` on, where everything before `compacted` is forgotten. Without an id it gets one that is free.
    ///
    /// # Errors
    /// The watch can't be.
    pub fn create(
        &mut self,
        id: Option<WatchId>,
        wanted: Wanted,
        from: i64,
        compacted: i64,
    ) -> Result<Created, WatchError> {
        if wanted.is_empty() {
            return Err(WatchError::EmptyRange);
        }
        if self.cursors.len() >= self.limits.watches_max {
            return Err(WatchError::TooMany);
        }
        if let Some(id) = id.filter(|id| self.cursors.contains_key(id)) {
            return Err(WatchError::Duplicate(id));
        }
        let id = id.unwrap_or_else(|| self.free_id());
        if from < compacted {
            return Ok(Created { id, ended: true });
        }
        self.cursors.insert(id, Cursor { wanted, next: from, active: true });
        Ok(Created { id, ended: false })
    }

    fn free_id(&mut self) -> WatchId {
        while self.cursors.contains_key(&WatchId(self.next_id)) {
            self.next_id += 1;
        }
        self.next_id += 1;
        WatchId(self.next_id - 1)
    }

    /// Ends a watch. Whether there was one.
    pub fn cancel(&mut self, id: WatchId) -> bool {
        self.cursors.remove(&id).is_some()
    }

    /// The client asks to be told when its watches have heard everything up to `newest`, the newest revision of now. One answer is for
    /// all that asked before it.
    pub fn ask_progress(&mut self, newest: i64) {
        self.asked = Some(newest);
    }

    /// What is next, when `newest` is the newest revision.
    pub fn step(&mut self, newest: i64) -> Step {
        let nexts = || self.cursors.values().map(|cursor| cursor.next);
        let first = nexts().min().unwrap_or(newest + 1);
        if mutant!(ProgressOvertakesEvents) && self.asked.take().is_some() {
            return Step::Progress { revision: newest };
        }
        let answers = self.asked.is_some_and(|asked| asked < first) && first <= newest + 1;
        // All at one place: a header for all of them must be right for each.
        if answers && nexts().all(|next| next == first) {
            self.asked = None;
            return Step::Progress { revision: first - 1 };
        }
        if first > newest {
            return Step::Rest;
        }
        Step::Read { from: first, to: newest.min(first + self.limits.revisions_max - 1) }
    }

    /// Deals out what was read: the events of the revisions `from..=to`.
    pub fn deliver<'a>(&mut self, revisions: &'a [Arc<Vec<Event>>], from: i64, to: i64) -> Vec<Delivery<'a>> {
        let mut deliveries = Vec::new();
        for (&watch, cursor) in &mut self.cursors {
            if cursor.next > to || cursor.next < from {
                continue;
            }
            let all = revisions.iter().flat_map(|events| events.iter());
            let new = all.filter(|event| event.kv.mod_revision >= cursor.next || mutant!(CatchUpTooEarly));
            let events: Vec<&Event> = new.filter(|event| cursor.wanted.wants(event)).collect();
            cursor.next = to + 1;
            if !events.is_empty() {
                cursor.active = true;
                let Wanted { prev_kv, fragment, .. } = cursor.wanted;
                deliveries.push(Delivery { watch, prev_kv, fragment, events });
            }
        }
        deliveries
    }

    /// What was to be read is forgotten, from revision `from` on: the watches that stand there end. Others go on as long as they
    /// can be served.
    pub fn compacted(&mut self, from: i64) -> Vec<WatchId> {
        self.cursors.extract_if(.., |_, cursor| cursor.next == from).map(|(id, _)| id).collect()
    }

    /// It is time for progress notifications: the watches that want them, have heard nothing since the last time, and have heard
    /// everything up to `newest`.
    pub fn tick(&mut self, newest: i64) -> Vec<WatchId> {
        let mut told = Vec::new();
        for (&id, cursor) in &mut self.cursors {
            let idle = !std::mem::take(&mut cursor.active);
            let heard = cursor.next == newest + 1 || mutant!(ProgressOfTheFuture) && cursor.next > newest;
            if cursor.wanted.progress && idle && heard {
                told.push(id);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventKind, KeyValue};

    const LIMITS: Limits = Limits { watches_max: 3, revisions_max: 4 };

    fn stream(from: &[i64]) -> Stream {
        let mut stream = Stream::new(LIMITS);
        for from in from {
            stream
                .create(None, Wanted { key: "k".into(), progress: true, ..Wanted::default() }, *from, 0)
                .unwrap();
        }
        stream
    }

    fn revisions(from: i64, to: i64) -> Vec<Arc<Vec<Event>>> {
        let event = |mod_revision| Event {
            kind: EventKind::Put,
            kv: KeyValue { key: "k".into(), mod_revision, ..KeyValue::default() },
            prev_kv: None,
        };
        (from..=to).map(|revision| Arc::new(vec![event(revision)])).collect()
    }

    /// Steps until nothing is left to do; gives what the client is told, as watch and revisions, or as progress of all.
    fn told(stream: &mut Stream, newest: i64) -> Vec<(Option<i64>, i64, i64)> {
        let mut told = Vec::new();
        loop {
            match stream.step(newest) {
                Step::Read { from, to } => {
                    let read = revisions(from, to);
                    for Delivery { watch, events, .. } in stream.deliver(&read, from, to) {
                        let ends = (events[0].kv.mod_revision, events[events.len() - 1].kv.mod_revision);
                        told.push((Some(watch.0), ends.0, ends.1));
                    }
                }
                Step::Progress { revision } => told.push((None, revision, revision)),
                Step::Rest => return told,
            }
        }
    }

    #[test]
    fn each_watch_hears_every_revision_once_in_order() {
        let mut stream = stream(&[2, 7, 12]);
        let first = told(&mut stream, 10);
        assert_eq!(
            first,
            [(Some(0), 2, 5), (Some(0), 6, 9), (Some(1), 7, 9), (Some(0), 10, 10), (Some(1), 10, 10)]
        );
        assert_eq!(told(&mut stream, 10), []);
        assert_eq!(told(&mut stream, 12), [(Some(0), 11, 12), (Some(1), 11, 12), (Some(2), 12, 12)]);
    }

    #[test]
    fn progress_that_was_asked_for_follows_the_events_before_it() {
        let mut behind = stream(&[2]);
        behind.ask_progress(5);
        assert_eq!(told(&mut behind, 8), [(Some(0), 2, 5), (None, 5, 5), (Some(0), 6, 8)]);
    }

    #[test]
    fn progress_never_names_less_than_an_answer_before_it() {
        let mut stream = stream(&[9]);
        // More was published between the question and the answer.
        stream.ask_progress(8);
        assert_eq!(stream.step(10), Step::Progress { revision: 8 });
        stream.ask_progress(8);
        let read = revisions(9, 10);
        assert_eq!(stream.deliver(&read, 9, 10).len(), 1);
        assert_eq!(stream.step(10), Step::Progress { revision: 10 });
    }

    #[test]
    fn progress_of_all_is_right_for_each() {
        let mut stream = stream(&[5, 9]);
        stream.ask_progress(4);
        assert_eq!(
            stream.step(9),
            Step::Read { from: 5, to: 8 },
            "the other one stands at 8, this one does not"
        );
        assert_eq!(told(&mut stream, 9), [(Some(0), 5, 8), (None, 8, 8), (Some(0), 9, 9), (Some(1), 9, 9)]);
    }

    #[test]
    fn a_watch_of_the_future_has_made_no_progress() {
        let mut future = stream(&[20]);
        future.ask_progress(8);
        assert_eq!(future.tick(8), [], "it was active: it was created");
        assert_eq!(future.tick(8), []);
        assert_eq!(told(&mut future, 8), []);
        assert_eq!(told(&mut future, 19), [(None, 19, 19)]);
        assert_eq!(future.tick(19), [WatchId(0)]);
    }

    #[test]
    fn idle_watches_are_told_their_progress() {
        let mut stream = stream(&[5]);
        assert_eq!(stream.tick(4), [], "it was created since the last time");
        assert_eq!(stream.tick(4), [WatchId(0)]);
        assert_eq!(stream.tick(6), [], "it has not heard that yet");
        told(&mut stream, 6);
        assert_eq!(stream.tick(6), [], "it was told events since the last time");
        assert_eq!(stream.tick(6), [WatchId(0)]);
    }

    #[test]
    fn without_watches_everything_was_heard() {
        let mut stream = stream(&[]);
        stream.ask_progress(7);
        assert_eq!(told(&mut stream, 7), [(None, 7, 7)]);
    }

    #[test]
    fn what_is_compacted_ends_who_wanted_it() {
        let mut stream = stream(&[2, 7]);
        assert_eq!(stream.step(8), Step::Read { from: 2, to: 5 });
        assert_eq!(stream.compacted(2), [WatchId(0)]);
        assert_eq!(stream.step(8), Step::Read { from: 7, to: 8 });
        assert!(stream.cancel(WatchId(1)) && !stream.cancel(WatchId(1)));
        assert_eq!(stream.step(8), Step::Rest);
        let all = || Wanted { range_end: "\0".into(), ..Wanted::default() };
        assert_eq!(stream.create(None, all(), 6, 7), Ok(Created { id: WatchId(2), ended: true }));
        assert_eq!(stream.step(8), Step::Rest, "it is gone");
        assert_eq!(stream.create(None, all(), 7, 7), Ok(Created { id: WatchId(3), ended: false }));
    }

    #[test]
    fn names_are_unique_and_limited() {
        let mut stream = Stream::new(LIMITS);
        let created = |id| Ok(Created { id: WatchId(id), ended: false });
        let all = Wanted { key: "\0".into(), range_end: "\0".into(), ..Wanted::default() };
        let nothing = Wanted { key: "b".into(), range_end: "a".into(), ..Wanted::default() };
        assert_eq!(stream.create(None, nothing, 2, 0), Err(WatchError::EmptyRange));
        assert_eq!(stream.create(Some(WatchId(1)), all.clone(), 2, 0), created(1));
        assert_eq!(
            stream.create(Some(WatchId(1)), all.clone(), 2, 0),
            Err(WatchError::Duplicate(WatchId(1)))
        );
        assert_eq!(stream.create(None, all.clone(), 2, 0), created(0));
        assert_eq!(stream.create(None, all.clone(), 2, 0), created(2));
        assert_eq!(stream.create(None, all, 2, 0), Err(WatchError::TooMany));
    }
}
