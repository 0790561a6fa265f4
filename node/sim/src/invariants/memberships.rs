//! The membership that is stored with a state is the newest one that was decided up to its applied index (etcd #19563: a promotion
//! was applied, and not stored).

use std::collections::BTreeMap;

use bytes::Bytes;

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::id::{Index, MemberId};

#[derive(Debug, Default)]
pub(super) struct Memberships {
    decided: BTreeMap<Index, Bytes>,
    /// Every entry up to here was seen.
    through: Index,
}

impl Memberships {
    pub(super) fn decided(&mut self, entry: &Entry) {
        if entry.index == self.through.next() {
            self.through = entry.index;
        }
        if entry.kind == Kind::Membership {
            self.decided.insert(entry.index, entry.payload.clone());
        }
    }

    /// Member `id` has applied everything up to `applied`.
    pub(super) fn check(&self, id: MemberId, applied: u64, stored: &Bytes) -> Result<(), String> {
        match self.decided.range(..=Index(applied)).next_back() {
            Some((index, decided)) if decided != stored && Index(applied) <= self.through => Err(format!(
                "member {id} applied {applied}, and does not store the membership that was decided at {index}"
            )),
            Some(_) | None => Ok(()),
        }
    }
}
