//! Linearizability of the whole store, by its own revisions.
//!
//! The witness is an order of all writes. The history of clients is linearizable if every acknowledged command and every
//! read gives, by the naive model, exactly its answer at the revision that it was told, every revision is one client's
//! write (or the end of a lease), once, and revisions follow real time. Accepting proves an order; rejecting shows a broken
//! contract (`reliability.md`, section 4, calls it the witness checker). It takes n log n time.
//!
//! What has no revision of its own is looked at elsewhere: whether leases exist (`lease`), what is compacted
//! (`compaction`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use quorate_state::command::CommandKind;
use quorate_state::event::{Event, EventKind};
use quorate_state::request::{OperationKind, Put, Range, Txn};

use super::model::Model;
use super::unheard::Unheard;
use super::witness::Witness;
use crate::history::{Moment, Operation, Outcome, Record};

/// Why each revision came to be.
#[derive(Clone, Debug, Default)]
pub struct Explained {
    /// By revision, the record that wrote it.
    pub writers: BTreeMap<i64, usize>,
    /// By revision, the lease whose end it is, where no record wrote it.
    pub lease_ends: BTreeMap<i64, i64>,
    /// Revisions that are taken for a lease's end and may as well be a deletion of its keys of which no client heard: that
    /// lease may live on.
    pub doubtful_ends: BTreeSet<i64>,
}

/// Checks a history against what happened.
///
/// # Errors
/// A sentence that names what is wrong.
pub fn check(records: &[Record], witness: &Witness) -> Result<Explained, String> {
    witness.is_whole()?;
    let mut checker = Checker::new(records, witness);
    checker.replay()?;
    checker.follows_real_time()?;
    Ok(checker.explained)
}

struct Checker<'a> {
    records: &'a [Record],
    witness: &'a Witness,
    /// By the revision that they saw: commands, and reads of the newest state.
    told: BTreeMap<i64, Vec<usize>>,
    /// Reads of the past, by the revision that they named.
    past: BTreeMap<i64, Vec<usize>>,
    /// Who asked to write a value: values are written by one client once.
    by_value: BTreeMap<Bytes, usize>,
    /// Commands with an unknown outcome of which no value was seen, in the order in which they were asked: they may have
    /// deleted something.
    unsure: Vec<usize>,
    /// What they are taken to have deleted.
    unheard: Unheard,
    explained: Explained,
}

/// The values that a command may write.
fn values(command: &CommandKind) -> Vec<&Put> {
    match command {
        CommandKind::Put(put) => vec![put],
        CommandKind::Txn(txn) => puts(txn),
        CommandKind::DeleteRange(_)
        | CommandKind::Compact(_)
        | CommandKind::LeaseGrant(_)
        | CommandKind::LeaseRevoke(_)
        | CommandKind::Alarm(_)
        | CommandKind::RaiseLevel(_) => Vec::new(),
    }
}

/// The writes of a transaction, those within it as well, whichever way its conditions fall out.
fn puts(txn: &Txn) -> Vec<&Put> {
    let all = txn.success.iter().chain(&txn.failure);
    all.flat_map(|operation| match &operation.kind {
        Some(OperationKind::Put(put)) => vec![put],
        Some(OperationKind::Txn(inner)) => puts(inner),
        Some(OperationKind::Range(_) | OperationKind::DeleteRange(_)) | None => Vec::new(),
    })
    .collect()
}

/// The one lease on which the keys hung that were deleted, if there is one: its end deletes them.
fn lease_of(events: &[Event]) -> Option<i64> {
    let mut leases = events.iter().map(|event| match event.kind {
        EventKind::Delete => event.prev_kv.as_ref().map_or(0, |kv| kv.lease),
        EventKind::Put => 0,
    });
    let lease = leases.next().filter(|lease| *lease != 0)?;
    leases.all(|other| other == lease).then_some(lease)
}

