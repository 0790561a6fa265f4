//! The protocol's view of the log.

use crate::entry::Entry;
use crate::id::{Epoch, Index};

/// How a group's log takes a write at a position that it holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// The entry and everything behind it are replaced: a history with one end (Raft, Zab).
    Tail,
    /// Only that position is replaced, and a write beyond the end leaves holes: slots that are accepted one by one
    /// (Multi-Paxos). What was accepted is never cut off.
    Slots,
}

/// Why a position can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// It lies in a snapshot.
    #[error("the position was compacted into a snapshot")]
    Compacted,
    /// It was never written here: behind the end, or a hole.
    #[error("the position was never written here")]
    Beyond,
    /// It was written and its body is damaged: the answer to "do you have it?" is "unknown", never "no".
    #[error("the position is damaged on this member's disk")]
    Faulty,
}

/// The log as appended so far, durable or not. Synchronous: recent entries come from memory.
pub trait LogRead {
    /// The last position inside the snapshot at the log's start; 0 without one.
    fn snapshot_index(&self) -> Index;
    /// The last position written; the snapshot's if the log is empty behind it.
    fn last_index(&self) -> Index;
    /// The epoch of a position. Knows [`LogRead::snapshot_index`] itself, and 0 (epoch 0).
    ///
    /// # Errors
    /// [`Missing`] as for entries; a faulty body still has its epoch, from the header.
    fn epoch(&self, index: Index) -> Result<Epoch, Missing>;
    /// Entries `from..to`, at least one (if it exists), then as many as fit into `max_bytes` of payload, up to a hole.
    ///
    /// # Errors
    /// The first position's [`Missing`]; later ones shorten the answer.
    fn entries(&self, from: Index, to: Index, max_bytes: usize) -> Result<Vec<Entry>, Missing>;
}
