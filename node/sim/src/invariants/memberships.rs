//! The membership that is stored with a state is the newest one that was decided up to its applied index (etcd #19563: a promotion
//! was applied, and not stored). Void ones, which a log of slots may decide, are none (`Membership::follows`). In such a log voters
//! change by a stop entry alone (Stoppable Paxos 2008).

use std::collections::BTreeMap;

use bytes::Bytes;

use quorate_consensus::entry::Entry;
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
        if let Ok(Some(next)) = Membership::of(entry)
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

/// Made-up memberships, for tests.
#[cfg(test)]
pub(super) mod sample {
    use super::*;
    use quorate_consensus::membership::{Member, Role};

    pub(in crate::invariants) fn membership(voters: &[u64], learners: &[u64]) -> Membership {
        let member = |id: u64, role| Member {
            id: MemberId(id),
            name: String::new(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            role,
            zone: String::new(),
            leader_priority: 0,
        };
        let voters = voters.iter().map(|id| member(*id, Role::Voter));
        let members = voters.chain(learners.iter().map(|id| member(*id, Role::Learner)));
        Membership { members: members.map(|it| (it.id, it)).collect(), ..Membership::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_consensus::entry::Kind;
    use quorate_consensus::id::Epoch;

    fn of(version: u64, voters: &[u64]) -> Membership {
        Membership { version, ..sample::membership(voters, &[]) }
    }

    fn decided(layout: Layout, memberships: &[Membership]) -> Result<(), String> {
        let mut known = Memberships::new(layout);
        (1..).zip(memberships).try_for_each(|(index, membership)| {
            let payload = membership.encode();
            known.decided(&Entry { index: Index(index), epoch: Epoch(1), kind: Kind::Membership, payload })
        })
    }

    #[test]
    fn voters_that_change_without_a_stop_are_found() {
        let (first, second) = (of(1, &[1, 2, 3]), of(2, &[1, 2, 4]));
        let stop = Membership { outgoing: first.members.clone(), ..second.clone() };
        assert!(decided(Layout::Slots, &[first.clone(), second.clone()]).is_err());
        assert_eq!(decided(Layout::Slots, &[first.clone(), stop, of(3, &[1, 2, 4])]), Ok(()));
        assert_eq!(decided(Layout::Slots, &[first.clone(), of(1, &[1, 2, 4])]), Ok(()), "void");
        assert_eq!(decided(Layout::Tail, &[first, second]), Ok(()), "judged by its quorums");
    }
}
