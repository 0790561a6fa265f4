//! Linearizability of the whole store, by its own revisions.
//!
//! The final history of events is a witness: an order of all writes. The history of clients is linearizable if every
//! write that was acknowledged stands at the revision that it was told, every event is some client's write, once, every
//! read saw the state at its revision, and revisions follow real time. Accepting proves an order; rejecting shows a broken
//! contract (`reliability.md` calls it the witness checker). It takes n log n time.

use std::collections::BTreeMap;

use quorate_state::event::{Event, EventKind, KeyValue};

use crate::history::{Operation, Outcome, Record};

/// The key of a number, as clients use it.
#[must_use]
pub fn key(number: u8) -> bytes::Bytes {
    format!("key-{number}").into()
}

/// The value of a number.
#[must_use]
pub fn value(number: u64) -> bytes::Bytes {
    number.to_string().into()
}

/// Checks a history against the events of all revisions behind 1.
///
/// # Errors
/// A sentence that names what is wrong.
pub fn linearizable(records: &[Record], events: &[Event]) -> Result<(), String> {
    let writes = by_revision(events)?;
    every_event_was_asked_once(records, &writes)?;
    for record in records {
        outcome_fits(record, &writes)?;
    }
    follows_real_time(records, &writes)
}

type Writes = BTreeMap<i64, KeyValue>;

fn by_revision(events: &[Event]) -> Result<Writes, String> {
    let mut writes = Writes::new();
    for (event, revision) in events.iter().zip(2..) {
        if event.kv.mod_revision != revision || event.kind != EventKind::Put {
            return Err(format!("the event of revision {revision} is {event:?}"));
        }
        writes.insert(revision, event.kv.clone());
    }
    Ok(writes)
}

fn written(operation: &Operation) -> Option<(u8, u64)> {
    match operation {
        Operation::Put { key, value } | Operation::Swap { key, value, .. } => Some((*key, *value)),
        Operation::Get { .. } => None,
    }
}

fn every_event_was_asked_once(records: &[Record], writes: &Writes) -> Result<(), String> {
    let mut asked: BTreeMap<_, &Record> = BTreeMap::new();
    for record in records {
        if let Some((number, val)) = written(&record.operation) {
            asked.insert((key(number), value(val)), record);
        }
    }
    for (revision, kv) in writes {
        match asked.remove(&(kv.key.clone(), kv.value.clone())) {
            None => return Err(format!("revision {revision} was asked by nobody, or applied twice: {kv:?}")),
            Some(record) => match record.outcome {
                Outcome::Refused | Outcome::NotSwapped(_) => {
                    return Err(format!("revision {revision} was denied to its client: {record:?}"));
                }
                Outcome::Unknown | Outcome::Written(_) | Outcome::Read(..) => {}
            },
        }
    }
    Ok(())
}

/// The last write of a key up to a revision.
fn at(writes: &Writes, number: u8, revision: i64) -> Option<&KeyValue> {
    let wanted = key(number);
    writes.range(..=revision).rev().map(|(_, kv)| kv).find(|kv| kv.key == wanted)
}

fn outcome_fits(record: &Record, writes: &Writes) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {record:?}"));
    match (&record.operation, &record.outcome) {
        (_, Outcome::Unknown | Outcome::Refused) => Ok(()),
        (Operation::Put { key: number, value: val }, Outcome::Written(revision)) => {
            let found = writes.get(revision);
            let fits = found.is_some_and(|kv| kv.key == key(*number) && kv.value == value(*val));
            if fits { Ok(()) } else { wrong("an acknowledged write is lost") }
        }
        (Operation::Swap { key: number, value: val, expected }, Outcome::Written(revision)) => {
            let found = writes.get(revision);
            if !found.is_some_and(|kv| kv.key == key(*number) && kv.value == value(*val)) {
                return wrong("an acknowledged swap is lost");
            }
            let before = at(writes, *number, revision - 1).map_or(0, |kv| kv.mod_revision);
            if before == *expected {
                Ok(())
            } else {
                wrong("a swap was done though its condition did not hold")
            }
        }
        (Operation::Swap { key: number, expected, .. }, Outcome::NotSwapped(revision)) => {
            let found = at(writes, *number, *revision).map_or(0, |kv| kv.mod_revision);
            if found == *expected { wrong("a swap was refused though its condition held") } else { Ok(()) }
        }
        (Operation::Get { key: number }, Outcome::Read(revision, kv)) => {
            if at(writes, *number, *revision) == kv.as_ref() {
                Ok(())
            } else {
                wrong("a read saw something else")
            }
        }
        (Operation::Put { .. } | Operation::Get { .. }, _) | (Operation::Swap { .. }, Outcome::Read(..)) => {
            wrong("an answer of another kind")
        }
    }
}

