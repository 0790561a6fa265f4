//! What leases promise: one check each. Time is what the members' clocks can have shown: see [`Clock`].
//!
//! A lease ends when it is revoked or its time is over; its keys are deleted then. It does not end when a client deletes its
//! keys (etcd's `Lease` service: a lease without keys is kept alive as any other). So a revision that deletes them is taken
//! for its end only if no client's deletion explains it.

mod attached;
mod early;
mod renewed;
mod together;

use std::collections::BTreeMap;

use quorate_state::command::CommandKind;
use quorate_state::event::{Event, EventKind};
use quorate_state::request::{OperationKind, Put, Txn};

use super::linearizability::Explained;
use super::witness::Witness;
use crate::history::{Moment, Operation, Outcome, Record};

/// The most milliseconds that some member's clock can have shown to pass between two moments of the clients' clock.
pub type Clock<'a> = dyn Fn(u64, u64) -> u64 + 'a;

/// Checks everything that was told about leases. `explained` is what [`super::linearizability::check`] found.
///
/// # Errors
/// A sentence that names the broken promise.
pub fn check(
    records: &[Record],
    witness: &Witness,
    explained: &Explained,
    clock: &Clock<'_>,
) -> Result<(), String> {
    let leases = Lease::gather(records, witness, explained);
    together::check(records, witness, explained)?;
    for lease in leases.values() {
        early::check(lease, clock)?;
        renewed::check(lease)?;
        attached::check(lease)?;
    }
    Ok(())
}

/// What is known of one lease.
#[derive(Debug, Default)]
struct Lease<'a> {
    id: i64,
    ttl_s: i64,
    grants: Vec<&'a Record>,
    keep_alives: Vec<&'a Record>,
    revokes: Vec<&'a Record>,
    /// Commands that would put keys on it, with the revision in which they did.
    puts: Vec<(&'a Record, Option<i64>)>,
    /// The revision that its end made for certain, when that was seen, and whether a client's word is known to be the reason.
    end: Option<(i64, Moment, bool)>,
}

/// The leases that a command puts keys on.
fn leases_of(command: &CommandKind) -> Vec<i64> {
    let of_txn = |txn: &Txn| {
        let puts = txn.success.iter().chain(&txn.failure).filter_map(|operation| match &operation.kind {
            Some(OperationKind::Put(put)) => Some(put.lease),
            Some(OperationKind::Range(_) | OperationKind::DeleteRange(_) | OperationKind::Txn(_)) | None => {
                None
            }
        });
        puts.collect()
    };
    let mut leases: Vec<i64> = match command {
        CommandKind::Put(Put { lease, .. }) => vec![*lease],
        CommandKind::Txn(txn) => of_txn(txn),
        CommandKind::DeleteRange(_)
        | CommandKind::Compact(_)
        | CommandKind::LeaseGrant(_)
        | CommandKind::LeaseRevoke(_)
        | CommandKind::Alarm(_)
        | CommandKind::RaiseLevel(_) => Vec::new(),
    };
    leases.retain(|lease| *lease != 0);
    leases
}

impl<'a> Lease<'a> {
    fn gather(records: &'a [Record], witness: &Witness, explained: &Explained) -> BTreeMap<i64, Self> {
        let mut leases: BTreeMap<i64, Self> = BTreeMap::new();
        let wrote: BTreeMap<usize, i64> =
            explained.writers.iter().map(|(&revision, &at)| (at, revision)).collect();
        for (at, record) in records.iter().enumerate() {
            match &record.operation {
                Operation::Command(CommandKind::LeaseGrant(grant)) => {
                    let lease = leases.entry(grant.id).or_default();
                    lease.ttl_s = grant.ttl_s;
                    lease.grants.push(record);
                }
                Operation::Command(CommandKind::LeaseRevoke(revoke)) => {
                    let lease = leases.entry(revoke.id).or_default();
                    lease.revokes.push(record);
                    let revision = wrote.get(&at);
                    if let Some(&revision) = revision.filter(|it| !explained.doubtful_ends.contains(it)) {
                        let seen = witness.seen(revision).unwrap_or_default();
                        lease.end = Some((revision, seen, true));
                    }
                }
                Operation::KeepAlive { lease } => leases.entry(*lease).or_default().keep_alives.push(record),
                Operation::Command(command) => {
                    let revision = wrote.get(&at).copied();
                    for lease in leases_of(command) {
                        // Of a transaction only one branch was done.
                        let hangs = |event: &Event| event.kind == EventKind::Put && event.kv.lease == lease;
                        let made = revision.filter(|revision| witness.events(*revision).iter().any(hangs));
                        leases.entry(lease).or_default().puts.push((record, made));
                    }
                }
                Operation::Read { .. } => {}
            }
        }
        let by_time = &explained.lease_ends;
        for (&revision, &lease) in by_time.iter().filter(|(it, _)| !explained.doubtful_ends.contains(it)) {
            let seen = witness.seen(revision).unwrap_or_default();
            leases.entry(lease).or_default().end = Some((revision, seen, false));
        }
        for (&id, lease) in &mut leases {
            lease.id = id;
        }
        leases
    }

