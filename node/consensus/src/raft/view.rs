//! The log as it will be when this step's write is handed over.

use crate::entry::Entry;
use crate::id::{Epoch, Index};
use crate::log::{LogRead, Missing};

/// The log of the caller with this step's entries over its end.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) log: &'a dyn LogRead,
    /// This step's entries, in order, without gaps; what the log had from the first one on is replaced.
    pub(crate) fresh: &'a [Entry],
}

impl View<'_> {
    fn fresh_from(&self) -> Option<Index> {
        self.fresh.first().map(|entry| entry.index)
    }

    fn fresh_entry(&self, index: Index) -> Option<&Entry> {
        let from = self.fresh_from()?;
        self.fresh.get(usize::try_from(index.0.checked_sub(from.0)?).ok()?)
    }

    pub(crate) fn snapshot_index(&self) -> Index {
        self.log.snapshot_index()
    }

    pub(crate) fn last_index(&self) -> Index {
        self.fresh.last().map_or_else(|| self.log.last_index(), |entry| entry.index)
    }

    pub(crate) fn epoch(&self, index: Index) -> Result<Epoch, Missing> {
        match self.fresh_from() {
            Some(from) if index >= from => {
                self.fresh_entry(index).map(|entry| entry.epoch).ok_or(Missing::Beyond)
            }
            Some(_) | None => self.log.epoch(index),
        }
    }

    /// The term of the last entry. It is always known: the snapshot's mark stands before an empty log.
    pub(crate) fn last_epoch(&self) -> Epoch {
        self.epoch(self.last_index()).expect("the last entry or the snapshot's mark has an epoch")
    }

    pub(crate) fn entries(&self, from: Index, bytes_max: usize) -> Result<Vec<Entry>, Missing> {
        let fresh_from = self.fresh_from();
        let stored_to = fresh_from.unwrap_or_else(|| self.log.last_index().next());
        if from < stored_to {
            return self.log.entries(from, stored_to, bytes_max);
        }
        let skip = fresh_from.map_or(0, |first| usize::try_from(from.0 - first.0).unwrap_or(usize::MAX));
        let mut bytes = 0;
        let fitting = self.fresh.iter().skip(skip).take_while(|entry| {
            let fits = bytes == 0 || bytes + entry.payload.len() <= bytes_max;
            bytes += entry.payload.len().max(1);
            fits
        });
        Ok(fitting.cloned().collect())
    }
}