impl<'a> Checker<'a> {
    fn new(records: &'a [Record], witness: &'a Witness) -> Self {
        let (mut told, mut past) = (BTreeMap::<i64, Vec<usize>>::new(), BTreeMap::<i64, Vec<usize>>::new());
        let (mut by_value, mut unsure) = (BTreeMap::new(), Vec::new());
        let happened: BTreeSet<&Bytes> =
            witness.iter().flat_map(|(_, events)| events).map(|event| &event.kv.value).collect();
        for (at, record) in records.iter().enumerate() {
            match (&record.operation, &record.outcome) {
                (Operation::Read { range: Range { revision: 1.., .. }, .. }, Outcome::Read(..)) => {
                    if let Operation::Read { range, .. } = &record.operation {
                        past.entry(range.revision).or_default().push(at);
                    }
                }
                (_, Outcome::Read(revision, _)) => told.entry(*revision).or_default().push(at),
                (_, Outcome::Applied(response)) => told.entry(response.revision).or_default().push(at),
                (Operation::Command(command), Outcome::Unknown) => {
                    let written = values(command).iter().any(|put| happened.contains(&put.value));
                    unsure.extend((!written).then_some(at));
                }
                (_, Outcome::Unknown | Outcome::Refused | Outcome::Denied(_)) => {}
                (_, Outcome::Renewed | Outcome::NotRenewed) => {}
            }
            if let Operation::Command(command) = &record.operation {
                by_value.extend(values(command).into_iter().map(|put| (put.value.clone(), at)));
            }
        }
        let (unheard, explained) = (Unheard::default(), Explained::default());
        Self { records, witness, told, past, by_value, unsure, unheard, explained }
    }

    /// Replays the witness and asks the model for every answer.
    fn replay(&mut self) -> Result<(), String> {
        let mut model = Model::without_leases();
        let last = self.witness.last();
        self.saw(&mut model)?;
        for (revision, events) in self.witness.iter() {
            self.explain(&mut model, revision, events)?;
            self.doubt(&mut model, revision, events);
            model.follow(events);
            self.saw(&mut model)?;
        }
        self.explained.writers.extend(self.unheard.writers());
        self.explained.lease_ends.extend(self.unheard.lease_ends());
        let beyond = self.told.keys().chain(self.past.keys()).copied().max().unwrap_or(1);
        if beyond > last {
            let record = self.told.get(&beyond).map(|records| &self.records[records[0]]);
            return Err(format!("lost: revision {beyond} was told but {last} is the last: {record:?}"));
        }
        Ok(())
    }

    /// Finds who wrote a revision; `model` is the state before it.
    fn explain(&mut self, model: &mut Model, revision: i64, events: &[Event]) -> Result<(), String> {
        let told = self.told.get(&revision).map_or(&[][..], Vec::as_slice);
        let wrote = |at: &usize| self.wrote(model, *at, events);
        let writers: Vec<usize> = told.iter().copied().filter(wrote).collect();
        // Whoever would have got the same answer behind it need not have written it: the end of a lease without keys answers
        // as one with keys does.
        let mut after = model.clone();
        after.follow(events);
        let (mut silent, certain): (Vec<usize>, Vec<usize>) =
            writers.into_iter().partition(|&at| self.could_be_silent(&mut after, at));
        // One that was asked when others had seen the revision was silent.
        let seen = self.witness.seen(revision).unwrap_or(Moment::NEVER);
        silent.retain(|&at| self.records[at].asked < seen);
        match (&certain[..], &silent[..]) {
            ([], []) => {}
            ([writer], _) | ([], [writer, ..]) => return self.claim(revision, *writer),
            ([first, second, ..], _) => {
                let (first, second) = (&self.records[*first], &self.records[*second]);
                return Err(format!("revision {revision} was told to two writers: {first:?} and {second:?}"));
            }
        }
        let put = events.iter().find(|event| event.kind == EventKind::Put);
        if let Some(event) = put {
            let Some(&writer) = self.by_value.get(&event.kv.value) else {
                return Err(format!("revision {revision} was asked by nobody: {event:?}"));
            };
            return self.claim_unknown(model, revision, writer, events);
        }
        let mut fits = self.unsure.clone();
        fits.retain(|&at| self.records[at].asked < seen && self.would_write(model, at, events));
        if !self.unheard.explain(revision, fits, lease_of(events)) {
            return Err(format!("revision {revision} was asked by nobody: {events:?}"));
        }
        Ok(())
    }

    /// Whether an acknowledged command wrote exactly this.
    fn wrote(&self, model: &mut Model, at: usize, events: &[Event]) -> bool {
        let (Operation::Command(command), Outcome::Applied(response)) =
            (&self.records[at].operation, &self.records[at].outcome)
        else {
            return false;
        };
        model.answer(command).is_ok_and(|(answer, wrote)| wrote == events && answer == *response)
    }

    /// Whether a command would have changed nothing behind this state, and have got the answer that it got.
    fn could_be_silent(&self, after: &mut Model, at: usize) -> bool {
        let (Operation::Command(command), Outcome::Applied(response)) =
            (&self.records[at].operation, &self.records[at].outcome)
        else {
            return false;
        };
        after.answer(command).is_ok_and(|(answer, wrote)| wrote.is_empty() && answer == *response)
    }

