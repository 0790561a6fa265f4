//! Who belongs to the group. Replicated data: a new value is an entry of the log, in force when appended.

mod codec;
mod stack;

use std::collections::{BTreeMap, BTreeSet};

use crate::effect::Refusal;
use crate::entry::{Entry, Kind};
use crate::id::{Index, MemberId};
use crate::log::Layout;
use crate::quorum::Quorum;

pub use codec::Malformed;
pub(crate) use stack::Stack;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Votes and holds data.
    Voter,
    /// Holds data, does not vote.
    Learner,
    /// Votes and keeps log headers, holds no data.
    Witness,
}

/// One member as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started (as in etcd).
    pub name: String,
    /// URLs at which peers reach it.
    pub peer_urls: Vec<String>,
    /// URLs that clients may use; empty until it has started.
    pub client_urls: Vec<String>,
    /// What it may do.
    pub role: Role,
    /// The zone it runs in; empty if unknown.
    pub zone: String,
    /// The higher, the rather it leads. 0 is ordinary.
    pub leader_priority: u32,
}

/// The members, and during a joint change the voters of the configuration that is on its way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// Every member by id.
    pub members: BTreeMap<MemberId, Member>,
    /// The old configuration's voters while a joint change is under way (Raft section 6), else empty.
    pub outgoing: BTreeMap<MemberId, Member>,
    /// Ids that were members once and never will be again.
    pub removed: BTreeSet<MemberId>,
    /// Those of `removed` that were witnesses: they never had data, and must not pass for members that have.
    pub removed_witnesses: BTreeSet<MemberId>,
    /// Where the voters changed last: the index of their joint membership. Multi-Paxos tells voters before and behind a stop apart
    /// by it; the others leave it at 0.
    pub voters_since: Index,
    /// Multi-Paxos: how many memberships were decided before it. The others leave it at 0. See [`Membership::follows`].
    pub version: u64,
}

/// Why a membership can't follow the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nobody would vote.
    #[error("the membership has no voter")]
    NoVoter,
    /// An id comes back, or a removal is forgotten.
    #[error("a removed member id was used again")]
    Reused,
    /// A quorum could do without data, or a member would begin or cease to hold data.
    #[error("more voters must hold data than are witnesses, and a witness stays one")]
    Witness,
    /// The target is itself a joint membership.
    #[error("a target membership is never joint")]
    Joint,
}

impl Membership {
    /// The membership in an entry; `None` in one of another kind.
    ///
    /// # Errors
    /// [`Malformed`] if it can't be decoded.
    pub fn of(entry: &Entry) -> Result<Option<Self>, Malformed> {
        match entry.kind {
            Kind::Membership => Self::decode(&entry.payload).map(Some),
            Kind::Command | Kind::NoOp | Kind::Header => Ok(None),
        }
    }

