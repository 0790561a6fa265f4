//! The newest events, shared by all watches: each keeps a cursor of its own, and reads history when it fell behind.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::Event;
use crate::mutants::mutant;

/// The ring. Holds whole revisions without a gap.
#[derive(Debug)]
pub struct Ring {
    revisions_max: usize,
    bytes_max: usize,
    revisions: VecDeque<(i64, usize, Arc<Vec<Event>>)>,
    bytes: usize,
    newest: i64,
}

impl Ring {
    /// Keeps so many revisions at most, and so many bytes of keys and values; older ones are read from the backend.
    #[must_use]
    pub fn new(revisions_max: usize, bytes_max: usize) -> Self {
        Self { revisions_max, bytes_max, revisions: VecDeque::new(), bytes: 0, newest: 0 }
    }

    /// Adds what an apply gave; `newest` is the revision after it.
    pub fn publish(&mut self, events: Vec<Event>, newest: i64) {
        let continues = events.first().is_some_and(|event| event.kv.mod_revision == self.newest + 1);
        if newest != self.newest && !continues && !mutant!(RingHidesGap) {
            // A snapshot was installed, or this is the start: revisions between are only in the backend.
            self.revisions.clear();
            self.bytes = 0;
        }
        let mut rest = events.into_iter().peekable();
        while let Some(event) = rest.next() {
            let revision = event.kv.mod_revision;
            let mut whole = vec![event];
            while let Some(event) = rest.next_if(|event| event.kv.mod_revision == revision) {
                whole.push(event);
            }
            let bytes = whole.iter().map(size).sum();
            self.bytes += bytes;
            self.revisions.push_back((revision, bytes, Arc::new(whole)));
        }
        self.newest = newest;
        while self.revisions.len() > self.revisions_max || self.bytes > self.bytes_max {
            let Some((_, bytes, _)) = self.revisions.pop_front() else { break };
            self.bytes -= bytes;
        }
    }

    /// The events of the revisions `from..=to`, by revision; `None` if some of them are no longer (or never were) here.
    #[must_use]
    pub fn read(&self, from: i64, to: i64) -> Option<Vec<Arc<Vec<Event>>>> {
        let (first, ..) = self.revisions.front()?;
        let from = if mutant!(RingSkipsForgotten) { from.max(*first) } else { from };
        if to > self.newest {
            return None;
        }
        // Below the first one there is no place.
        let start = usize::try_from(from - first).ok()?;
        let part = self.revisions.iter().skip(start).take_while(|(revision, ..)| *revision <= to);
        Some(part.map(|(_, _, events)| Arc::clone(events)).collect())
    }
}

fn size(event: &Event) -> usize {
    let previous = event.prev_kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
    event.kv.key.len() + event.kv.value.len() + previous + 128
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventKind, KeyValue};

    fn event(revision: i64) -> Event {
        let kv = KeyValue { mod_revision: revision, ..KeyValue::default() };
        Event { kind: EventKind::Put, kv, prev_kv: None }
    }

    #[test]
    fn whole_revisions_without_a_gap() {
        let mut ring = Ring::new(4, 1 << 20);
        ring.publish(vec![], 1);
        ring.publish(vec![event(2), event(2), event(3)], 3);
        let lengths = |events: Vec<Arc<Vec<Event>>>| events.iter().map(|it| it.len()).collect::<Vec<_>>();
        assert_eq!(ring.read(2, 3).map(lengths), Some(vec![2, 1]));
        assert_eq!(ring.read(2, 2).map(lengths), Some(vec![2]));
        assert!(ring.read(3, 4).is_none(), "not published yet");
        ring.publish(vec![], 9);
        assert!(ring.read(3, 9).is_none(), "a snapshot leaves a gap");
        ring.publish(vec![event(10)], 10);
        assert!(ring.read(9, 10).is_none());
        assert_eq!(ring.read(10, 10).map(lengths), Some(vec![1]));
    }

    #[test]
    fn the_oldest_go_first() {
        let mut ring = Ring::new(4, 1 << 20);
        ring.publish(vec![], 1);
        ring.publish((2..=6).map(event).collect(), 6);
        assert!(ring.read(2, 6).is_none());
        assert!(ring.read(3, 6).is_some());
        let mut short = Ring::new(4, 300);
        short.publish(vec![], 1);
        short.publish((2..=6).map(event).collect(), 6);
        assert!(short.read(4, 6).is_none(), "two events are some 260 bytes");
        assert!(short.read(5, 6).is_some());
    }
}
