//! Removing what no read may ask for any more, and a hash that does not depend on how far that went.

use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::Bytes;

use quorate_storage::backend::Table;

use super::changes::{self, Change, Touch};
use super::layout;
use super::versions::{Version, versions};
use crate::error::MachineError;
use crate::mutants::mutant;
use crate::store::{Overlay, Store};

/// Removes the changes before the compacted revision, and the versions that they made superfluous; stops behind the row with which it
/// has removed `changes_max` changes. Whether there may be more. The compacted revision's own changes stay: a watch may begin there,
/// as in etcd.
pub(crate) fn compact(store: &mut Overlay, compacted: i64, changes_max: usize) -> Result<bool, MachineError> {
    let last = compacted - i64::from(!mutant!(CompactionDropsDelete));
    let forgotten = |change: &Change| {
        change.revision < compacted || change.revision == last && change.touch == Touch::Deleted
    };
    let (mut rows, mut size) = (Vec::new(), 0);
    for row in changes::rows(store, 0) {
        let (row, changes) = row?;
        if size >= changes_max || changes.first().is_none_or(|first| first.revision > last) {
            break;
        }
        size += changes.len();
        rows.push((row, changes));
    }
    // One look takes all of a key's versions: a key that changes often is not looked at for each of its changes.
    let mut done = BTreeSet::new();
    for (row, mut changes) in rows {
        for change in changes.extract_if(.., |change| forgotten(change)) {
            if !done.insert(change.key.clone()) {
                continue;
            }
            for revision in superfluous(store, &change.key, compacted)? {
                store.delete(Table::History, layout::history_key(&change.key, revision));
            }
        }
        if changes.is_empty() {
            store.delete(Table::Changes, row);
        } else {
            store.put(Table::Changes, row, changes::encode(&changes));
        }
    }
    Ok(size >= changes_max)
}

/// The revisions of a key's versions in `History` that no read at or behind `compacted` sees.
fn superfluous(store: &Overlay, key: &Bytes, compacted: i64) -> Result<Vec<i64>, MachineError> {
    let range = (Bound::Included(key.clone()), Bound::Included(key.clone()));
    let found = versions(store, range).next().transpose()?.map(|(_, found)| found).unwrap_or_default();
    let last = compacted + i64::from(mutant!(CompactionOffByOne));
    let old: Vec<Version> = found.into_iter().filter(|(revision, _)| *revision <= last).collect();
    // The newest of the old ones is what a read at `compacted` sees, unless it is a deletion.
    let seen =
        usize::from(old.first().is_some_and(|(_, kv)| kv.is_some()) && !mutant!(CompactionDropsLiveVersion));
    Ok(old.into_iter().skip(seen).map(|(revision, _)| revision).collect())
}

/// A hash over every version that reads between `compacted` and `revision` can see.
pub(crate) fn hash(store: &impl Store, compacted: i64, revision: i64) -> Result<u32, MachineError> {
    let mut hash = 0;
    for versions in versions(store, (Bound::Unbounded, Bound::Unbounded)) {
        let (key, found) = versions?;
        let mut seen_old = false;
        for (at, kv) in found.into_iter().filter(|(at, _)| *at <= revision) {
            let old = at <= compacted;
            if old && (seen_old || kv.is_none()) {
                break;
            }
            seen_old = old;
            hash = crc32c::crc32c_append(hash, &layout::history_key(&key, at));
            let value = kv.as_ref().map(layout::version_value).unwrap_or_default();
            hash = crc32c::crc32c_append(hash, &value);
        }
    }
    Ok(hash)
}
