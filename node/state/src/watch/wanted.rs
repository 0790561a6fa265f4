//! What one watch is to hear, and how.

use bytes::Bytes;

use crate::event::{Event, EventKind};

/// A watch as its client asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The first key.
    pub key: Bytes,
    /// Where the keys end: empty for `key` alone, one zero byte for all keys behind it, else the first key that is not wanted.
    pub range_end: Bytes,
    /// No puts.
    pub no_put: bool,
    /// No deletions.
    pub no_delete: bool,
    /// Events tell what was there before.
    pub prev_kv: bool,
    /// Answers that are too long for a message come in parts.
    pub fragment: bool,
    /// From time to time it wants to know how far it has heard everything.
    pub progress: bool,
}

impl Wanted {
    /// Whether there are no keys between its ends.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !matches!(self.range_end.as_ref(), b"" | b"\0") && self.key >= self.range_end
    }

    /// Whether an event is for this watch.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        let key = &event.kv.key;
        let inside = match self.range_end.as_ref() {
            b"" => *key == self.key,
            b"\0" => *key >= self.key,
            end => *key >= self.key && key.as_ref() < end,
        };
        let filtered = match event.kind {
            EventKind::Put => self.no_put,
            EventKind::Delete => self.no_delete,
        };
        inside && !filtered
    }
}
