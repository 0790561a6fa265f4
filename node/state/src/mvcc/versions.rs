//! All versions of the keys in a range, newest first by key: for reads of the past, watches, compaction and hashes.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use quorate_storage::backend::Table;

use super::layout;
use crate::error::MachineError;
use crate::event::KeyValue;
use crate::store::Store;

/// One version: its revision, and the key at it unless it was deleted there.
pub(crate) type Version = (i64, Option<KeyValue>);

/// Bounds of user keys as a request has them.
pub(crate) fn bounds(key: &Bytes, range_end: &Bytes) -> (Bound<Bytes>, Bound<Bytes>) {
    let to = match &range_end[..] {
        b"" => Bound::Included(key.clone()),
        b"\0" => Bound::Unbounded,
        _ => Bound::Excluded(range_end.clone()),
    };
    (Bound::Included(key.clone()), to)
}

/// The versions of every key within bounds.
pub(crate) fn versions(
    store: &impl Store,
    (from, to): (Bound<Bytes>, Bound<Bytes>),
) -> Result<BTreeMap<Bytes, Vec<Version>>, MachineError> {
    let mut found: BTreeMap<Bytes, Vec<Version>> = BTreeMap::new();
    for pair in store.scan(Table::Newest, from.clone(), to.clone()) {
        let (key, value) = pair?;
        if let Some(kv) = layout::version(key.clone(), value)? {
            found.entry(key).or_default().push((kv.mod_revision, Some(kv)));
        }
    }
    let history_from = match &from {
        Bound::Included(key) | Bound::Excluded(key) => Bound::Included(layout::history_from(key)),
        Bound::Unbounded => Bound::Unbounded,
    };
    let history_to = match &to {
        Bound::Included(key) => Bound::Included(layout::history_key(key, 0)),
        Bound::Excluded(key) => Bound::Excluded(layout::history_from(key)),
        Bound::Unbounded => Bound::Unbounded,
    };
    for pair in store.scan(Table::History, history_from, history_to) {
        let (history_key, value) = pair?;
        let (key, revision) = layout::split_history_key(&history_key)?;
        let version = layout::version(key.clone(), value)?;
        found.entry(key).or_default().push((revision, version));
    }
    Ok(found)
}

/// A key as it was at a revision.
pub(crate) fn at(store: &impl Store, key: &Bytes, revision: i64) -> Result<Option<KeyValue>, MachineError> {
    if let Some(value) = store.get(Table::Newest, key)?
        && let Some(kv) = layout::version(key.clone(), value)?
        && kv.mod_revision <= revision
    {
        return Ok(Some(kv));
    }
    let from = Bound::Included(layout::history_key(key, revision));
    let to = Bound::Included(layout::history_key(key, 0));
    match store.scan(Table::History, from, to).next().transpose()? {
        Some((_, value)) => layout::version(key.clone(), value),
        None => Ok(None),
    }
}
