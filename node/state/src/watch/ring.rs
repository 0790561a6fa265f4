//! The newest events, shared by all watches: each keeps a cursor of its own, and reads history when it fell behind.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_state::event::Event;

/// Revisions kept, at most; older ones are read from the backend.
const REVISIONS_MAX: usize = 4_096;
/// Bytes of keys and values kept, at most.
const BYTES_MAX: usize = 8 << 20;

#[derive(Debug, Default)]
struct Inner {
    revisions: VecDeque<(i64, usize, Arc<Vec<Event>>)>,
    bytes: usize,
    newest: i64,
}

/// The ring. Holds whole revisions without a gap.
#[derive(Debug, Default)]
pub struct Ring(Mutex<Inner>);

impl Ring {
    /// Adds what an apply gave; `newest` is the revision after it.
    pub fn publish(&self, events: Vec<Event>, newest: i64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        let continues = events.first().is_some_and(|event| event.kv.mod_revision == inner.newest + 1);
        if newest != inner.newest && !continues {
            // A snapshot was installed, or this is the start: revisions between are only in the backend.
            inner.revisions.clear();
            inner.bytes = 0;
        }
        let mut rest = events.into_iter().peekable();
        while let Some(event) = rest.next() {
            let revision = event.kv.mod_revision;
            let mut whole = vec![event];
            while let Some(event) = rest.next_if(|event| event.kv.mod_revision == revision) {
                whole.push(event);
            }
            let bytes = whole.iter().map(size).sum();
            inner.bytes += bytes;
            inner.revisions.push_back((revision, bytes, Arc::new(whole)));
        }
        inner.newest = newest;
        while inner.revisions.len() > REVISIONS_MAX || inner.bytes > BYTES_MAX {
            let Some((_, bytes, _)) = inner.revisions.pop_front() else { break };
            inner.bytes -= bytes;
        }
    }

    /// At most `max` revisions of `from..=to`, and up to where they go; `None` if `from` is no longer (or never was) here.
    #[must_use]
    pub fn read(&self, from: i64, to: i64, max: usize) -> Option<(Vec<Arc<Vec<Event>>>, i64)> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, ..) = inner.revisions.front()?;
        if from < *first || to > inner.newest {
            return None;
        }
        let start = usize::try_from(from - first).ok()?;
        let part: Vec<_> = inner
            .revisions
            .iter()
            .skip(start)
            .take(max)
            .take_while(|(revision, ..)| *revision <= to)
            .collect();
        let last = part.last().map_or(to, |(revision, ..)| *revision);
        Some((part.into_iter().map(|(_, _, events)| Arc::clone(events)).collect(), last))
    }
}

fn size(event: &Event) -> usize {
    let previous = event.prev_kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
    event.kv.key.len() + event.kv.value.len() + previous + 128
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::event::{EventKind, KeyValue};

    fn event(revision: i64) -> Event {
        let kv = KeyValue { mod_revision: revision, ..KeyValue::default() };
        Event { kind: EventKind::Put, kv, prev_kv: None }
    }

    #[test]
    fn whole_revisions_without_a_gap() {
        let ring = Ring::default();
        ring.publish(vec![], 1);
        ring.publish(vec![event(2), event(2), event(3)], 3);
        let (events, last) = ring.read(2, 3, 10).unwrap();
        assert_eq!((events.len(), events[0].len(), last), (2, 2, 3));
        assert_eq!(ring.read(2, 3, 1).unwrap().1, 2);
        ring.publish(vec![], 9);
        assert!(ring.read(3, 9, 10).is_none(), "a snapshot leaves a gap");
        ring.publish(vec![event(10)], 10);
        assert!(ring.read(9, 10, 10).is_none());
        assert_eq!(ring.read(10, 10, 10).unwrap().1, 10);
    }

    #[test]
    fn the_oldest_go_first() {
        let ring = Ring::default();
        ring.publish(vec![], 1);
        let last = i64::try_from(REVISIONS_MAX).unwrap() + 2;
        ring.publish((2..=last).map(event).collect(), last);
        assert!(ring.read(2, last, 1).is_none());
        assert_eq!(ring.read(3, last, 1).unwrap().1, 3);
    }
}
