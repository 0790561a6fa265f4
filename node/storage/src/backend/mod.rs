//! The ordered key-value engine below the state machine: tables, atomic batches, consistent views.
//!
//! The backend is a checkpoint of a prefix of the log. A batch is visible at once; after a crash the engine shows the
//! state after some batch at or behind the last [`Backend::persist`], never a part of one. What is missing is applied again
//! from the log, so a batch costs no sync.

#[cfg(test)]
mod contract;
mod generation;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
pub mod tree;

use std::fmt::Debug;
use std::ops::Bound;

use bytes::Bytes;

/// A failed operation of the engine. It ends the member.
#[derive(Debug, thiserror::Error)]
#[error("the backend could not {operation}")]
pub struct BackendError {
    /// What was tried.
    pub operation: &'static str,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A table of one group. The discriminants are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Applied index, revisions, membership, alarms: small fixed keys.
    Meta = 0,
    /// The newest version of each key: one look-up for a point read, one scan for a range.
    Newest = 1,
    /// Versions that are no longer newest, and deletions, by key and revision descending.
    History = 2,
    /// Which key each revision touched, for watch catch-up and compaction.
    Changes = 3,
    /// Leases.
    Leases = 4,
    /// Which keys hang on which lease.
    LeaseKeys = 5,
    /// Users and roles.
    Auth = 6,
}

impl Table {
    /// All tables, in the order of their discriminants.
    pub const ALL: [Self; 7] =
        [Self::Meta, Self::Newest, Self::History, Self::Changes, Self::Leases, Self::LeaseKeys, Self::Auth];
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Insert or overwrite.
    Put(Table, Bytes, Bytes),
    /// Remove; nothing happens if missing.
    Delete(Table, Bytes),
}

/// Changes that become visible and survive together. Later changes of the same key win.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In order.
    pub changes: Vec<Change>,
}

/// A pair as a scan gives it.
pub type Pair = (Bytes, Bytes);

/// One group's tables on some engine.
pub trait Backend: Debug + Send + Sync + 'static {
    /// A consistent view of everything committed so far. Cheap; may live long.
    fn view(&self) -> Box<dyn View>;
    /// Applies a batch.
    ///
    /// # Errors
    /// The engine's; the member ends.
    fn commit(&self, batch: Batch) -> Result<(), BackendError>;
    /// Makes every committed batch durable. Called in the background, before the log drops a prefix.
    ///
    /// # Errors
    /// The engine's; the member ends.
    fn persist(&self) -> Result<(), BackendError>;
    /// The batch takes the place of everything, durably and at once: the state of a received snapshot. A crash leaves the old
    /// state or the new one.
    ///
    /// # Errors
    /// The engine's; the member ends.
    fn replace(&self, batch: Batch) -> Result<(), BackendError>;
    /// Whether the engine keeps up with what is committed. [`Self::commit`] works without, too, at the cost of memory.
    fn has_room(&self) -> bool {
        true
    }
    /// Bytes on disk, and bytes of live data (an estimate).
    fn size_bytes(&self) -> (u64, u64);
}

/// A consistent, unchanging view of one group's tables.
pub trait View: Debug + Send + Sync {
    /// A value.
    ///
    /// # Errors
    /// The engine's.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, BackendError>;
    /// Pairs within bounds, ascending. Lazy: a scan that is dropped early costs only what it read.
    fn scan<'a>(
        &'a self,
        table: Table,
        from: Bound<Bytes>,
        to: Bound<Bytes>,
    ) -> Box<dyn Iterator<Item = Result<Pair, BackendError>> + 'a>;
    /// Another handle of the same view.
    fn duplicate(&self) -> Box<dyn View>;
}

/// Whether no key lies within the bounds.
fn is_empty(from: &Bound<Bytes>, to: &Bound<Bytes>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    }
}
