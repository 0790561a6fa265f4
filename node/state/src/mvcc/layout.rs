//! The bytes of keys and values in the tables `Newest` and `History`.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::error::MachineError;
use crate::event::KeyValue;

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
    let KeyValue { key: _, create_revision, mod_revision, version, ref value, lease } = *kv;
    let value = value.clone();
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
