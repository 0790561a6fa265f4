//! Keys with their versions, and how they changed.

use bytes::Bytes;

/// A key at some revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The revision that made it.
    pub create_revision: i64,
    /// The revision that last changed it.
    pub mod_revision: i64,
    /// How often it was put since it was made.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease it hangs on; 0 for none.
    pub lease: i64,
}

/// What happened to a key in a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether it was put or deleted.
    pub kind: EventKind,
    /// The key afterwards; of a deletion only `key` and `mod_revision` are set.
    pub kv: KeyValue,
    /// The key before, if it was there.
    pub prev_kv: Option<KeyValue>,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Made or overwritten.
    Put,
    /// Deleted.
    Delete,
}
