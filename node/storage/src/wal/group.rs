//! One group's part of the shared log: where its records lie, and its hard state.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;

use super::record::{CUT, Header};
use super::slots::{Slots, Values};
use super::{DIRECTORY, HardState, Layout, ReadError, WalError};
use crate::disk::Disk;
use crate::mutants::mutant;

/// Where a record lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// 0 until it is written.
    pub(super) sequence: u64,
    pub(super) epoch: u64,
    pub(super) kind: u8,
    pub(super) offset: u32,
    pub(super) size_bytes: u32,
    pub(super) checksum: u32,
    pub(super) faulty: bool,
    /// The body while it is in the cache.
    pub(super) body: Option<Bytes>,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) hard_state: HardState,
    /// The index and epoch behind which the log starts.
    pub(super) base: (u64, u64),
    /// Records below this sequence were made void by a snapshot.
    pub(super) from_sequence: u64,
    layout: Layout,
    /// From the base on; `None` is a hole.
    places: VecDeque<Option<Place>>,
    pub(super) slots: Slots,
    /// Hard state or base changed since the last flush.
    pub(super) dirty: bool,
}

impl Group {
    pub(super) fn file_name(id: u64) -> String {
        format!("group-{id:016x}.state")
    }

    pub(super) fn open(disk: &dyn Disk, id: u64, layout: Layout) -> Result<Self, WalError> {
        let (slots, values) = Slots::open(disk, &Path::new(DIRECTORY).join(Self::file_name(id)))?;
        let [epoch, vote, established, commit, base_index, base_epoch, from_sequence, _, _] =
            values.unwrap_or_default();
        Ok(Self {
            hard_state: HardState { epoch, vote, established, commit },
            base: (base_index, base_epoch),
            from_sequence,
            layout,
            places: VecDeque::new(),
            slots,
            dirty: false,
        })
    }

    pub(super) fn last_index(&self) -> u64 {
        self.base.0 + self.places.len() as u64
    }

    pub(super) fn place(&self, index: u64) -> Result<&Place, ReadError> {
        let at = index.checked_sub(self.base.0 + 1).ok_or(ReadError::Compacted)?;
        let place = usize::try_from(at).ok().and_then(|at| self.places.get(at));
        place.and_then(Option::as_ref).ok_or(ReadError::Beyond)
    }

    fn place_mut(&mut self, index: u64) -> Option<&mut Place> {
        let at = index.checked_sub(self.base.0 + 1)?;
        self.places.get_mut(usize::try_from(at).ok()?)?.as_mut()
    }

    pub(super) fn push(&mut self, index: u64, place: Place) {
        assert!(index > self.base.0, "record {index} was released");
        let at = usize::try_from(index - self.base.0 - 1).expect("in memory");
        match self.layout {
            Layout::Tail => {
                assert!(at <= self.places.len(), "record {index} leaves a gap");
                self.places.truncate(at);
                self.places.push_back(Some(place));
            }
            Layout::Slots => {
                self.places.resize((at + 1).max(self.places.len()), None);
                self.places[at] = Some(place);
            }
        }
    }

    /// Everything behind `keep` goes.
    pub(super) fn cut(&mut self, keep: u64) {
        self.places.truncate(usize::try_from(keep.saturating_sub(self.base.0)).expect("in memory"));
    }

    /// A record of recovery, in the order of sequence; those that are released or void are passed over.
    pub(super) fn recover(&mut self, header: &Header, faulty: bool) {
        if header.sequence < self.from_sequence {
            return;
        }
        if header.kind == CUT {
            return self.cut(header.index.saturating_sub(1));
        }
        match self.layout {
            Layout::Tail if header.index > self.last_index() + 1 => return,
            // It was released since, but what it replaced behind it stays replaced.
            Layout::Tail if header.index <= self.base.0 => return self.places.clear(),
            Layout::Slots if header.index <= self.base.0 => return,
            Layout::Tail | Layout::Slots => {}
        }
        let place = Place {
            sequence: header.sequence,
            epoch: header.epoch,
            kind: header.kind,
            offset: header.offset,
            size_bytes: header.size_bytes,
            checksum: header.body_checksum,
            faulty,
            body: None,
        };
        self.push(header.index, place);
    }

    /// A record got its place. It may have been replaced in the buffer since; then a later one gets it.
    pub(super) fn written(&mut self, index: u64, header: &Header) {
        if let Some(place) = self.place_mut(index) {
            place.sequence = header.sequence;
            place.offset = header.offset;
            place.checksum = header.body_checksum;
        }
    }

    pub(super) fn drop_body(&mut self, index: u64) {
        if let Some(place) = self.place_mut(index)
            && place.sequence != 0
        {
            place.body = None;
        }
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        let HardState { epoch, mut vote, established, commit: _ } = self.hard_state;
        if mutant!(VoteNotStored) {
            vote = hard_state.vote;
        }
        // The commit index is a hint: it is stored when something else is.
        self.dirty |=
            (epoch, vote, established) != (hard_state.epoch, hard_state.vote, hard_state.established);
        self.hard_state = hard_state;
    }

    pub(super) fn release(&mut self, index: u64, epoch: u64) {
        let released = usize::try_from(index.saturating_sub(self.base.0)).expect("in memory");
        if released > 0 {
            self.places.drain(..released.min(self.places.len()));
            self.base = (index, epoch);
            self.dirty = true;
        }
    }

    pub(super) fn reset(&mut self, base: (u64, u64), next_sequence: u64) {
        match self.layout {
            Layout::Tail => {
                self.places.clear();
                self.from_sequence = next_sequence;
            }
            Layout::Slots => {
                let inside = usize::try_from(base.0.saturating_sub(self.base.0)).expect("in memory");
                self.places.drain(..inside.min(self.places.len()));
            }
        }
        self.base = base;
        self.dirty = true;
    }

    pub(super) fn store(&mut self) -> Result<(), WalError> {
        let HardState { epoch, vote, established, commit } = self.hard_state;
        let values: Values =
            [epoch, vote, established, commit, self.base.0, self.base.1, self.from_sequence, 0, 0];
        self.slots.store(&values)?;
        self.dirty = false;
        Ok(())
    }

    /// The first sequence that must stay on disk; `None` if no record must.
    pub(super) fn first_needed(&self) -> Option<u64> {
        let mut written = self.places.iter().flatten().map(|place| place.sequence).filter(|it| *it != 0);
        match self.layout {
            // They rise.
            Layout::Tail => written.next(),
            Layout::Slots => written.min(),
        }
    }
}
