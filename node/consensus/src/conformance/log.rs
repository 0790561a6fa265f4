//! A log in memory that keeps the contract of both layouts.

use crate::effect::Write;
use crate::entry::Entry;
use crate::id::{Epoch, Index};
use crate::log::{Layout, LogRead, Missing};

/// A snapshot's mark, then entries; `None` is a hole.
#[derive(Clone, Debug, Hash)]
pub(crate) struct MemoryLog {
    pub(crate) layout: Layout,
    base: (Index, Epoch),
    entries: Vec<Option<Entry>>,
}

impl LogRead for MemoryLog {
    fn snapshot_index(&self) -> Index {
        self.base.0
    }
    fn last_index(&self) -> Index {
        Index(self.base.0.0 + self.entries.len() as u64)
    }
    fn epoch(&self, index: Index) -> Result<Epoch, Missing> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        let entry = self.entries.get(self.place(index)?).and_then(Option::as_ref);
        entry.map(|entry| entry.epoch).ok_or(Missing::Beyond)
    }
    fn entries(&self, from: Index, to: Index, bytes_max: usize) -> Result<Vec<Entry>, Missing> {
        let from = self.place(from)?;
        let to = self.place(to).unwrap_or(0).min(self.entries.len());
        let range = self.entries.get(from..to).unwrap_or_default();
        let mut bytes = 0;
        let fitting = range.iter().map_while(Clone::clone).take_while(|entry| {
            let fits = bytes == 0 || bytes + entry.payload.len() <= bytes_max;
            bytes += entry.payload.len().max(1);
            fits
        });
        let found: Vec<Entry> = fitting.collect();
        if found.is_empty() { Err(Missing::Beyond) } else { Ok(found) }
    }
}

impl MemoryLog {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, base: (Index(0), Epoch(0)), entries: Vec::new() }
    }

    fn place(&self, index: Index) -> Result<usize, Missing> {
        let behind = index.0.checked_sub(self.base.0.0 + 1).ok_or(Missing::Compacted)?;
        usize::try_from(behind).map_err(|_| Missing::Beyond)
    }

    pub(crate) fn apply(&mut self, write: &Write) {
        if let Some(keep) = write.keep {
            assert_eq!(self.layout, Layout::Tail, "slots are never cut");
            let keep = keep.0.checked_sub(self.base.0.0).expect("a snapshot is never cut");
            self.entries.truncate(keep as usize);
        }
        for (place, entry) in write.entries.iter().enumerate() {
            let at = self.place(entry.index).expect("a snapshot is never written into");
            match self.layout {
                Layout::Tail => {
                    assert!(at <= self.entries.len(), "a gap in the log");
                    self.entries.truncate(at);
                    self.entries.push(Some(entry.clone()));
                }
                Layout::Slots => {
                    self.entries.resize((at + 1).max(self.entries.len()), None);
                    self.entries[at] = Some(entry.clone());
                }
            }
            assert_eq!(entry.index.0, write.entries[0].index.0 + place as u64, "a write without gaps");
        }
    }

    /// Everything up to `index` is in a snapshot from now on.
    pub(crate) fn compact(&mut self, index: Index) {
        let epoch = self.epoch(index).expect("only what is here goes into a snapshot");
        self.entries.drain(..(index.0 - self.base.0.0) as usize);
        self.base = (index, epoch);
    }

    /// A snapshot replaces the log up to `index`, and a history behind it too.
    pub(crate) fn reset(&mut self, index: Index, epoch: Epoch) {
        let covered = (index.0 - self.base.0.0) as usize;
        match self.layout {
            Layout::Tail => self.entries.clear(),
            Layout::Slots => drop(self.entries.drain(..covered.min(self.entries.len()))),
        }
        self.base = (index, epoch);
    }
}
