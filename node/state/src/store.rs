//! Reading: a backend's view, or one with changes over it that are not committed yet.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use quorate_storage::backend::{BackendError, Batch, Change, Pair, Table, View};

use crate::mvcc::changes::{self, Row};
use crate::mvcc::counts::Counts;
use crate::recent::Recent;

/// A scan's pairs.
pub(crate) type Pairs<'a> = Box<dyn Iterator<Item = Result<Pair, BackendError>> + 'a>;

/// Something to read from.
pub(crate) trait Store {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, BackendError>;
    fn scan(&self, table: Table, from: Bound<Bytes>, to: Bound<Bytes>) -> Pairs<'_>;
    /// How many keys the table `Newest` has where.
    fn counts(&self) -> &Counts;
}

/// A committed state: the engine's view, and the counts of its keys. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) view: Arc<dyn View>,
    counts: Counts,
}

impl Committed {
    /// With counts that fit the view.
    pub(crate) fn new(view: Arc<dyn View>, counts: Counts) -> Self {
        Self { view, counts }
    }

    /// Counts the view's keys, all of them.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn counted(view: Arc<dyn View>) -> Result<Self, BackendError> {
        let keys = view.scan(Table::Newest, Bound::Unbounded, Bound::Unbounded);
        let counts = Counts::of(keys.map(|pair| Ok(pair?.0)))?;
        Ok(Self { view, counts })
    }
}

impl Store for Committed {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        self.view.get(table, key)
    }

    fn scan(&self, table: Table, from: Bound<Bytes>, to: Bound<Bytes>) -> Pairs<'_> {
        self.view.scan(table, from, to)
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// The changes of one table; `None` hides a pair.
type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// A committed state with changes over it.
#[derive(Debug)]
pub(crate) struct Overlay {
    view: Arc<dyn View>,
    counts: Counts,
    /// Rows of the committed state.
    recent: Recent,
    /// By the table's discriminant.
    changes: [Changes; Table::ALL.len()],
    /// The row of `Changes` that is being filled, behind all others.
    row: Row,
}

impl Overlay {
    pub(crate) fn new(Committed { view, counts }: Committed, recent: Recent) -> Self {
        Self { view, counts, recent, changes: Default::default(), row: Row::default() }
    }

    pub(crate) fn put(&mut self, table: Table, key: Bytes, value: Bytes) {
        self.changes[table as usize].insert(key, Some(value));
    }

    pub(crate) fn delete(&mut self, table: Table, key: Bytes) {
        self.changes[table as usize].insert(key, None);
    }

    /// Notes what a revision did; `sub` counts within the revision.
    pub(crate) fn change(&mut self, sub: u32, change: &changes::Change) {
        if self.row.is_full() {
            self.close_changes();
        }
        self.row.push(sub, change);
    }

    /// The next change gets into a new row.
    pub(crate) fn close_changes(&mut self) {
        if !self.row.is_empty() {
            let (key, value) = self.row.take();
            self.put(Table::Changes, key, value);
        }
    }

    /// Tells of a key that stands in `Newest` since just now.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn created(&mut self, key: &Bytes) -> Result<(), BackendError> {
        if !self.counts.add(key) {
            return Ok(());
        }
        let chunk = self.counts.chunk(key);
        let end = chunk.end.map_or(Bound::Unbounded, Bound::Excluded);
        let pairs = self.scan(Table::Newest, Bound::Included(chunk.first), end);
        let keys = pairs.map(|pair| Ok(pair?.0)).collect::<Result<Vec<Bytes>, BackendError>>()?;
        let (_, behind) = keys.split_at(keys.len() / 2);
        if let Some(middle) = behind.first() {
            self.counts.split(middle, behind.len() as u64);
        }
        Ok(())
    }

    /// Tells of a key that stands there no more.
    pub(crate) fn deleted(&mut self, key: &Bytes) {
        self.counts.remove(key);
    }

    /// What is to be committed, and the counts and rows behind it.
    pub(crate) fn into_batch(mut self) -> (Batch, Counts, Recent) {
        self.close_changes();
        for (key, value) in &self.changes[Table::Newest as usize] {
            self.recent.set(key.clone(), value.clone());
        }
        let mut batch = Batch { changes: Vec::with_capacity(self.changes.iter().map(BTreeMap::len).sum()) };
        for (table, changes) in Table::ALL.into_iter().zip(self.changes) {
            batch.changes.extend(changes.into_iter().map(|(key, value)| match value {
                Some(value) => Change::Put(table, key, value),
                None => Change::Delete(table, key),
            }));
        }
        (batch, self.counts, self.recent)
    }
}

impl Store for Overlay {
    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        if let Some(value) = self.changes[table as usize].get(key) {
            return Ok(value.clone());
        }
        if table == Table::Newest
            && let Some(value) = self.recent.get(key)
        {
            return Ok(Some(value.clone()));
        }
        self.view.get(table, key)
    }

    fn scan(&self, table: Table, from: Bound<Bytes>, to: Bound<Bytes>) -> Pairs<'_> {
        let inside = |key: &Bytes| {
            let behind = match &from {
                Bound::Included(from) => key >= from,
                Bound::Excluded(from) => key > from,
                Bound::Unbounded => true,
            };
            let before = match &to {
                Bound::Included(to) => key <= to,
                Bound::Excluded(to) => key < to,
                Bound::Unbounded => true,
            };
            behind && before
        };
        let start = match &from {
            Bound::Included(from) | Bound::Excluded(from) => from.clone(),
            Bound::Unbounded => Bytes::new(),
        };
        let mut changed: Vec<(Bytes, Option<Bytes>)> = self.changes[table as usize]
            .range(start..)
            .take_while(|(key, _)| inside(key) || !past(key, &to))
            .filter(|(key, _)| inside(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if table == Table::Changes && !self.row.is_empty() {
            let (key, value) = self.row.pair();
            if inside(&key) {
                changed.push((key, Some(value)));
            }
        }
        let stored = self.view.scan(table, from.clone(), to.clone()).peekable();
        Box::new(Merged { stored, changed: changed.into_iter().peekable() })
    }
}

fn past(key: &Bytes, to: &Bound<Bytes>) -> bool {
    match to {
        Bound::Included(to) => key > to,
        Bound::Excluded(to) => key >= to,
        Bound::Unbounded => false,
    }
}

struct Merged<'a> {
    stored: std::iter::Peekable<Pairs<'a>>,
    changed: std::iter::Peekable<std::vec::IntoIter<(Bytes, Option<Bytes>)>>,
}

impl Iterator for Merged<'_> {
    type Item = Result<Pair, BackendError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let take_changed = match (self.stored.peek(), self.changed.peek()) {
                (Some(Err(_)), _) | (_, None) => false,
                (None, Some(_)) => true,
                (Some(Ok((stored, _))), Some((changed, _))) => changed <= stored,
            };
            if !take_changed {
                return self.stored.next();
            }
            let (key, value) = self.changed.next()?;
            if let Some(Ok((stored, _))) = self.stored.peek()
                && *stored == key
            {
                self.stored.next();
            }
            if let Some(value) = value {
                return Some(Ok((key, value)));
            }
        }
    }
}
