//! The order of all writes, as the store itself tells it: what happened in each revision, and when it was first seen.

use std::collections::BTreeMap;

use quorate_state::event::Event;

use crate::history::Moment;

/// Everything that happened, by revision.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    revisions: BTreeMap<i64, (Moment, Vec<Event>)>,
}

impl Witness {
    /// A witness of these events, in the order of revisions; when they were seen is not known.
    #[must_use]
    pub fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let mut witness = Self::default();
        for event in events {
            let revision = event.kv.mod_revision;
            witness.revisions.entry(revision).or_insert_with(|| (Moment::NEVER, Vec::new())).1.push(event);
        }
        witness
    }

    /// A member published whole revisions.
    ///
    /// # Errors
    /// Another member published something else for the same revision.
    pub fn published(&mut self, at: Moment, events: &[Event]) -> Result<(), String> {
        for group in events.chunk_by(|left, right| left.kv.mod_revision == right.kv.mod_revision) {
            let revision = group[0].kv.mod_revision;
            let (_, known) = self.revisions.entry(revision).or_insert_with(|| (at, group.to_vec()));
            if known != group {
                return Err(format!(
                    "revision {revision} is {known:?} on one member and {group:?} on another"
                ));
            }
        }
        Ok(())
    }

    /// What happened in a revision; empty if nothing is known.
    #[must_use]
    pub fn events(&self, revision: i64) -> &[Event] {
        self.revisions.get(&revision).map_or(&[], |(_, events)| events)
    }

    /// When a revision was first seen.
    #[must_use]
    pub fn seen(&self, revision: i64) -> Option<Moment> {
        self.revisions.get(&revision).map(|(at, _)| *at)
    }

    /// All revisions with what happened, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &[Event])> {
        self.revisions.iter().map(|(revision, (_, events))| (*revision, events.as_slice()))
    }

    /// Events of the revisions from `from` on, ascending.
    pub fn since(&self, from: i64) -> impl Iterator<Item = &Event> {
        self.revisions.range(from..).flat_map(|(_, (_, events))| events)
    }

    /// The last revision; 1 if nothing happened.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.revisions.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// For tests: what happened in a revision, to be tampered with.
    #[cfg(test)]
    pub(super) fn events_mut(&mut self, revision: i64) -> &mut Vec<Event> {
        &mut self.revisions.entry(revision).or_default().1
    }

    /// For tests: a revision never happened.
    #[cfg(test)]
    pub(super) fn forget(&mut self, revision: i64) {
        self.revisions.remove(&revision);
    }

    /// Whether no revision is missing.
    ///
    /// # Errors
    /// Names the first gap, or events of another revision.
    pub fn is_whole(&self) -> Result<(), String> {
        for ((revision, events), expected) in self.iter().zip(2..) {
            if revision != expected || events.is_empty() {
                return Err(format!("revision {expected} is missing: nobody published it"));
            }
        }
        Ok(())
    }
}
