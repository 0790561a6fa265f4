//! What a replayed seed tells.

use bytes::Bytes;
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::{paxos, raft, zab};
use quorate_replica::envelope::Envelope;

/// How much a run tells while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Story {
    /// Nothing.
    Silent,
    /// Starts, crashes, leaders, faults.
    Short,
    /// Every message that arrives, too.
    Messages,
}

/// A peer message in words.
pub(crate) fn message(protocol: ProtocolKind, payload: &Bytes) -> String {
    match Envelope::decode(payload.clone()) {
        Ok(Envelope::Protocol(inner)) => match protocol {
            ProtocolKind::Raft => format!("{:?}", raft::Message::decode(inner)),
            ProtocolKind::MultiPaxos => format!("{:?}", paxos::Message::decode(inner)),
            ProtocolKind::Zab => format!("{:?}", zab::Message::decode(inner)),
        },
        other => format!("{other:?}"),
    }
}
