//! The bytes of keys and values in the tables `Newest`, `History` and `Changes`.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::error::MachineError;
use crate::event::{Event, EventKind, KeyValue};

#[derive(Clone, PartialEq, Message)]
struct Version {
    #[prost(int64, tag = "1")]
    create_revision: i64,
    #[prost(int64, tag = "2")]
    mod_revision: i64,
    #[prost(int64, tag = "3")]
    version: i64,
    #[prost(int64, tag = "4")]
    lease: i64,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

/// The value of `Newest`, and of a live version in `History`.
pub(crate) fn version_value(kv: &KeyValue) -> Bytes {
    let KeyValue { key: _, create_revision, mod_revision, version, value, lease } = kv.clone();
    Version { create_revision, mod_revision, version, lease, value }.encode_to_vec().into()
}

/// The version in a value of `Newest` or `History`; `None` for the mark of a deletion.
pub(crate) fn version(key: Bytes, value: Bytes) -> Result<Option<KeyValue>, MachineError> {
    if value.is_empty() {
        return Ok(None);
    }
    let Version { create_revision, mod_revision, version, lease, value } =
        Version::decode(value).map_err(|_| MachineError::Malformed("version"))?;
    Ok(Some(KeyValue { key, create_revision, mod_revision, version, value, lease }))
}

const ESCAPE: u8 = 0;
const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 1;

/// A key such that those of one user key stand together, in the order of user keys: each zero byte becomes `00 ff`.
pub(crate) fn escaped(key: &[u8]) -> BytesMut {
    let mut escaped = BytesMut::with_capacity(key.len() + 10);
    for &byte in key {
        escaped.put_u8(byte);
        if byte == ESCAPE {
            escaped.put_u8(ESCAPED_ZERO);
        }
    }
    escaped
}

/// The first key of `History` at or behind a user key.
pub(crate) fn history_from(key: &[u8]) -> Bytes {
    escaped(key).freeze()
}

/// The key in `History`: newer revisions stand first.
pub(crate) fn history_key(key: &[u8], revision: i64) -> Bytes {
    let mut bytes = escaped(key);
    bytes.put_u8(ESCAPE);
    bytes.put_u8(END);
    bytes.put_u64(!revision.cast_unsigned());
    bytes.freeze()
}

/// The user key and revision of a key in `History`.
pub(crate) fn split_history_key(bytes: &[u8]) -> Result<(Bytes, i64), MachineError> {
    let malformed = || MachineError::Malformed("history key");
    let (escaped, revision) = bytes.split_last_chunk::<8>().ok_or_else(malformed)?;
    let escaped = escaped.strip_suffix(&[ESCAPE, END]).ok_or_else(malformed)?;
    let mut key = BytesMut::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.put_u8(byte);
        if byte == ESCAPE && bytes.next() != Some(&ESCAPED_ZERO) {
            return Err(malformed());
        }
    }
    Ok((key.freeze(), (!u64::from_be_bytes(*revision)).cast_signed()))
}

/// The key in `Changes`: revisions in order, within one in the order of operations.
pub(crate) fn change_key(revision: i64, sub: u32) -> Bytes {
    let mut bytes = BytesMut::with_capacity(12);
    bytes.put_i64(revision);
    bytes.put_u32(sub);
    bytes.freeze()
}

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

/// The value in `Changes`.
pub(crate) fn change_value(touch: Touch, key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + key.len());
    bytes.put_u8(touch as u8);
    bytes.put_slice(key);
    bytes.freeze()
}

/// Revision, kind and user key of a row in `Changes`.
pub(crate) fn change(key: &[u8], value: &Bytes) -> Result<(i64, Touch, Bytes), MachineError> {
    let malformed = || MachineError::Malformed("change");
    let revision = i64::from_be_bytes(*key.first_chunk::<8>().ok_or_else(malformed)?);
    let touch = match value.first() {
        Some(0) => Touch::Changed,
        Some(1) => Touch::Deleted,
        Some(2) => Touch::Created,
        Some(_) | None => return Err(malformed()),
    };
    Ok((revision, touch, value.slice(1..)))
}
