//! A classic search for an order of short histories (Wing & Gong 1993; memoised as in Lowe 2017 and Porcupine).
//!
//! It knows no witness: it tries every order that real time allows and asks the naive model, leases included, for each answer.
//! Exponential at worst, so it looks at the first operations of a history only, as the second judge beside
//! [`super::linearizability`].

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use quorate_state::command::CommandKind;

use super::model::Model;
use crate::history::{Moment, Operation, Outcome, Record};

/// Operations that one search looks at: what is done is a set of bits.
pub const OPERATIONS_MAX: usize = 120;
/// How many operations a search looks at; where there are too many orders, it begins anew with fewer.
const LENGTHS: [usize; 4] = [OPERATIONS_MAX / 2, 40, 25, 15];
/// Steps after which a search of one length gives up; most sound histories take some hundred.
const STEPS_MAX: usize = 3_000;

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order exists of so many operations.
    Linearizable(usize),
    /// None exists; the farthest that an order came, and what could not follow.
    Not(String),
    /// Too many orders.
    GaveUp,
}

#[derive(Clone, Debug)]
enum Step<'a> {
    Command(&'a CommandKind),
    Read(&'a quorate_state::request::Range),
    /// A lease may end by time at any moment, once.
    Expiry(i64),
}

struct Candidate<'a> {
    asked: Moment,
    answered: Moment,
    step: Step<'a>,
    outcome: &'a Outcome,
}

/// Searches the beginning of a history, as much of it as can be decided.
#[must_use]
pub fn search(records: &[Record]) -> Verdict {
    let mut sorted: Vec<&Record> = records.iter().filter(|record| is_looked_at(record)).collect();
    sorted.sort_by_key(|record| record.asked);
    let verdicts = LENGTHS.iter().map(|length| search_first(&sorted, *length));
    verdicts.into_iter().find(|verdict| *verdict != Verdict::GaveUp).unwrap_or(Verdict::GaveUp)
}

/// Searches the first operations. What was answered behind them counts as unknown.
fn search_first(sorted: &[&Record], length: usize) -> Verdict {
    let end = sorted.get(length).map_or(Moment::NEVER, |record| record.asked);
    let first = &sorted[..length.min(sorted.len())];
    let mut candidates: Vec<Candidate<'_>> = Vec::new();
    for record in first {
        let step = match &record.operation {
            Operation::Command(command) => Step::Command(command),
            Operation::Read { range, .. } => Step::Read(range),
            Operation::KeepAlive { .. } => continue,
        };
        let known = record.answered < end;
        let (answered, outcome) =
            if known { (record.answered, &record.outcome) } else { (Moment::NEVER, &Outcome::Unknown) };
        if let Step::Command(CommandKind::LeaseGrant(grant)) = step {
            let expiry = Step::Expiry(grant.id);
            let (asked, outcome) = (record.asked, &Outcome::Unknown);
            candidates.push(Candidate { asked, answered: Moment::NEVER, step: expiry, outcome });
        }
        candidates.push(Candidate { asked: record.asked, answered, step, outcome });
    }
    debug_assert!(candidates.len() <= OPERATIONS_MAX);
    Search { candidates, length: first.len(), seen: HashSet::new(), steps: 0, farthest: 0 }.run()
}

/// Reads of the past and from any member are for other checkers; what certainly did not happen is for nobody.
fn is_looked_at(record: &Record) -> bool {
    match &record.operation {
        Operation::Read { range, serializable } => {
            !serializable && range.revision == 0 && matches!(record.outcome, Outcome::Read(..))
        }
        Operation::Command(_) => record.outcome != Outcome::Refused,
        Operation::KeepAlive { .. } => false,
    }
}

struct Search<'a> {
    candidates: Vec<Candidate<'a>>,
    /// Operations, each once.
    length: usize,
    seen: HashSet<(u128, u64)>,
    steps: usize,
    farthest: u128,
}

