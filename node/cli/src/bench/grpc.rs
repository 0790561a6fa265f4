//! gRPC's own layer: frames, status codes, and why a call failed.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;

/// One byte "not compressed", four bytes of length.
pub(super) const FRAME_HEAD_BYTES: usize = 5;
/// An error text is shown up to here.
const TEXT_BYTES_MAX: usize = 200;

/// The RPCs that are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Range,
    Put,
    Txn,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    Authenticate,
}

impl Method {
    /// In the order of their declaration.
    pub(super) const ALL: [Self; 8] = [
        Self::Range,
        Self::Put,
        Self::Txn,
        Self::Watch,
        Self::LeaseGrant,
        Self::LeaseRevoke,
        Self::LeaseKeepAlive,
        Self::Authenticate,
    ];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::Watch => "/etcdserverpb.Watch/Watch",
            Self::LeaseGrant => "/etcdserverpb.Lease/LeaseGrant",
            Self::LeaseRevoke => "/etcdserverpb.Lease/LeaseRevoke",
            Self::LeaseKeepAlive => "/etcdserverpb.Lease/LeaseKeepAlive",
            Self::Authenticate => "/etcdserverpb.Auth/Authenticate",
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The server refused.
    #[error("{}: {text}", code_name(*code))]
    Status { code: u32, text: String },
    /// Nothing came in time.
    #[error("no answer within {0} ms")]
    Timeout(u128),
    /// The connection is gone; whether the operation happened is unknown.
    #[error("connection lost: {0}")]
    Lost(String),
    /// What came is no answer of an etcd server.
    #[error("not an etcd server: {0}")]
    Foreign(String),
}

/// A message as one gRPC frame.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let size_bytes = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + size_bytes);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(size_bytes).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

/// Takes the first whole message out of what has come; nothing while it is not whole.
///
/// # Errors
/// It is compressed, which was not asked for.
pub(super) fn take_message(received: &mut BytesMut) -> Result<Option<Bytes>, CallError> {
    let Some(head) = received.first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
    let [compressed, length @ ..] = *head;
    if compressed != 0 {
        return Err(CallError::Foreign("a compressed answer".into()));
    }
    let end = FRAME_HEAD_BYTES + u32::from_be_bytes(length) as usize;
    if received.len() < end {
        return Ok(None);
    }
    let mut whole = received.split_to(end);
    Ok(Some(whole.split_off(FRAME_HEAD_BYTES).freeze()))
}

/// Decodes an answer.
///
/// # Errors
/// It is something else.
pub(super) fn decode<M: Message + Default>(message: Bytes) -> Result<M, CallError> {
    M::decode(message).map_err(|error| CallError::Foreign(error.to_string()))
}

/// The name that gRPC's documentation gives a code.
fn code_name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("CODE ABOVE 16")
}

/// gRPC's code for an RPC that the server does not have.
pub(super) const UNIMPLEMENTED: u32 = 12;

/// The text of a status: percent-encoded UTF-8 (gRPC over HTTP/2, "Responses").
pub(super) fn text(encoded: &[u8]) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::new();
    let mut at = 0;
    while let Some(byte) = encoded.get(at) {
        let escaped = match (byte, digit(encoded.get(at + 1)), digit(encoded.get(at + 2))) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    bytes.truncate(TEXT_BYTES_MAX);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::etcdserverpb::PutRequest;

    #[test]
    fn messages_are_taken_when_they_are_whole() {
        let put = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let sent = [frame(&put), frame(&put)].concat();
        let mut received = BytesMut::new();
        let mut taken = Vec::new();
        for byte in sent {
            received.put_u8(byte);
            taken.extend(take_message(&mut received).unwrap());
        }
        assert!(received.is_empty());
        let decoded: Vec<PutRequest> = taken.into_iter().map(|message| decode(message).unwrap()).collect();
        assert_eq!(decoded, [put.clone(), put]);
    }

    #[test]
    fn a_compressed_answer_is_refused() {
        let mut received = BytesMut::from(&[1, 0, 0, 0, 0][..]);
        assert!(matches!(take_message(&mut received), Err(CallError::Foreign(_))));
    }

    #[test]
    fn errors_name_code_and_text() {
        let error = CallError::Status { code: 14, text: text(b"etcdserver%3A no leader 100%") };
        assert_eq!(error.to_string(), "UNAVAILABLE: etcdserver: no leader 100%");
    }
}
