//! A group's state at an index, on its way to a member that lacks the log before it.

use std::ops::Bound;

use bytes::Bytes;

use quorate_consensus::id::{Epoch, Index};
use quorate_storage::backend::{BackendError, Batch, Change, Table, View};

/// A state and its place in the log.
#[derive(Debug)]
pub struct Snapshot {
    /// The last index inside.
    pub index: Index,
    /// Its epoch.
    pub epoch: Epoch,
    tables: &'static [Table],
    view: Box<dyn View>,
    next: Option<(usize, Bound<Bytes>)>,
}

/// Payload of one chunk, at most; a single larger pair still travels.
const CHUNK_BYTES_MAX: usize = 1 << 20;

impl Snapshot {
    /// The `tables` of a view, which holds everything up to `index` of `epoch`.
    #[must_use]
    pub fn new(index: Index, epoch: Epoch, tables: &'static [Table], view: Box<dyn View>) -> Self {
        Self { index, epoch, tables, view, next: Some((0, Bound::Unbounded)) }
    }

    /// The next part; `None` behind the last one.
    ///
    /// # Errors
    /// The engine's.
    pub fn next_chunk(&mut self) -> Result<Option<Batch>, BackendError> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while let Some((place, from)) = self.next.take() {
            let Some(&table) = self.tables.get(place) else { break };
            self.next = Some((place + 1, Bound::Unbounded));
            for pair in self.view.scan(table, from, Bound::Unbounded) {
                let (key, value) = pair?;
                bytes += key.len() + value.len();
                batch.changes.push(Change::Put(table, key.clone(), value));
                if bytes >= CHUNK_BYTES_MAX {
                    self.next = Some((place, Bound::Excluded(key)));
                    return Ok(Some(batch));
                }
            }
        }
        Ok((!batch.changes.is_empty()).then_some(batch))
    }
}
