//! All versions of the keys in a range, newest first by key: for reads of the past, watches, compaction and hashes.

use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;

use quorate_storage::backend::Table;

use super::layout;
use crate::error::MachineError;
use crate::event::KeyValue;
use crate::store::{Pairs, Store};

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

/// A scan's versions, each with its key.
type Rows<'a> = Box<dyn Iterator<Item = Result<(Bytes, Version), MachineError>> + 'a>;

/// Every key within bounds, in order, with its versions.
pub(crate) struct Versions<'a> {
    newest: Peekable<Rows<'a>>,
    history: Peekable<Rows<'a>>,
}

/// The versions of every key within bounds, read as they are asked for.
pub(crate) fn versions<'a>(store: &'a impl Store, (from, to): (Bound<Bytes>, Bound<Bytes>)) -> Versions<'a> {
    let history_from = match &from {
        Bound::Included(key) | Bound::Excluded(key) => Bound::Included(layout::history_from(key)),
        Bound::Unbounded => Bound::Unbounded,
    };
    let history_to = match &to {
        Bound::Included(key) => Bound::Included(layout::history_key(key, 0)),
        Bound::Excluded(key) => Bound::Excluded(layout::history_from(key)),
        Bound::Unbounded => Bound::Unbounded,
    };
    let newest: Rows = Box::new(newest(store, (from, to)).map(|kv| {
        let kv = kv?;
        Ok((kv.key.clone(), (kv.mod_revision, Some(kv))))
    }));
    let history: Rows = Box::new(store.scan(Table::History, history_from, history_to).map(|pair| {
        let (history_key, value) = pair?;
        let (key, revision) = layout::split_history_key(&history_key)?;
        Ok((key.clone(), (revision, layout::version(key, value)?)))
    }));
    Versions { newest: newest.peekable(), history: history.peekable() }
}

impl Iterator for Versions<'_> {
    type Item = Result<(Bytes, Vec<Version>), MachineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = |rows: &mut Peekable<Rows>| match rows.peek() {
            Some(Err(_)) => rows.next().and_then(Result::err).map(Err),
            Some(Ok((key, _))) => Some(Ok(key.clone())),
            None => None,
        };
        let key = match (first(&mut self.newest), first(&mut self.history)) {
            (Some(Err(error)), _) | (_, Some(Err(error))) => return Some(Err(error)),
            (Some(Ok(one)), Some(Ok(other))) => one.min(other),
            (Some(Ok(one)), None) | (None, Some(Ok(one))) => one,
            (None, None) => return None,
        };
        let mut found = Vec::new();
        for rows in [&mut self.newest, &mut self.history] {
            let same = |row: &Result<(Bytes, Version), _>| matches!(row, Ok((found, _)) if *found == key);
            while let Some(Ok((_, version))) = rows.next_if(same) {
                found.push(version);
            }
        }
        Some(Ok((key, found)))
    }
}

/// The keys within bounds as they are now. A single key is looked up: a scan would pass all its versions that the engine still
/// has.
pub(crate) fn newest<'a>(
    store: &'a impl Store,
    bounds: (Bound<Bytes>, Bound<Bytes>),
) -> impl Iterator<Item = Result<KeyValue, MachineError>> + 'a {
    let pairs: Pairs<'a> = match bounds {
        (Bound::Included(from), Bound::Included(to)) if from == to => {
            let found = store.get(Table::Newest, &from).transpose();
            Box::new(found.map(|value| Ok((from, value?))).into_iter())
        }
        (from, to) => store.scan(Table::Newest, from, to),
    };
    pairs.map(|pair| {
        let (key, value) = pair?;
        layout::version(key, value)?.ok_or(MachineError::Malformed("newest version"))
    })
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