    fn would_write(&self, model: &mut Model, at: usize, events: &[Event]) -> bool {
        let Operation::Command(command) = &self.records[at].operation else { return false };
        model.answer(command).is_ok_and(|(_, wrote)| wrote == events)
    }

    fn claim(&mut self, revision: i64, writer: usize) -> Result<(), String> {
        self.explained.writers.insert(revision, writer);
        if let Some(told) = self.told.get_mut(&revision) {
            told.retain(|&at| at != writer);
        }
        Ok(())
    }

    /// A write whose client did not hear of it, found by its value.
    fn claim_unknown(
        &mut self,
        model: &mut Model,
        revision: i64,
        writer: usize,
        events: &[Event],
    ) -> Result<(), String> {
        let record = &self.records[writer];
        let before = self.explained.writers.iter().find(|(_, at)| **at == writer);
        if let Some((first, _)) = before {
            return Err(format!("applied twice, in revisions {first} and {revision}: {record:?}"));
        }
        match &record.outcome {
            Outcome::Unknown if self.would_write(model, writer, events) => self.claim(revision, writer),
            Outcome::Unknown => Err(format!("revision {revision} is {events:?}, not what {record:?} does")),
            Outcome::Refused | Outcome::Denied(_) => {
                Err(format!("revision {revision} was denied to its client: {record:?}"))
            }
            Outcome::Applied(_) | Outcome::Read(..) | Outcome::Renewed | Outcome::NotRenewed => Err(format!(
                "revision {revision} is {events:?}, but its client was told otherwise: {record:?}"
            )),
        }
    }

    /// Notes a revision that may be the end of a lease, if a deletion of which nobody heard explains it, too; `model` is the state
    /// before it.
    fn doubt(&mut self, model: &mut Model, revision: i64, events: &[Event]) {
        let revokes = |at: &usize| {
            matches!(self.records[*at].operation, Operation::Command(CommandKind::LeaseRevoke(_)))
        };
        let seen = self.witness.seen(revision).unwrap_or(Moment::NEVER);
        let deletes = |at: &usize| {
            !revokes(at) && self.records[*at].asked < seen && self.would_write(model, *at, events)
        };
        if lease_of(events).is_some() && self.unsure.iter().any(deletes) {
            self.explained.doubtful_ends.insert(revision);
        }
    }

    /// Everybody who was told this state, and did not write it, must have got the model's answer.
    fn saw(&mut self, model: &mut Model) -> Result<(), String> {
        let revision = model.revision();
        for at in self.past.remove(&revision).unwrap_or_default() {
            self.read_fits(model, at)?;
        }
        for at in self.told.remove(&revision).unwrap_or_default() {
            let record = &self.records[at];
            match (&record.operation, &record.outcome) {
                (Operation::Read { .. }, _) => self.read_fits(model, at)?,
                (Operation::Command(command), Outcome::Applied(response)) => {
                    let fits = match command {
                        // Whether it may be compacted is not for this checker.
                        CommandKind::Compact(_) => true,
                        _ => model
                            .answer(command)
                            .is_ok_and(|(answer, wrote)| wrote.is_empty() && answer == *response),
                    };
                    if !fits {
                        return Err(format!(
                            "an acknowledged command is lost, or its answer is wrong, at revision {revision}: \
                             {record:?}"
                        ));
                    }
                }
                (_, _) => return Err(format!("an answer of another kind: {record:?}")),
            }
        }
        Ok(())
    }

    fn read_fits(&self, model: &Model, at: usize) -> Result<(), String> {
        let record = &self.records[at];
        let (Operation::Read { range, .. }, Outcome::Read(_, response)) =
            (&record.operation, &record.outcome)
        else {
            return Err(format!("an answer of another kind: {record:?}"));
        };
        let expected = model.range(range);
        if expected == *response {
            Ok(())
        } else {
            Err(format!("a read saw something else than {expected:?}: {record:?}"))
        }
    }

