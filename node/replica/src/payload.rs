//! The payload of a command's entry: who asked, then the command.

use bytes::{BufMut, Bytes, BytesMut};

use quorate_consensus::id::MemberId;

use crate::event::RequestId;

/// Who asked for a command, so that it is answered where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The member that the client spoke to.
    pub(crate) member: MemberId,
    /// Its name for the request.
    pub(crate) request: RequestId,
}

/// Bytes before the command: member and request, little endian.
const HEADER_BYTES: usize = 16;

/// An entry's payload.
pub(crate) fn join(origin: Origin, command: &[u8]) -> Bytes {
    let mut payload = BytesMut::with_capacity(HEADER_BYTES + command.len());
    payload.put_u64_le(origin.member.0);
    payload.put_u64_le(origin.request.0);
    payload.put_slice(command);
    payload.freeze()
}

/// Origin and command of a payload; `None` if it is too short to be one.
pub(crate) fn split(payload: &Bytes) -> Option<(Origin, Bytes)> {
    let (member, rest) = payload.split_first_chunk::<8>()?;
    let (request, _) = rest.split_first_chunk::<8>()?;
    let origin = Origin {
        member: MemberId(u64::from_le_bytes(*member)),
        request: RequestId(u64::from_le_bytes(*request)),
    };
    Some((origin, payload.slice(HEADER_BYTES..)))
}
