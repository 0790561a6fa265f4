//! The payload of a command's entry: who asked, the epoch it was proposed in, then the command.

use bytes::{BufMut, Bytes, BytesMut};

use quorate_consensus::id::{Epoch, MemberId};

use quorate_state::machine;

use crate::event::RequestId;

/// Who asked for a command, so that it is answered where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The member that the client spoke to.
    pub(crate) member: MemberId,
    /// Its name for the request.
    pub(crate) request: RequestId,
}

impl Origin {
    /// Of commands that no client asked for, and nobody waits for.
    pub(crate) const NOBODY: Self = Self { member: MemberId(0), request: RequestId(0) };

    /// The origin as the state machine tells repeated requests by.
    pub(crate) fn of_client(self) -> Option<machine::Origin> {
        let Self { member, request } = self;
        (self != Self::NOBODY).then_some(machine::Origin { member: member.0, request: request.0 })
    }
}

/// Bytes before the command: member, request and epoch, little endian.
const HEADER_BYTES: usize = 24;

/// An entry's payload. On its way to a leader it has epoch 0.
pub(crate) fn join(origin: Origin, proposed: Epoch, command: &[u8]) -> Bytes {
    let mut payload = BytesMut::with_capacity(HEADER_BYTES + command.len());
    payload.put_u64_le(origin.member.0);
    payload.put_u64_le(origin.request.0);
    payload.put_u64_le(proposed.0);
    payload.put_slice(command);
    payload.freeze()
}

/// Origin, epoch and command of a payload; `None` if it is too short to be one.
pub(crate) fn split(payload: &Bytes) -> Option<(Origin, Epoch, Bytes)> {
    let (member, rest) = payload.split_first_chunk::<8>()?;
    let (request, rest) = rest.split_first_chunk::<8>()?;
    let (proposed, _) = rest.split_first_chunk::<8>()?;
    let origin = Origin {
        member: MemberId(u64::from_le_bytes(*member)),
        request: RequestId(u64::from_le_bytes(*request)),
    };
    Some((origin, Epoch(u64::from_le_bytes(*proposed)), payload.slice(HEADER_BYTES..)))
}
