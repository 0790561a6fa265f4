//! The membership that is stored with a state is the newest one that was decided up to its applied index (etcd #19563: a promotion
//! was applied, and not stored). Void ones, which a log of slots may decide, are none (`Membership::follows`). In such a log voters
//! change by a stop entry alone (Stoppable Paxos 2008).

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
    pub(super) fn decided(&mut self, entry: &Entry) -> Result<(), String> {
        if entry.index != self.through.next() {
            return Ok(());
        }
        self.through = entry.index;
        if entry.kind == Kind::Membership
            && let Ok(next) = Membership::decode(&entry.payload)
            && next.follows(&self.present, self.layout)
        {
            self.decided.insert(entry.index, entry.payload.clone());
            let before = std::mem::replace(&mut self.present, next);
            return self.changed(entry.index, &before);
        }
        Ok(())
    }

    /// With stop entries, voters change by those alone, from the ones that they stop. (Joint consensus is judged by its quorums.)
    fn changed(&self, at: Index, before: &Membership) -> Result<(), String> {
        let next = &self.present;
        let stopped = if next.is_joint() { next.outgoing.keys().copied().collect() } else { next.voters() };
        let known = !before.members.is_empty();
        if self.layout == Layout::Slots && known && stopped != before.voters() {
            let (voters, since) = (before.voters(), next.voters());
            return Err(format!("the voters {voters:?} became {since:?} at {at} without a stop of theirs"));
        }
        Ok(())
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
