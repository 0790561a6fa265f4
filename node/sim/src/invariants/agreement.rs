//! Agreement: no two members ever commit different values at one index, not even one member before and after a restart
//! (Raft: State Machine Safety; Paxos Made Simple 2.1: only a single value is chosen; Zab: Agreement, Total order). Along what is committed
//! epochs never fall (Zab 2011, section III: local and global primary order; Raft: terms of a log, thesis 3.5); in a log of slots they may.

use std::collections::BTreeMap;

use quorate_consensus::entry::Entry;
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::kind::ProtocolKind;

use super::logs::same;

#[derive(Debug)]
pub(super) struct Agreement {
    protocol: ProtocolKind,
    agreed: BTreeMap<Index, (MemberId, Entry)>,
}

impl Agreement {
    pub(super) fn new(protocol: ProtocolKind) -> Self {
        Self { protocol, agreed: BTreeMap::new() }
    }

    pub(super) fn check(&mut self, id: MemberId, mut entry: Entry) -> Result<(), String> {
        if self.protocol == ProtocolKind::MultiPaxos {
            // A value may have been accepted in several ballots; it is one value.
            entry.epoch = Epoch(0);
        }
        let (before, behind) =
            (self.agreed.get(&entry.index.previous()), self.agreed.get(&entry.index.next()));
        let falls = before.is_some_and(|(_, before)| before.epoch > entry.epoch)
            || behind.is_some_and(|(_, behind)| behind.epoch < entry.epoch);
        if falls {
            return Err(format!("{id} committed {entry:?} between {before:?} and {behind:?}: epochs fall"));
        }
        match self.agreed.get(&entry.index) {
            None => drop(self.agreed.insert(entry.index, (id, entry))),
            Some((_, agreed)) if *agreed == entry => {}
            Some((other, agreed)) => {
                return Err(format!("members {other} and {id} committed {agreed:?} and {entry:?}"));
            }
        }
        Ok(())
    }
    /// Whether something else was committed where this entry stands.
    pub(super) fn differs(&self, entry: &Entry) -> bool {
        self.agreed.get(&entry.index).is_some_and(|(_, agreed)| {
            let other_value =
                !same(&(agreed.kind, agreed.payload.clone()), &(entry.kind, entry.payload.clone()));
            other_value || self.protocol != ProtocolKind::MultiPaxos && agreed.epoch != entry.epoch
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_consensus::entry::Kind;

    fn committed(protocol: ProtocolKind, entries: &[(u64, u64)]) -> Result<(), String> {
        let mut agreement = Agreement::new(protocol);
        entries.iter().try_for_each(|(index, epoch)| {
            let (index, epoch, payload) = (Index(*index), Epoch(*epoch), bytes::Bytes::new());
            agreement.check(MemberId(1), Entry { index, epoch, kind: Kind::NoOp, payload })
        })
    }

    #[test]
    fn epochs_that_fall_are_found_from_either_side() {
        for protocol in [ProtocolKind::Raft, ProtocolKind::Zab] {
            assert_eq!(committed(protocol, &[(1, 2), (2, 2), (3, 5)]), Ok(()));
            assert!(committed(protocol, &[(1, 2), (2, 1)]).is_err());
            assert!(committed(protocol, &[(2, 1), (1, 2)]).is_err(), "told of the later one first");
        }
        assert_eq!(committed(ProtocolKind::MultiPaxos, &[(1, 2), (2, 1)]), Ok(()));
    }
}
