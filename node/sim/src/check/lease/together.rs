//! All keys of a lease vanish in one revision, and no key hangs on it later.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use quorate_state::command::CommandKind;
use quorate_state::event::EventKind;

use crate::check::linearizability::Explained;
use crate::check::model::Model;
use crate::check::witness::Witness;
use crate::history::{Operation, Record};

pub(super) fn check(records: &[Record], witness: &Witness, explained: &Explained) -> Result<(), String> {
    let mut ends: BTreeMap<i64, i64> = explained.lease_ends.clone();
    for (&revision, &at) in &explained.writers {
        if let Operation::Command(CommandKind::LeaseRevoke(revoke)) = &records[at].operation {
            ends.insert(revision, revoke.id);
        }
    }
    ends.retain(|revision, _| !explained.doubtful_ends.contains(revision));
    let mut model = Model::without_leases();
    let mut ended: BTreeSet<i64> = BTreeSet::new();
    for (revision, events) in witness.iter() {
        if let Some(&lease) = ends.get(&revision) {
            let mut gone: Vec<Bytes> = events.iter().map(|event| event.kv.key.clone()).collect();
            gone.sort_unstable();
            let attached = model.attached(lease);
            if gone != attached {
                return Err(format!(
                    "lease {lease} ended in revision {revision} not with all its keys: {gone:?} of {attached:?}"
                ));
            }
            ended.insert(lease);
        }
        let late =
            events.iter().find(|event| event.kind == EventKind::Put && ended.contains(&event.kv.lease));
        if let Some(event) = late {
            return Err(format!("revision {revision} lies behind the lease's end: {event:?}"));
        }
        model.follow(events);
    }
    Ok(())
}