    /// What gave it its whole time, for certain: its grant and its renewals.
    fn renewals(&self) -> impl Iterator<Item = &'a Record> {
        let granted = self.grants.iter().filter(|record| matches!(record.outcome, Outcome::Applied(_)));
        let renewed = self.keep_alives.iter().filter(|record| record.outcome == Outcome::Renewed);
        granted.chain(renewed).copied()
    }

    /// Whether a client may have ended it before a moment.
    fn may_be_revoked(&self, before: Moment) -> bool {
        let possible = |record: &&&Record| !matches!(record.outcome, Outcome::Refused | Outcome::Denied(_));
        self.revokes.iter().filter(possible).any(|record| record.asked < before)
    }
}

/// A history with one lease's life, for tests.
#[cfg(test)]
mod sample {
    use super::*;
    use crate::check::model::Model;
    use crate::check::sample::{command, put, record};
    use quorate_state::command::{LeaseGrant, LeaseRevoke};

    /// Lease 7 of one second: granted, renewed, two keys, and its end by time at `end_ms`. Then lease 8, revoked.
    pub(super) fn life(end_ms: u64) -> (Vec<Record>, Witness) {
        let mut model = Model::with_leases();
        let mut witness = Witness::default();
        let mut records = Vec::new();
        let revoke = |id| CommandKind::LeaseRevoke(LeaseRevoke { id, expired_in_epoch: 0 });
        let grant = |id| CommandKind::LeaseGrant(LeaseGrant { id, ttl_s: 1 });
        let last = end_ms / 10 + 10;
        let commands = [
            (1, grant(7)),
            (2, put("a", "1", 7)),
            (4, put("b", "2", 7)),
            (end_ms / 10, revoke(7)),
            (last, grant(8)),
            (last + 1, put("c", "3", 8)),
            (last + 2, revoke(8)),
        ];
        for (at, asked) in commands {
            let (response, events) = model.apply(&asked).expect("allowed");
            let ms = 10 * at + 2;
            witness.published(Moment { order: ms, ms }, &events).expect("the first word");
            if asked != revoke(7) {
                records.push(command(at, asked, Outcome::Applied(response)));
            }
        }
        records.push(record(3, Operation::KeepAlive { lease: 7 }, Outcome::Renewed));
        let late = Operation::KeepAlive { lease: 7 };
        records.push(record(end_ms / 10 + 1, late, Outcome::NotRenewed));
        (records, witness)
    }

