//! What keeps a member from starting.

use crate::entry::Entry;
use crate::id::Index;
use crate::log::Missing;
use crate::membership::{Malformed, Membership};

/// The recovered log is not one that a member can go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A position that was written can't be read, or is of a kind that this version does not know.
    #[error("entry {index} of the log can't be read: {missing}")]
    Unreadable {
        /// The position.
        index: Index,
        /// Why.
        missing: Missing,
    },
    /// A membership that can't be decoded.
    #[error("the membership in entry {0} of the log can't be decoded")]
    Membership(Index),
}

impl StartError {
    /// The membership in a recovered entry, if it is one.
    pub(crate) fn membership(entry: &Entry) -> Result<Option<Membership>, Self> {
        Membership::of(entry).map_err(|Malformed| Self::Membership(entry.index))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::Config;
    use crate::conformance::log::MemoryLog;
    use crate::effect::Write;
    use crate::entry::{HardState, Kind, SnapshotMark};
    use crate::id::{Epoch, MemberId, Time, WriteId};
    use crate::kind::ProtocolKind;

    #[test]
    fn a_membership_that_cannot_be_read_ends_the_start_of_every_protocol() {
        for protocol in ProtocolKind::ALL {
            let mut log = MemoryLog::new(protocol.layout());
            let payload = Bytes::from_static(b"no membership");
            let entry = Entry { index: Index(1), epoch: Epoch(1), kind: Kind::Membership, payload };
            log.apply(&Write { id: WriteId(1), keep: None, entries: vec![entry], hard_state: None });
            let (config, hard_state) = (Config::new(MemberId(1), 1), HardState::default());
            let started = protocol.start(config, hard_state, SnapshotMark::default(), &log, Time(0));
            assert_eq!(started.map(drop), Err(StartError::Membership(Index(1))), "{protocol}");
        }
    }
}
