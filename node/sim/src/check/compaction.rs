//! Compaction: history that was not compacted can be read, and what was compacted can't.
//!
//! A read of a revision, or a compaction to one, is denied as compacted only if somebody had asked to compact at least that
//! far, and as of the future only if that revision may not have been there. Whoever reads linearizably behind the answer of a
//! compaction is denied what it took away.

use std::collections::BTreeSet;

use quorate_state::command::CommandKind;
use quorate_state::error::ApplyError;

use crate::history::{Moment, Operation, Outcome, Record};

/// Checks every answer that depends on what is compacted.
///
/// # Errors
/// A sentence that names what is wrong.
pub fn check(records: &[Record]) -> Result<(), String> {
    let compactions = Compactions::of(records);
    for record in records {
        let wrong = |what: &str| Err(format!("{what}: {record:?}"));
        match (&record.operation, &record.outcome) {
            (Operation::Read { range, serializable }, outcome) if range.revision > 0 => {
                match outcome {
                    // A read at the compacted revision itself is served.
                    Outcome::Denied(ApplyError::Compacted)
                        if compactions.asked_before(record.answered) <= range.revision =>
                    {
                        return wrong("a read was denied as compacted though nobody compacted so far");
                    }
                    Outcome::Read(newest, _) if range.revision > *newest => {
                        return wrong("a revision of the future was read");
                    }
                    Outcome::Read(..)
                        if !serializable && compactions.done_before(record.asked) > range.revision =>
                    {
                        return wrong("a compacted revision was read");
                    }
                    Outcome::Denied(ApplyError::FutureRevision)
                        if !serializable && seen_before(records, record.asked) >= range.revision =>
                    {
                        return wrong("a read was denied as of the future though the revision had been seen");
                    }
                    Outcome::Denied(_) | Outcome::Read(..) | Outcome::Unknown | Outcome::Refused => {}
                    Outcome::Applied(_) | Outcome::Renewed | Outcome::NotRenewed => {
                        return wrong("an answer of another kind");
                    }
                }
            }
            (Operation::Command(CommandKind::Compact(revision)), outcome) => match outcome {
                Outcome::Denied(ApplyError::Compacted)
                    if compactions.others_asked_before(record) < *revision =>
                {
                    return wrong("a compaction was denied as done though nobody compacted so far");
                }
                Outcome::Applied(_) if compactions.done_before(record.asked) >= *revision => {
                    return wrong("a revision was compacted twice");
                }
                Outcome::Applied(response) if response.revision < *revision => {
                    return wrong("a revision of the future was compacted");
                }
                Outcome::Denied(ApplyError::FutureRevision)
                    if seen_before(records, record.asked) >= *revision =>
                {
                    return wrong(
                        "a compaction was denied as of the future though the revision had been seen",
                    );
                }
                _ => {}
            },
            (Operation::Command(_) | Operation::Read { .. } | Operation::KeepAlive { .. }, _) => {}
        }
    }
    Ok(())
}

/// The highest revision that an answer named before a moment. Looked for only where a denial must be judged: rare.
fn seen_before(records: &[Record], at: Moment) -> i64 {
    let before = records.iter().filter(|record| record.answered < at);
    before.filter_map(Record::revision).max().unwrap_or(1)
}

/// The revisions to which was compacted, or may have been.
#[must_use]
pub fn revisions(records: &[Record]) -> BTreeSet<i64> {
    let asked = Compactions::of(records).asked.into_iter();
    let done = asked.filter(|(record, _)| !matches!(record.outcome, Outcome::Refused | Outcome::Denied(_)));
    done.map(|(_, revision)| revision).collect()
}

struct Compactions<'a> {
    asked: Vec<(&'a Record, i64)>,
}

impl<'a> Compactions<'a> {
    fn of(records: &'a [Record]) -> Self {
        let compaction = |record: &'a Record| match record.operation {
            Operation::Command(CommandKind::Compact(revision)) => Some((record, revision)),
            Operation::Command(_) | Operation::Read { .. } | Operation::KeepAlive { .. } => None,
        };
        Self { asked: records.iter().filter_map(compaction).collect() }
    }

    /// How far somebody had asked to compact before a moment.
    fn asked_before(&self, at: Moment) -> i64 {
        let before = self.asked.iter().filter(|(record, _)| {
            record.asked < at && !matches!(record.outcome, Outcome::Refused | Outcome::Denied(_))
        });
        before.map(|(_, revision)| *revision).max().unwrap_or(0)
    }

    fn others_asked_before(&self, denied: &Record) -> i64 {
        let before = self.asked.iter().filter(|(record, _)| {
            let happened = !matches!(record.outcome, Outcome::Refused | Outcome::Denied(_));
            happened && record.asked < denied.answered && record.asked != denied.asked
        });
        before.map(|(_, revision)| *revision).max().unwrap_or(0)
    }

    /// How far was certainly compacted before a moment.
    fn done_before(&self, at: Moment) -> i64 {
        let before = self
            .asked
            .iter()
            .filter(|(record, _)| record.answered < at && matches!(record.outcome, Outcome::Applied(_)));
        before.map(|(_, revision)| *revision).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{answered, command, read_at};
    use quorate_state::response::{Body, RangeResponse, Response};

    fn sound() -> Vec<Record> {
        let done = Outcome::Applied(Response { revision: 9, body: Body::Compact });
        vec![
            read_at(1, 3, Outcome::Read(9, RangeResponse::default())),
            command(2, CommandKind::Compact(5), done),
            read_at(3, 4, Outcome::Denied(ApplyError::Compacted)),
            read_at(4, 5, Outcome::Read(9, RangeResponse::default())),
            command(5, CommandKind::Compact(5), Outcome::Denied(ApplyError::Compacted)),
            command(6, CommandKind::Compact(99), Outcome::Denied(ApplyError::FutureRevision)),
        ]
    }

    #[test]
    fn a_sound_history_is_accepted_and_each_tampered_one_is_not() {
        assert_eq!(check(&sound()), Ok(()));
        let tampered = |tamper: &dyn Fn(&mut Vec<Record>)| {
            let mut records = sound();
            tamper(&mut records);
            check(&records).expect_err("it was tampered with")
        };
        let early = |records: &mut Vec<Record>| records[2] = answered(0, &records[2]);
        assert!(tampered(&early).contains("nobody compacted so far"));
        let served = Outcome::Read(9, RangeResponse::default());
        assert!(
            tampered(&|records| records[2].outcome = served.clone()).contains("compacted revision was read")
        );
        let twice = Outcome::Applied(Response { revision: 9, body: Body::Compact });
        assert!(tampered(&|records| records[4].outcome = twice.clone()).contains("compacted twice"));
        assert!(tampered(&|records| drop(records.remove(1))).contains("nobody compacted so far"));
        let present = CommandKind::Compact(9);
        assert!(
            tampered(&|records| records[5].operation = Operation::Command(present.clone()))
                .contains("had been seen")
        );
        let ahead = Outcome::Read(2, RangeResponse::default());
        assert!(tampered(&|records| records[0].outcome = ahead.clone()).contains("future was read"));
    }
}