/// What an operation saw or made, and whether it made it.
fn place(record: &Record) -> Option<(i64, bool)> {
    match record.outcome {
        Outcome::Written(revision) => Some((revision, true)),
        Outcome::NotSwapped(revision) | Outcome::Read(revision, _) => Some((revision, false)),
        Outcome::Unknown | Outcome::Refused => None,
    }
}

/// Whoever asks after an answer came sees at least that revision; a write makes a later one.
fn follows_real_time(records: &[Record], writes: &Writes) -> Result<(), String> {
    let mut moments: Vec<(u64, bool, &Record)> = Vec::new();
    for record in records.iter().filter(|record| place(record).is_some()) {
        moments.push((record.answered, false, record));
        moments.push((record.asked, true, record));
    }
    moments.sort_by_key(|(at, asked, _)| (*at, *asked));
    let mut newest = 1;
    for (_, asked, record) in moments {
        let Some((revision, made)) = place(record) else { continue };
        if !asked {
            newest = newest.max(revision);
        } else if revision < newest + i64::from(made) {
            return Err(format!("stale: revision {newest} had been seen before {record:?} was asked"));
        }
    }
    let last = writes.last_key_value().map_or(1, |(revision, _)| *revision);
    if newest > last { Err(format!("revision {newest} was told but {last} is the last")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(number: u8, val: u64, revision: i64, asked: u64) -> (Record, Event) {
        let kv = KeyValue {
            key: key(number),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: value(val),
            lease: 0,
        };
        let operation = Operation::Put { key: number, value: val };
        let outcome = Outcome::Written(revision);
        let record = Record { asked, answered: asked + 1, operation, outcome };
        (record, Event { kind: EventKind::Put, kv, prev_kv: None })
    }

    fn sound() -> (Vec<Record>, Vec<Event>) {
        let (mut records, events): (Vec<_>, Vec<_>) =
            [put(1, 10, 2, 0), put(2, 20, 3, 10)].into_iter().unzip();
        let seen = Outcome::Read(3, Some(events[0].kv.clone()));
        records.push(Record { asked: 20, answered: 21, operation: Operation::Get { key: 1 }, outcome: seen });
        (records, events)
    }

    #[test]
    fn a_sound_history_is_accepted_and_each_tampered_one_is_not() {
        let (records, events) = sound();
        assert_eq!(linearizable(&records, &events), Ok(()));
        let tampered = |tamper: &dyn Fn(&mut Vec<Record>, &mut Vec<Event>)| {
            let (mut records, mut events) = sound();
            tamper(&mut records, &mut events);
            linearizable(&records, &events).expect_err("it was tampered with")
        };
        assert!(tampered(&|_, events| drop(events.pop())).contains("lost"));
        assert!(tampered(&|records, _| drop(records.remove(0))).contains("nobody"));
        assert!(tampered(&|records, _| records[0].outcome = Outcome::Refused).contains("denied"));
        assert!(
            tampered(&|records, _| records[2].outcome = Outcome::Read(3, None)).contains("something else")
        );
        let stale = |records: &mut Vec<Record>, events: &mut Vec<Event>| {
            records[2].outcome = Outcome::Read(2, Some(events[0].kv.clone()));
        };
        assert!(tampered(&stale).contains("stale"));
    }
}
