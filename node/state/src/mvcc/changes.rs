//! The rows of the table `Changes`: what revisions did to which keys, for watch catch-up, reads of the recent past, compaction.
//!
//! A row holds many changes that were applied together; a row for each of them would cost the engine as much as the version
//! that it tells of. The key of a row is the place of its last change, so the first row at or behind a revision is the one that
//! has the revision's first change, or what follows it. Members may cut rows differently.

use std::ops::Bound;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{decode_varint, encode_varint};

use quorate_storage::backend::{Pair, Table};

use crate::error::MachineError;
use crate::event::{Event, EventKind};
use crate::store::Store;

/// Changes of a row, so that a step of compaction stays small.
pub(crate) const ROW_CHANGES_MAX: usize = if cfg!(test) { 3 } else { 64 };
/// A row that has this many bytes is closed.
const ROW_BYTES_MAX: usize = 4 << 10;

/// What a revision did to a key. The discriminants are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Touch {
    /// A put of a key that was there.
    Changed = 0,
    Deleted = 1,
    /// A put of a key that was not there.
    Created = 2,
}

impl Touch {
    /// What an event did to its key.
    pub(crate) fn of(event: &Event) -> Self {
        match event.kind {
            EventKind::Put if event.kv.version == 1 => Self::Created,
            EventKind::Put => Self::Changed,
            EventKind::Delete => Self::Deleted,
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) touch: Touch,
    pub(crate) key: Bytes,
}

/// A row that is being filled: changes in order, each with how much its revision is above that of the one before.
#[derive(Debug, Default)]
pub(crate) struct Row {
    changes: usize,
    /// Revision of the last change, and its place within the revision.
    last: (i64, u32),
    bytes: BytesMut,
}

impl Row {
    pub(crate) fn push(&mut self, sub: u32, Change { revision, touch, key }: &Change) {
        let before = if self.is_empty() { 0 } else { self.last.0 };
        encode_varint(revision.wrapping_sub(before).cast_unsigned(), &mut self.bytes);
        self.bytes.put_u8(*touch as u8);
        encode_varint(key.len() as u64, &mut self.bytes);
        self.bytes.put_slice(key);
        self.last = (*revision, sub);
        self.changes += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// Whether the next change belongs into another row.
    pub(crate) fn is_full(&self) -> bool {
        self.changes >= ROW_CHANGES_MAX || self.bytes.len() >= ROW_BYTES_MAX
    }

    /// The row as it is stored.
    pub(crate) fn pair(&self) -> Pair {
        (place(self.last.0, self.last.1), Bytes::copy_from_slice(&self.bytes))
    }

    /// Takes the row and begins a new one.
    pub(crate) fn take(&mut self) -> Pair {
        let pair = self.pair();
        self.bytes.clear();
        self.changes = 0;
        pair
    }
}

fn place(revision: i64, sub: u32) -> Bytes {
    let mut bytes = BytesMut::with_capacity(12);
    bytes.put_i64(revision);
    bytes.put_u32(sub);
    bytes.freeze()
}

const MALFORMED: MachineError = MachineError::Malformed("change");

/// The changes of a row's value.
pub(crate) fn decode(mut value: Bytes) -> Result<Vec<Change>, MachineError> {
    let mut changes = Vec::new();
    let mut revision = 0_i64;
    while value.has_remaining() {
        let above = decode_varint(&mut value).map_err(|_| MALFORMED)?;
        revision = revision.wrapping_add(above.cast_signed());
        let touch = match value.try_get_u8() {
            Ok(0) => Touch::Changed,
            Ok(1) => Touch::Deleted,
            Ok(2) => Touch::Created,
            Ok(_) | Err(_) => return Err(MALFORMED),
        };
        let size = decode_varint(&mut value).ok().and_then(|size| usize::try_from(size).ok());
        let size = size.filter(|size| *size <= value.len()).ok_or(MALFORMED)?;
        changes.push(Change { revision, touch, key: value.split_to(size) });
    }
    Ok(changes)
}

/// The value of a row that has these changes left; its key stays.
pub(crate) fn encode(changes: &[Change]) -> Bytes {
    let mut row = Row::default();
    changes.iter().for_each(|change| row.push(0, change));
    row.bytes.freeze()
}

/// Rows that have a change of this revision or of a later one, each with its changes.
pub(crate) fn rows<'a>(
    store: &'a impl Store,
    from: i64,
) -> impl Iterator<Item = Result<(Bytes, Vec<Change>), MachineError>> + 'a {
    let rows = store.scan(Table::Changes, Bound::Included(place(from, 0)), Bound::Unbounded);
    rows.map(|pair| {
        let (row, value) = pair?;
        Ok((row, decode(value)?))
    })
}

/// The changes of the revisions `from..=to`, in order, read as they are asked for.
pub(crate) fn between<'a>(
    store: &'a impl Store,
    from: i64,
    to: i64,
) -> impl Iterator<Item = Result<Change, MachineError>> + 'a {
    let changes = rows(store, from).flat_map(|row| match row {
        Ok((_, changes)) => changes.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    let early = move |change: &Result<Change, _>| change.as_ref().is_ok_and(|it| it.revision < from);
    let late = move |change: &Result<Change, _>| change.as_ref().is_ok_and(|it| it.revision > to);
    changes.skip_while(early).take_while(move |change| !late(change))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64, key: &'static [u8]) -> Change {
        Change { revision, touch: Touch::Changed, key: Bytes::from_static(key) }
    }

    #[test]
    fn a_row_gives_back_its_changes_and_is_named_by_the_last() {
        let changes = [change(7, b"a"), change(7, b""), change(i64::MAX, &[0, 255])];
        let mut row = Row::default();
        for (sub, one) in [0, 1, 0].into_iter().zip(&changes) {
            assert!(!row.is_full());
            row.push(sub, one);
        }
        assert!(row.is_full());
        let (name, value) = row.take();
        assert!(row.is_empty());
        assert_eq!(name, place(i64::MAX, 0));
        assert_eq!(decode(value.clone()).expect("a row"), changes);
        assert_eq!(encode(&changes), value);
        assert!(decode(value.slice(..value.len() - 1)).is_err(), "a row that was cut is refused");
    }
}
