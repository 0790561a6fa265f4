//! The membership that is stored with a state is the newest one that was decided up to its applied index (etcd #19563: a promotion
//! was applied, and not stored). Void ones, which a log of slots may decide, are none (`Membership::follows`).

use std::collections::BTreeMap;

use bytes::Bytes;

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::id::{Index, MemberId};
use quorate_consensus::log::Layout;
use quorate_consensus::membership::Membership;

#[derive(Debug)]
pub(super) struct Memberships {
    layout: Layout,
    /// Those that took effect, by position.
    decided: BTreeMap<Index, Bytes>,
    present: Membership,
    /// Every entry up to here was seen.
    through: Index,
}

impl Memberships {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, decided: BTreeMap::new(), present: Membership::default(), through: Index(0) }
    }

    /// `entry` was decided; each is told of in order.
    pub(super) fn decided(&mut self, entry: &Entry) {
        if entry.index != self.through.next() {
            return;
        }
        self.through = entry.index;
        if entry.kind == Kind::Membership
            && let Ok(next) = Membership::decode(&entry.payload)
            && next.follows(&self.present, self.layout)
        {
            self.decided.insert(entry.index, entry.payload.clone());
            self.present = next;
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