impl Search<'_> {
    fn run(mut self) -> Verdict {
        let certain = self.candidates.iter().enumerate().filter(|(_, one)| *one.outcome != Outcome::Unknown);
        let wanted: u128 = certain.map(|(at, _)| 1 << at).sum();
        let mut stack = vec![(0_u128, Model::with_leases())];
        while let Some((done, model)) = stack.pop() {
            if done & wanted == wanted {
                return Verdict::Linearizable(self.length);
            }
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Verdict::GaveUp;
            }
            if (done & wanted).count_ones() > (self.farthest & wanted).count_ones() {
                self.farthest = done;
            }
            // Pushed in reverse: the certain one that was asked first is tried first.
            let mut next = self.next(done);
            next.sort_by_key(|&at| (self.candidates[at].outcome != &Outcome::Unknown, usize::MAX - at));
            for at in next {
                if let Some(after) = self.follow(&model, at) {
                    let mut hasher = DefaultHasher::new();
                    after.hash(&mut hasher);
                    let done = done | 1 << at;
                    if self.seen.insert((done, hasher.finish())) {
                        stack.push((done, after));
                    }
                }
            }
        }
        let stuck = self.next(self.farthest).into_iter().map(|at| {
            let Candidate { step, outcome, .. } = &self.candidates[at];
            format!("{step:?} answered {outcome:?}")
        });
        Verdict::Not(stuck.collect::<Vec<_>>().join("; "))
    }

    /// What may be next: whatever was asked before the first answer of all that is not done.
    fn next(&self, done: u128) -> Vec<usize> {
        let left = || self.candidates.iter().enumerate().filter(|(at, _)| done & 1 << at == 0);
        let first = left().map(|(_, one)| one.answered).min().unwrap_or(Moment::NEVER);
        left().filter(|(_, one)| one.asked < first).map(|(at, _)| at).collect()
    }

    /// The state after a candidate, if its answer fits. One that nobody heard of and that changes nothing need not have
    /// happened.
    fn follow(&self, model: &Model, at: usize) -> Option<Model> {
        let Candidate { step, outcome, .. } = &self.candidates[at];
        match step {
            Step::Read(range) => {
                let expected = Outcome::Read(model.revision(), model.range(range));
                (expected == **outcome).then(|| model.clone())
            }
            Step::Expiry(lease) => {
                let mut after = model.clone();
                after.expire(*lease);
                (after != *model).then_some(after)
            }
            Step::Command(command) => {
                let mut after = model.clone();
                let expected = match after.apply(command) {
                    Ok((response, _)) => Outcome::Applied(response),
                    Err(refusal) => Outcome::Denied(refusal),
                };
                let fits =
                    if **outcome == Outcome::Unknown { after != *model } else { expected == **outcome };
                fits.then_some(after)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;
    use quorate_state::command::LeaseGrant;
    use quorate_state::response::{Body, Response};

    fn sound() -> Vec<Record> {
        let grant = CommandKind::LeaseGrant(LeaseGrant { id: 7, ttl_s: 1 });
        let granted = Outcome::Applied(Response { revision: 1, body: Body::LeaseGrant });
        let mut records = vec![sample::command(1, grant, granted)];
        records.extend(sample::history().0);
        records
    }

    fn tampered(tamper: impl Fn(&mut Vec<Record>)) -> Verdict {
        let mut records = sound();
        tamper(&mut records);
        search(&records)
    }

    fn ordered(verdict: Verdict) {
        assert!(matches!(verdict, Verdict::Linearizable(_)), "{verdict:?}");
    }

    #[test]
    fn a_sound_history_has_an_order_and_each_tampered_one_has_none() {
        ordered(search(&sound()));
        let none = |verdict| assert!(matches!(verdict, Verdict::Not(_)), "{verdict:?}");
        none(tampered(|records| records[3].outcome = records[2].outcome.clone()));
        none(tampered(|records| drop(records.remove(3))));
        // The second read sees what was only written later.
        none(tampered(|records| records[2].outcome = records[6].outcome.clone()));
        // Nobody granted the lease.
        none(tampered(|records| drop(records.remove(0))));
        none(tampered(|records| records[5].outcome = Outcome::Refused));
    }

    #[test]
    fn what_nobody_heard_of_may_have_happened_or_not() {
        ordered(tampered(|records| {
            records[3].outcome = Outcome::Unknown;
            records[3].answered = Moment::NEVER;
        }));
        let mut records = sound();
        records.push(Record {
            answered: Moment::NEVER,
            ..sample::command(99, sample::put("z", "z", 0), Outcome::Unknown)
        });
        ordered(search(&records));
    }

    #[test]
    fn overlapping_operations_may_take_place_in_any_order() {
        let mut records = sound();
        // The read of revision 2 was asked before and answered after the put that made it.
        records[2].asked = Moment { order: records[1].asked.order - 1, ms: 0 };
        ordered(search(&records));
    }

    /// Puts that nobody heard of, all at once, and reads of another key behind them.
    fn crowded(puts: u64) -> Vec<Record> {
        let mut records = sound();
        let last = records.len() as u64;
        for at in 0..puts {
            let put = sample::put("z", ["1", "2", "3", "4"][at as usize % 4], 0);
            records.push(Record {
                answered: Moment::NEVER,
                ..sample::command(last + at, put, Outcome::Unknown)
            });
        }
        let read = records[2].clone();
        records.push(sample::answered(last + puts + 1, &read));
        records
    }

    #[test]
    fn where_there_are_too_many_orders_fewer_operations_are_looked_at() {
        // No order explains the read at the end, and twenty puts happened in any order or not.
        let records = crowded(20);
        let whole: Vec<&Record> = records.iter().collect();
        assert_eq!(search_first(&whole, OPERATIONS_MAX / 2), Verdict::GaveUp);
        let Verdict::Linearizable(length) = search(&records) else { panic!("the beginning has an order") };
        assert!(length < records.len(), "{length}");
        // What is wrong at the beginning is found all the same.
        let mut wrong = records;
        wrong[3].outcome = wrong[2].outcome.clone();
        assert!(matches!(search(&wrong), Verdict::Not(_)));
    }
}
