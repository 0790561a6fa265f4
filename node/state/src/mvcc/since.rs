//! A range as it was at a revision of the recent past: the newest one, corrected by the changes since. A list in pages, all of
//! the revision of its first page, is read so.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;

use super::changes::{self, Change, Touch};
use super::range::count;
use super::versions::{self, newest};
use crate::error::MachineError;
use crate::event::KeyValue;
use crate::store::Store;

/// With more revisions since, the versions of all keys are walked instead: reading changes then takes milliseconds, too.
const REVISIONS_MAX: i64 = if cfg!(test) { 8 } else { 10_000 };
/// As long as there are no more revisions than this for each key of the range; walking few keys is cheaper than reading many changes.
const REVISIONS_PER_KEY_MAX: u64 = 8;

/// Whether a key was there.
#[derive(Clone, Copy, Debug)]
struct There {
    then: bool,
    now: bool,
}

/// What happened to keys within bounds behind a revision.
#[derive(Debug)]
pub(crate) struct Since {
    revision: i64,
    /// How many keys there are now.
    keys_now: u64,
    touched: BTreeMap<Bytes, There>,
}

impl Since {
    /// Reads the changes; `None` if a walk is the better way.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn of(
        store: &impl Store,
        bounds: &(Bound<Bytes>, Bound<Bytes>),
        revision: i64,
        newest: i64,
    ) -> Result<Option<Self>, MachineError> {
        let revisions = newest - revision;
        if revisions > REVISIONS_MAX {
            return Ok(None);
        }
        let keys_now = count(store, bounds)?;
        if revisions.unsigned_abs() > keys_now.saturating_mul(REVISIONS_PER_KEY_MAX) {
            return Ok(None);
        }
        let mut touched: BTreeMap<Bytes, There> = BTreeMap::new();
        for change in changes::between(store, revision + 1, newest) {
            let Change { revision: _, touch, key } = change?;
            if bounds.contains(&key) {
                let first = There { then: touch != Touch::Created, now: true };
                touched.entry(key).or_insert(first).now = touch != Touch::Deleted;
            }
        }
        Ok(Some(Self { revision, keys_now, touched }))
    }

    /// How many keys there were.
    pub(crate) fn count(&self) -> u64 {
        let growth: i64 =
            self.touched.values().map(|there| i64::from(there.now) - i64::from(there.then)).sum();
        self.keys_now.saturating_add_signed(-growth)
    }

    /// The keys within the same bounds as they were, in order.
    pub(crate) fn pairs<'a>(
        &'a self,
        store: &'a impl Store,
        bounds: (Bound<Bytes>, Bound<Bytes>),
    ) -> impl Iterator<Item = Result<KeyValue, MachineError>> + 'a {
        let untouched =
            |kv: &Result<KeyValue, _>| kv.as_ref().map_or(true, |kv| !self.touched.contains_key(&kv.key));
        let mut newest = newest(store, bounds).filter(untouched).peekable();
        let mut touched = self.touched.iter().filter(|(_, there)| there.then).map(|(key, _)| key).peekable();
        std::iter::from_fn(move || {
            let touched_first = match (newest.peek(), touched.peek()) {
                (Some(Err(_)), _) | (_, None) => false,
                (None, Some(_)) => true,
                (Some(Ok(kv)), Some(key)) => **key < kv.key,
            };
            if !touched_first {
                return newest.next();
            }
            let found = versions::at(store, touched.next()?, self.revision);
            Some(found.and_then(|kv| kv.ok_or(MachineError::Malformed("change"))))
        })
    }
}
