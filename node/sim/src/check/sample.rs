//! A small sound history for the tests of the checkers, to be tampered with.

use bytes::Bytes;
use quorate_state::command::CommandKind;
use quorate_state::request::{DeleteRange, Put, Range};

use super::model::Model;
use super::witness::Witness;
use crate::history::{Moment, Operation, Outcome, Record};

/// The moments of operation number `at`: ten apart, five long.
fn moments(at: u64) -> (Moment, Moment) {
    (Moment { order: 10 * at, ms: 10 * at }, Moment { order: 10 * at + 5, ms: 10 * at + 5 })
}

pub(crate) fn record(at: u64, operation: Operation, outcome: Outcome) -> Record {
    let (asked, answered) = moments(at);
    let answered = if outcome == Outcome::Unknown { Moment::NEVER } else { answered };
    Record { asked, answered, operation, outcome }
}

/// The same record at another place.
pub(crate) fn answered(at: u64, record: &Record) -> Record {
    self::record(at, record.operation.clone(), record.outcome.clone())
}

pub(crate) fn command(at: u64, command: CommandKind, outcome: Outcome) -> Record {
    record(at, Operation::Command(command), outcome)
}

pub(crate) fn read_at(at: u64, revision: i64, outcome: Outcome) -> Record {
    let range = Range { key: "k".into(), revision, ..Range::default() };
    record(at, Operation::Read { range, serializable: false }, outcome)
}

pub(crate) fn put(key: &'static str, value: &'static str, lease: i64) -> CommandKind {
    CommandKind::Put(Put { key: key.into(), value: value.into(), lease, ..Put::default() })
}

pub(crate) fn delete(key: &'static str, range_end: &'static str) -> CommandKind {
    CommandKind::DeleteRange(DeleteRange { key: key.into(), range_end: range_end.into(), prev_kv: true })
}

/// Puts, deletions, a lease's end and reads, one behind the other, all answered as the model says. Revisions:
/// 2 puts a, 3 puts b, 4 puts c on lease 7, 5 puts d on lease 7, 6 ends lease 7, 7 deletes a and b, 8 puts a.
pub(crate) fn history() -> (Vec<Record>, Witness) {
    let mut model = Model::without_leases();
    let (mut records, mut events) = (Vec::new(), Vec::new());
    let commands = [
        Some(put("a", "1", 0)),
        Some(put("b", "2", 0)),
        Some(put("c", "3", 7)),
        Some(put("d", "4", 7)),
        None,
        Some(delete("a", "c")),
        Some(put("a", "5", 0)),
    ];
    for (at, asked) in (1..).zip(commands) {
        let Some(asked) = asked else {
            let revoke = quorate_state::command::LeaseRevoke { id: 7, expired_in_epoch: 0 };
            events.extend(model.apply(&CommandKind::LeaseRevoke(revoke)).expect("allowed").1);
            continue;
        };
        let (response, happened) = model.apply(&asked).expect("allowed");
        events.extend(happened);
        records.push(command(2 * at, asked, Outcome::Applied(response)));
        let range = Range { key: "a".into(), range_end: Bytes::from_static(b"\0"), ..Range::default() };
        let seen = Outcome::Read(model.revision(), model.range(&range));
        records.push(record(2 * at + 1, Operation::Read { range, serializable: false }, seen));
    }
    (records, Witness::of(events))
}