    /// Members that vote now.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<MemberId> {
        self.members.values().filter(|member| member.role != Role::Learner).map(|member| member.id).collect()
    }

    /// What decides: a majority, in a joint membership of both sides.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        Quorum::joint(self.voters(), self.outgoing.keys().copied().collect())
    }

    /// Whether a change is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// A member, those on their way out included.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id).or_else(|| self.outgoing.get(&id))
    }

    /// What a member may do; `None` if it is none. A witness is one for good: one that was removed may not know yet, and has no data.
    #[must_use]
    pub fn role(&self, id: MemberId) -> Option<Role> {
        let removed = self.removed_witnesses.contains(&id).then_some(Role::Witness);
        self.member(id).map(|member| member.role).or(removed)
    }

    /// Whether a member holds headers only.
    #[must_use]
    pub fn is_witness(&self, id: MemberId) -> bool {
        self.role(id) == Some(Role::Witness)
    }

    /// Whether a member was removed and is not needed any more: on its way out it still counts in the old configuration's quorums.
    #[must_use]
    pub fn is_gone(&self, id: MemberId) -> bool {
        self.removed.contains(&id) && !self.outgoing.contains_key(&id)
    }

    /// Everybody who gets the log: members and those on their way out.
    #[must_use]
    pub fn receivers(&self) -> BTreeSet<MemberId> {
        self.members.keys().chain(self.outgoing.keys()).copied().collect()
    }

    /// Whether `target` may follow.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn check(&self, target: &Self) -> Result<(), Invalid> {
        if target.is_joint() {
            return Err(Invalid::Joint);
        }
        if target.voters().is_empty() {
            return Err(Invalid::NoVoter);
        }
        let count = |role| target.members.values().filter(|member| member.role == role).count();
        let becomes = |member: &Member| {
            self.member(member.id)
                .is_some_and(|old| (old.role == Role::Witness) != (member.role == Role::Witness))
        };
        let witnesses = count(Role::Witness);
        if (witnesses > 0 && witnesses >= count(Role::Voter)) || target.members.values().any(becomes) {
            return Err(Invalid::Witness);
        }
        let forgotten = !self.removed.is_subset(&target.removed);
        if forgotten || target.members.keys().any(|id| target.removed.contains(id)) {
            return Err(Invalid::Reused);
        }
        Ok(())
    }

    /// What speaks against a change to `target`, as far as it lies in the two memberships and in learners that are to vote:
    /// `ready` tells whether one has caught up.
    pub(crate) fn refusal(&self, target: &Self, ready: impl Fn(MemberId) -> bool) -> Option<Refusal> {
        if self.check(target).is_err() {
            return Some(Refusal::InvalidChange);
        }
        let voters = self.voters();
        let promoted = target.voters().into_iter().filter(|id| self.members.contains_key(id));
        let behind = promoted.filter(|id| !voters.contains(id)).any(|id| !ready(id));
        behind.then_some(Refusal::LearnerNotReady)
    }

    /// The entry that starts the change to `target`: joint if the voters differ, else `target` itself.
    #[must_use]
    pub fn towards(&self, mut target: Self) -> Self {
        target.removed_witnesses.extend(target.removed.iter().filter(|id| self.is_witness(**id)));
        let voters = self.voters();
        if voters == target.voters() {
            return target;
        }
        let outgoing = self.members.iter().filter(|(id, _)| voters.contains(id));
        Self { outgoing: outgoing.map(|(&id, member)| (id, member.clone())).collect(), ..target }
    }

    /// Whether a decided membership takes effect behind `present`, which all that was decided before it led to. In a log of slots a
    /// membership that a deposed leader proposed may be decided behind its successor's, and would undo it, voters and all: it counts
    /// only behind the one that it was made from. A log that is cut has no such entries.
    #[must_use]
    pub fn follows(&self, present: &Self, layout: Layout) -> bool {
        match layout {
            Layout::Tail => true,
            Layout::Slots => self.version == present.version + 1,
        }
    }

    /// What a member starts with before it has anything of the log: whom it asks, as the log's first membership follows it.
    #[must_use]
    pub fn at_founding(&self) -> Self {
        Self { version: 0, voters_since: Index(0), ..self.clone() }
    }

    /// The entry that ends a joint change.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self { outgoing: BTreeMap::new(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: impl IntoIterator<Item = u64>) -> Membership {
        let member = |id| Member {
            id,
            name: String::new(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            role: Role::Voter,
            zone: String::new(),
            leader_priority: 0,
        };
        let members = ids.into_iter().map(MemberId).map(|id| (id, member(id))).collect();
        Membership { members, ..Membership::default() }
    }

    #[test]
    fn a_removed_member_is_gone_when_the_joint_membership_is_left() {
        let target = Membership { removed: [MemberId(1)].into(), ..of([2, 3, 4]) };
        let joint = of([1, 2, 3]).towards(target);
        assert!(joint.is_joint() && !joint.is_gone(MemberId(1)));
        assert!(joint.settled().is_gone(MemberId(1)));
    }

    #[test]
    fn a_removed_witness_never_passes_for_a_member_with_data() {
        let mut before = of([1, 2, 3]);
        before.members.get_mut(&MemberId(3)).unwrap().role = Role::Witness;
        let removal = |id| {
            let mut target = before.clone();
            target.members.remove(&MemberId(id));
            target.removed.insert(MemberId(id));
            before.towards(target)
        };
        let joint = removal(3);
        let later = joint.settled().towards(joint.settled());
        for membership in [&joint, &joint.settled(), &later] {
            assert_eq!(membership.role(MemberId(3)), Some(Role::Witness));
        }
        assert_eq!(removal(2).settled().role(MemberId(2)), None);
    }

    #[test]
    fn a_membership_of_slots_counts_behind_its_own_forerunner_only() {
        let [present, next, later] = [4, 5, 6].map(|version| Membership { version, ..of([1]) });
        assert!(next.follows(&present, Layout::Slots) && !later.follows(&present, Layout::Slots));
        assert!(!present.follows(&present, Layout::Slots) && !present.follows(&next, Layout::Slots));
        assert!(present.follows(&next, Layout::Tail), "a log that is cut has no others");
    }
}
