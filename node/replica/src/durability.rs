//! Which of the protocol's writes are durable, and what waits for them.

use std::collections::VecDeque;

use bytes::Bytes;

use quorate_consensus::id::{Index, MemberId, WriteId};

use crate::mutants::mutant;

#[derive(Debug)]
struct Written {
    id: WriteId,
    /// The first index that it changes, if it changes the log.
    first: Option<Index>,
    /// The sync that makes it durable; `None` until the next flush.
    sync: Option<u64>,
}

#[derive(Debug)]
struct Held {
    after: WriteId,
    to: MemberId,
    payload: Bytes,
}

/// The order of writes and syncs of one replica.
#[derive(Debug)]
pub(crate) struct Durability {
    written: VecDeque<Written>,
    /// No limit of its own: an acknowledgement for each message of a leader, whose entries its window bounds, and one for each of its
    /// beats while the disk stalls. They are small, and a promise or vote is one for each election.
    held: VecDeque<Held>,
    persisted: WriteId,
}

impl Durability {
    /// After a start: everything that recovery found is durable.
    pub(crate) fn new() -> Self {
        Self { written: VecDeque::new(), held: VecDeque::new(), persisted: WriteId(0) }
    }

    /// A write was handed to the log. `first` is the first index that it changes.
    pub(crate) fn wrote(&mut self, id: WriteId, first: Option<Index>) {
        self.written.push_back(Written { id, first, sync: None });
    }

    /// The log was flushed: sync number `sync` covers all writes so far.
    pub(crate) fn flushed(&mut self, sync: u64) {
        for write in self.written.iter_mut().rev() {
            if write.sync.is_some() {
                break;
            }
            write.sync = Some(sync);
        }
    }

    /// Sync number `sync` is done. The last write that it made durable, if any.
    pub(crate) fn synced(&mut self, sync: u64) -> Option<WriteId> {
        let before = self.persisted;
        while let Some(write) = self.written.front() {
            if write.sync.is_none_or(|covering| covering > sync) {
                break;
            }
            self.persisted = write.id;
            self.written.pop_front();
        }
        (self.persisted != before).then_some(self.persisted)
    }

    /// Holds a message back until a write is durable; gives it back at once if it is.
    pub(crate) fn hold(
        &mut self,
        to: MemberId,
        payload: Bytes,
        after: Option<WriteId>,
    ) -> Option<(MemberId, Bytes)> {
        match after {
            Some(after) if after > self.persisted && !mutant!(MessagesBeforeSync) => {
                self.held.push_back(Held { after, to, payload });
                None
            }
            Some(_) | None => Some((to, payload)),
        }
    }

    /// The messages whose write is durable now.
    pub(crate) fn released(&mut self) -> Vec<(MemberId, Bytes)> {
        let mut released = Vec::new();
        while let Some(held) = self.held.pop_front_if(|held| held.after <= self.persisted) {
            released.push((held.to, held.payload));
        }
        released
    }

    /// The last write, and the last durable one.
    pub(crate) fn writes(&self) -> (WriteId, WriteId) {
        (self.written.back().map_or(self.persisted, |write| write.id), self.persisted)
    }

    /// No write is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.written.is_empty()
    }

    /// No write under way changes the log up to here: nothing behind it is applied, so that the state never outruns the log.
    pub(crate) fn durable(&self) -> Index {
        let changed = self.written.iter().filter_map(|write| write.first);
        changed.map(Index::previous).min().unwrap_or(Index(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_tail_is_durable_only_with_the_replacement() {
        let mut durability = Durability::new();
        durability.wrote(WriteId(1), Some(Index(6)));
        durability.flushed(1);
        durability.wrote(WriteId(2), Some(Index(8)));
        assert_eq!(durability.durable(), Index(5));
        assert_eq!(durability.synced(1), Some(WriteId(1)));
        assert_eq!(durability.durable(), Index(7));
        durability.flushed(2);
        assert_eq!(durability.synced(2), Some(WriteId(2)));
        assert_eq!(durability.durable(), Index(u64::MAX));
        assert_eq!(durability.synced(2), None);
    }

    #[test]
    fn a_message_waits_for_its_write() {
        let mut durability = Durability::new();
        durability.wrote(WriteId(1), None);
        assert!(durability.hold(MemberId(2), Bytes::new(), None).is_some());
        assert!(durability.hold(MemberId(2), Bytes::new(), Some(WriteId(1))).is_none());
        assert!(durability.released().is_empty());
        durability.flushed(1);
        durability.synced(1);
        assert_eq!(durability.released().len(), 1);
    }
}