    /// Whoever asks after an answer came sees at least that revision; a write makes a later one.
    fn follows_real_time(&self) -> Result<(), String> {
        let wrote: BTreeMap<usize, i64> =
            self.explained.writers.iter().map(|(&revision, &at)| (at, revision)).collect();
        let mut moments: Vec<(u64, bool, i64, usize)> = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            let place = wrote.get(&at).copied().or(record.revision());
            let Some(revision) = place else { continue };
            let serializable = matches!(record.operation, Operation::Read { serializable: true, .. });
            if !serializable {
                moments.push((record.asked.order, true, revision, at));
            }
            // What a serializable read saw is there for all who come later, as well.
            moments.push((record.answered.order, false, revision, at));
        }
        moments.sort_unstable();
        let mut newest = 1;
        for (order, asked, revision, at) in moments {
            let made = i64::from(wrote.contains_key(&at));
            if !asked {
                newest = if order == u64::MAX { newest } else { newest.max(revision) };
            } else if revision < newest + made {
                let record = &self.records[at];
                return Err(format!("stale: revision {newest} had been seen before {record:?} was asked"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;
    use quorate_state::command::LeaseGrant;
    use quorate_state::response::{Body, Response};

    #[track_caller]
    fn tampered(says: &str, tamper: impl FnOnce(&mut Vec<Record>, &mut Witness)) {
        let (mut records, mut witness) = sample::history();
        tamper(&mut records, &mut witness);
        let why = check(&records, &witness).expect_err("it was tampered with");
        assert!(why.contains(says), "{why}");
    }

    fn unknown(record: &mut Record) {
        (record.outcome, record.answered) = (Outcome::Unknown, Moment::NEVER);
    }

    #[test]
    fn a_sound_history_is_explained() {
        let (records, witness) = sample::history();
        let explained = check(&records, &witness).expect("it is sound");
        assert_eq!(explained.lease_ends.into_iter().collect::<Vec<_>>(), [(6, 7)]);
        assert_eq!(explained.writers.into_keys().collect::<Vec<_>>(), [2, 3, 4, 5, 7, 8]);
    }

    /// Records by place: 0, 2, 4, 6 put a, b, c, d; 8 deletes a and b; 10 puts a; each is followed by a read.
    #[test]
    fn each_tampered_history_is_rejected() {
        tampered("nobody published", |_, witness| witness.forget(3));
        tampered("lost", |_, witness| witness.forget(8));
        tampered("asked by nobody", |records, _| drop(records.remove(2)));
        tampered("asked by nobody", |records, _| drop(records.remove(8)));
        tampered("denied to its client", |records, _| records[2].outcome = Outcome::Refused);
        tampered("told otherwise", |records, _| {
            records[0].outcome = Outcome::Applied(Response { revision: 3, body: Body::LeaseGrant });
        });
        tampered("something else", |records, _| {
            records[3].outcome = {
                let Outcome::Read(_, response) = &records[1].outcome else { panic!("a read") };
                Outcome::Read(3, response.clone())
            }
        });
        tampered("stale", |records, _| records[11].outcome = records[9].outcome.clone());
        tampered("stale", |records, _| {
            // Asked behind the read that saw it.
            unknown(&mut records[2]);
            records[2].asked = Moment { order: 999, ms: 999 };
        });
        tampered("applied twice", |records, witness| {
            unknown(&mut records[10]);
            records.truncate(11);
            let mut again = witness.events(8).to_vec();
            again[0].prev_kv = Some(again[0].kv.clone());
            (again[0].kv.mod_revision, again[0].kv.version) = (9, 2);
            witness.published(Moment::default(), &again).expect("new");
        });
        tampered("two writers", |records, _| records.push(records[0].clone()));
        tampered("its answer is wrong", |records, _| {
            let Outcome::Applied(response) = &mut records[8].outcome else { panic!("a command") };
            response.body = Body::DeleteRange { deleted: 1, prev_kvs: Vec::new() };
            records.push(sample::command(80, sample::delete("a", "c"), Outcome::Unknown));
        });
        tampered("asked by nobody", |_, witness| {
            // A lease's end takes a key that does not hang on it.
            let event = witness.events_mut(6).first_mut().expect("a key");
            event.prev_kv.as_mut().expect("a key").lease = 0;
        });
    }

    #[test]
    fn what_nobody_heard_of_may_have_happened_or_not() {
        let (mut records, witness) = sample::history();
        for at in [0, 8, 10] {
            unknown(&mut records[at]);
        }
        records.push(sample::command(70, sample::put("z", "z", 0), Outcome::Unknown));
        let grant = CommandKind::LeaseGrant(LeaseGrant { id: 1, ttl_s: 1 });
        records.push(sample::command(71, grant, Outcome::Unknown));
        check(&records, &witness).expect("it is sound");
    }

    #[test]
    fn two_members_that_tell_one_revision_differently_are_noticed() {
        let (_, mut witness) = sample::history();
        let mut other = witness.events(2).to_vec();
        other[0].kv.value = "other".into();
        assert!(
            witness.published(Moment::default(), &other).expect_err("they differ").contains("on another")
        );
    }
}
