//! The log as it will be when this step's write is handed over.

use crate::entry::Entry;
use crate::id::{Epoch, Index};
use crate::log::{Layout, LogRead, Missing};

/// What a step changes in the log: its end may be cut, then entries come, in order and without gaps.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Fresh {
    /// The log ends here before the entries come.
    pub(crate) keep: Option<Index>,
    pub(crate) entries: Vec<Entry>,
}

impl Fresh {
    pub(crate) fn is_empty(&self) -> bool {
        self.keep.is_none() && self.entries.is_empty()
    }

    fn from(&self) -> Option<Index> {
        self.entries.first().map(|entry| entry.index)
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.from()?.0)?;
        self.entries.get(usize::try_from(at).ok()?)
    }
}

/// The log of the caller with this step's changes over it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) layout: Layout,
    pub(crate) log: &'a dyn LogRead,
    pub(crate) fresh: &'a Fresh,
}

impl View<'_> {
    pub(crate) fn snapshot_index(&self) -> Index {
        self.log.snapshot_index()
    }

    /// The last position of what stays of the caller's log.
    fn stored_to(&self) -> Index {
        let kept = self.fresh.keep.map_or(self.log.last_index(), |keep| keep.min(self.log.last_index()));
        match (self.layout, self.fresh.from()) {
            (Layout::Tail, Some(from)) => kept.min(from.previous()),
            (Layout::Tail, None) | (Layout::Slots, _) => kept,
        }
    }

    pub(crate) fn last_index(&self) -> Index {
        let stored = self.stored_to();
        self.fresh.entries.last().map_or(stored, |entry| entry.index.max(stored))
    }

    pub(crate) fn epoch(&self, index: Index) -> Result<Epoch, Missing> {
        if let Some(entry) = self.fresh.entry(index) {
            return Ok(entry.epoch);
        }
        if index > self.stored_to() { Err(Missing::Beyond) } else { self.log.epoch(index) }
    }

    /// The epoch of the last entry of a log without holes. It is always known: the snapshot's mark stands before an empty
    /// log.
    pub(crate) fn last_epoch(&self) -> Epoch {
        self.epoch(self.last_index()).expect("the last entry or the snapshot's mark has an epoch")
    }

    /// Entries from `from` on: at least one, then as many as fit and stand without a gap.
    pub(crate) fn entries(&self, from: Index, bytes_max: usize) -> Result<Vec<Entry>, Missing> {
        if let Some(entry) = self.fresh.entry(from) {
            let skip = usize::try_from(entry.index.0 - self.fresh.entries[0].index.0).unwrap_or(usize::MAX);
            let mut bytes = 0;
            let fitting = self.fresh.entries.iter().skip(skip).take_while(|entry| {
                let fits = bytes == 0 || bytes + entry.payload.len() <= bytes_max;
                bytes += entry.payload.len().max(1);
                fits
            });
            return Ok(fitting.cloned().collect());
        }
        let behind = self.fresh.from().filter(|fresh| *fresh > from);
        let to = behind.unwrap_or(Index(u64::MAX)).min(self.stored_to().next());
        if from >= to {
            return Err(Missing::Beyond);
        }
        self.log.entries(from, to, bytes_max)
    }
}
