//! What watches promise: one check each, after etcd's list (`reliability.md`, section 1.1).

mod atomic;
mod bookmarkable;
mod filter;
mod genuine;
mod ordered;
mod prev_kv;
mod reliable;
mod resumable;
mod unique;

use std::collections::BTreeSet;

use bytes::Bytes;

use quorate_state::event::{Event, EventKind};

use super::model;
use super::witness::Witness;

/// One client's watch, from member to member.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The first key.
    pub key: Bytes,
    /// As in requests: empty for the key alone.
    pub range_end: Bytes,
    /// Whether events shall tell what was there before.
    pub prev_kv: bool,
    /// No puts, please.
    pub no_put: bool,
    /// No deletions, please.
    pub no_delete: bool,
    /// What came, in order.
    pub heard: Vec<Heard>,
}

/// Something that a watch heard, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It asked some member for everything from this revision on.
    Started(i64),
    /// Events, in one answer whose header names this revision; none in a progress notification.
    Events(i64, Vec<Event>),
    /// What it asked for lies before this revision, to which was compacted: the watch ended.
    Compacted(i64),
}

impl Watch {
    /// Whether it wants this event.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        let kind = match event.kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        };
        kind && model::inside(&event.kv.key, &self.key, &self.range_end)
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.heard.iter().flat_map(|heard| match heard {
            Heard::Events(_, events) => events.as_slice(),
            Heard::Started(_) | Heard::Compacted(_) => &[],
        })
    }

    /// Its parts, each from one start to the next one.
    fn parts(&self) -> impl Iterator<Item = &[Heard]> {
        self.heard.chunk_by(|_, next| !matches!(next, Heard::Started(_)))
    }
}

/// Checks one watch against what happened. `compactions`: the revisions to which was compacted, or may have been.
///
/// # Errors
/// A sentence that names the broken promise.
pub fn check(watch: &Watch, witness: &Witness, compactions: &BTreeSet<i64>) -> Result<(), String> {
    filter::check(watch)?;
    ordered::check(watch)?;
    unique::check(watch)?;
    atomic::check(watch)?;
    genuine::check(watch, witness)?;
    prev_kv::check(watch, witness, compactions)?;
    resumable::check(watch)?;
    reliable::check(watch, witness)?;
    bookmarkable::check(watch, witness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;

    /// A watch of everything behind revision 1, interrupted behind revision 4, with a progress notification at its end.
    fn sound() -> (Watch, Witness) {
        let (_, witness) = sample::history();
        let mut watch =
            Watch { key: "a".into(), range_end: vec![0].into(), prev_kv: true, ..Watch::default() };
        watch.heard.push(Heard::Started(2));
        for (revision, events) in witness.iter() {
            if revision == 5 {
                watch.heard.push(Heard::Started(5));
            }
            watch.heard.push(Heard::Events(revision, events.to_vec()));
        }
        watch.heard.push(Heard::Events(8, Vec::new()));
        (watch, witness)
    }

    fn judged(watch: &Watch, witness: &Witness) -> Result<(), String> {
        check(watch, witness, &BTreeSet::new())
    }

    fn events(watch: &mut Watch, at: usize) -> &mut Vec<Event> {
        match &mut watch.heard[at] {
            Heard::Events(_, events) => events,
            Heard::Started(_) | Heard::Compacted(_) => panic!("no events at {at}"),
        }
    }

    #[track_caller]
    fn tampered(says: &str, tamper: impl FnOnce(&mut Watch)) {
        let (mut watch, witness) = sound();
        tamper(&mut watch);
        let why = judged(&watch, &witness).expect_err("it was tampered with");
        assert!(why.contains(says), "{why}");
    }

    #[test]
    fn a_sound_watch_is_accepted() {
        let (watch, witness) = sound();
        assert_eq!(judged(&watch, &witness), Ok(()));
    }

    #[test]
    fn a_compaction_to_a_revision_takes_what_was_there_before() {
        let (mut watch, witness) = sound();
        events(&mut watch, 7)[0].prev_kv = None;
        assert_eq!(check(&watch, &witness, &[7].into()), Ok(()));
        assert!(check(&watch, &witness, &[8].into()).is_err());
    }

    #[test]
    fn each_tampered_watch_is_rejected() {
        // Places: 0 starts at 2, 1..=3 are the revisions 2..=4, 4 starts at 5, 5..=8 are 5..=8, 9 is progress.
        tampered("did not ask for", |watch| watch.range_end = "c".into());
        tampered("did not ask for", |watch| watch.no_delete = true);
        tampered("not in order", |watch| watch.heard.swap(1, 2));
        tampered("twice", |watch| {
            let again = watch.heard[1].clone();
            watch.heard.insert(2, again);
        });
        tampered("torn", |watch| {
            let half = events(watch, 6).pop().expect("two events");
            watch.heard.insert(7, Heard::Events(6, vec![half]));
        });
        tampered("never happened", |watch| events(watch, 1)[0].kv.value = "other".into());
        tampered("never happened", |watch| events(watch, 1)[0].kv.create_revision = 1);
        tampered("what was there before", |watch| events(watch, 8)[0].prev_kv = Some(Default::default()));
        tampered("what was there before", |watch| events(watch, 7)[0].prev_kv = None);
        tampered("did not ask what was there before", |watch| watch.prev_kv = false);
        tampered("is missing", |watch| drop(watch.heard.remove(2)));
        tampered("is missing", |watch| drop(watch.heard.remove(5)));
        tampered("before the revision", |watch| watch.heard[4] = Heard::Started(6));
        tampered("had been missed", |watch| {
            let third = std::mem::take(events(watch, 2));
            watch.heard[2] = Heard::Events(4, third);
        });
        tampered("went back", |watch| watch.heard[9] = Heard::Events(7, Vec::new()));
    }

    #[test]
    fn a_compaction_ends_a_watch_that_asked_for_less_and_no_other() {
        let compacted = |to: i64, next: i64| {
            let (mut watch, witness) = sound();
            watch.heard.splice(4..6, [Heard::Started(5), Heard::Compacted(to), Heard::Started(next)]);
            judged(&watch, &witness)
        };
        assert_eq!(compacted(6, 6), Ok(()));
        assert!(compacted(5, 5).expect_err("revision 5 is there").contains("leaves the next one"));
        assert!(compacted(6, 7).expect_err("revision 6 was wanted").contains("before the revision"));
    }
}