    pub(super) fn judge(records: &[Record], witness: &Witness) -> Result<(), String> {
        let explained = crate::check::linearizability::check(records, witness)?;
        check(records, witness, &explained, &|from, to| to - from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{command, delete, put, record};
    use quorate_state::command::{LeaseGrant, LeaseRevoke};
    use quorate_state::error::ApplyError;

    #[test]
    fn a_sound_life_is_accepted() {
        let (records, witness) = sample::life(2_000);
        assert_eq!(sample::judge(&records, &witness), Ok(()));
    }

    fn tampered(end_ms: u64, tamper: impl FnOnce(&mut Vec<Record>, &mut Witness)) -> String {
        let (mut records, mut witness) = sample::life(end_ms);
        tamper(&mut records, &mut witness);
        sample::judge(&records, &witness).expect_err("it was tampered with")
    }

    #[test]
    fn an_early_end_is_found() {
        // Renewed at 30 ms, gone at 500 ms.
        assert!(tampered(500, |_, _| ()).contains("ended early"));
        let missing = |records: &mut Vec<Record>, _: &mut Witness| {
            records.push(record(50, Operation::KeepAlive { lease: 7 }, Outcome::NotRenewed));
        };
        assert!(tampered(2_000, missing).contains("was gone early"));
        let refused = |records: &mut Vec<Record>, _: &mut Witness| {
            records.push(command(50, put("z", "9", 7), Outcome::Denied(ApplyError::LeaseNotFound)));
        };
        assert!(tampered(2_000, refused).contains("was gone early"));
    }

    #[test]
    fn a_renewal_behind_the_end_is_found() {
        let behind = |lease, at| {
            move |records: &mut Vec<Record>, _: &mut Witness| {
                records.push(record(at, Operation::KeepAlive { lease }, Outcome::Renewed));
            }
        };
        assert!(tampered(2_000, behind(7, 201)).contains("renewed though it had ended"));
        assert!(tampered(2_000, behind(8, 999)).contains("renewed though it had been revoked"));
    }

    #[test]
    fn a_lease_whose_keys_a_client_deleted_lives_on() {
        let (mut records, mut witness) = sample::life(2_000);
        records.retain(|record| record.outcome != Outcome::NotRenewed);
        // Nobody heard what became of both: the revocation was lost, the deletion was not.
        let revoke = CommandKind::LeaseRevoke(LeaseRevoke { id: 7, expired_in_epoch: 0 });
        records.push(command(40, revoke, Outcome::Unknown));
        records.push(command(199, delete("a", "c"), Outcome::Unknown));
        records.push(record(201, Operation::KeepAlive { lease: 7 }, Outcome::Renewed));
        records.push(command(300, put("z", "9", 7), Outcome::Unknown));
        let mut event = witness.events(2)[0].clone();
        (event.kv.key, event.kv.value) = ("z".into(), "9".into());
        (event.kv.create_revision, event.kv.mod_revision) = (7, 7);
        let seen = Moment { order: 3_002, ms: 3_002 };
        witness.published(seen, &[event]).expect("the first word");
        assert_eq!(sample::judge(&records, &witness), Ok(()));
        // Without the deletion it was the lease's end.
        records.retain(|record| record.operation != Operation::Command(delete("a", "c")));
        assert!(sample::judge(&records, &witness).is_err());
    }

    #[test]
    fn keys_that_outlive_their_lease_are_found() {
        // One of two keys stays when lease 7 ends.
        let torn = |_: &mut Vec<Record>, witness: &mut Witness| drop(witness.events_mut(4).pop());
        let why = tampered(2_000, torn);
        assert!(why.contains("not with all its keys"), "{why}");
    }

    #[test]
    fn keys_on_a_lease_that_is_not_there_are_found() {
        let ungranted = |records: &mut Vec<Record>, _: &mut Witness| {
            records.retain(|record| {
                !matches!(
                    record.operation,
                    Operation::Command(CommandKind::LeaseGrant(LeaseGrant { id: 7, .. }))
                )
            });
        };
        assert!(tampered(2_000, ungranted).contains("nobody granted"));
        let again = |records: &mut Vec<Record>, _: &mut Witness| {
            let grant = CommandKind::LeaseGrant(LeaseGrant { id: 7, ttl_s: 1 });
            records.push(command(90, grant, Outcome::Denied(ApplyError::LeaseExists)));
        };
        assert!(tampered(2_000, again).contains("granted twice"));
        // The put on lease 8 took place behind the revocation's revision.
        let late = |records: &mut Vec<Record>, witness: &mut Witness| {
            let revoked = records.iter_mut().find(|record| {
                matches!(
                    record.operation,
                    Operation::Command(CommandKind::LeaseRevoke(LeaseRevoke { id: 8, .. }))
                )
            });
            let revoked = revoked.expect("in the sample");
            let Outcome::Applied(response) = &mut revoked.outcome else { panic!("it was applied") };
            response.revision = 4;
            witness.forget(6);
            assert_eq!(witness.events(5)[0].kind, EventKind::Put);
            revoked.asked = Moment { order: 2_095, ms: 2_095 };
            revoked.answered = Moment { order: 2_096, ms: 2_096 };
        };
        assert!(tampered(2_000, late).contains("behind the lease's end"));
    }
}
