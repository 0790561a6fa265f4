//! Nobody can win an election without what is committed: a member whose log lacks it finds no quorum whose logs are not better than
//! its own (`etcdraft.tla`: MoreUpToDateCorrect; Raft: thesis 3.6.3; Zab 2011: the leader of an epoch has the best history of a
//! quorum, by current epoch and last zxid). This sees figure 8 at the moment of the commit, before anybody has to lose anything.
//!
//! Who may lead is not asked. A member that does not count itself as a voter may be elected all the same, since a membership is in force
//! where it is appended: with Raft if it refused a vote to somebody worse, with Zab if others vote for it (`give_up_for`). Each counts
//! the voters of its own newest membership, whatever those take for the membership, and they vote for whoever asks. So everybody with
//! data is judged as a candidate, learners and removed members too, and everybody as a voter, those that never started too: their
//! history is empty. Both proofs hold for all of them, since none uses that a leader is one of its own voters.
//!
//! What is left out. A member's rank is that of its log as written, durable or not, since what it would be after a power loss is not
//! known: a replaced end may still be on the disk, with a better rank than the durable part before it. For the same reason one that
//! stopped before all was durable is neither candidate nor voter until it starts again. A witness never leads.
//!
//! Not for Multi-Paxos, where any member may lead, whatever its log lacks, and learns from its quorum what was accepted. What stands
//! for it there is judged by `chosen.rs` in the same step, the commit's: a quorum of the slot's voters holds the value durably in one
//! ballot. Any quorum that promises a later ballot shares an acceptor with it, so no leader can come that does not hear of the value
//! (Paxos Made Simple 2.2, P2c); that a leader proposes what it heard of is judged by what is chosen afterwards.

use std::collections::BTreeMap;

use quorate_consensus::entry::{Entry, HardState};
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::log::LogRead;
use quorate_consensus::membership::Membership;

/// How good a history is: Zab's current epoch, nothing with Raft; the last entry's epoch and index.
type Rank = (Epoch, Epoch, Index);

#[derive(Debug)]
struct Standing {
    rank: Rank,
    membership: Membership,
    /// Everything of it is durable.
    idle: bool,
    /// It stopped before it was: what is on its disk is not known.
    unknown: bool,
}

#[derive(Debug)]
pub(super) struct Electable {
    protocol: ProtocolKind,
    members: BTreeMap<MemberId, Standing>,
    /// Everything up to here was looked at.
    judged: Index,
}

impl Electable {
    pub(super) fn new(protocol: ProtocolKind) -> Self {
        Self { protocol, members: BTreeMap::new(), judged: Index(0) }
    }

    /// A member took a step.
    pub(super) fn stands(
        &mut self,
        id: MemberId,
        log: &impl LogRead,
        hard: HardState,
        membership: &Membership,
        idle: bool,
    ) {
        let last = log.last_index();
        let Ok(epoch) = log.epoch(last) else { return };
        let current = if self.protocol == ProtocolKind::Zab { hard.established } else { Epoch(0) };
        let rank = (current, epoch, last);
        match self.members.get_mut(&id) {
            Some(standing) if standing.membership == *membership => {
                (standing.rank, standing.idle, standing.unknown) = (rank, idle, false);
            }
            Some(_) | None => {
                let standing = Standing { rank, membership: membership.clone(), idle, unknown: false };
                drop(self.members.insert(id, standing));
            }
        }
    }

    /// `entry` was committed by `by`; `has` tells who has it.
    pub(super) fn committed(
        &mut self,
        by: MemberId,
        entry: &Entry,
        has: impl Fn(MemberId) -> bool,
    ) -> Result<(), String> {
        if self.protocol == ProtocolKind::MultiPaxos || entry.index <= self.judged {
            return Ok(());
        }
        self.judged = entry.index;
        for (id, standing) in self.members.iter().filter(|(_, standing)| !standing.unknown) {
            if standing.membership.is_witness(*id) || has(*id) {
                continue;
            }
            let follows = |voter| match self.members.get(&voter) {
                Some(other) => !other.unknown && other.rank <= standing.rank,
                None => true,
            };
            let quorum = standing.membership.quorum();
            if !quorum.voters().is_empty() && quorum.reached(follows) {
                return Err(format!(
                    "member {by} committed {entry:?}, but {id} lacks it and could be elected with {:?}",
                    standing.rank
                ));
            }
        }
        Ok(())
    }

    /// A member stopped. What it will find on its disk is known if all was durable.
    pub(super) fn stopped(&mut self, id: MemberId) {
        if let Some(standing) = self.members.get_mut(&id) {
            standing.unknown = !standing.idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::memberships::sample::membership;

    /// Members as (id, epoch and index of the last entry, membership); entry 5 of epoch 2 is committed by 1, whoever ends there has it.
    fn judged(members: &[(u64, (u64, u64), &Membership)]) -> Result<(), String> {
        let mut electable = Electable::new(ProtocolKind::Raft);
        for (id, (epoch, index), membership) in members {
            let rank = (Epoch(0), Epoch(*epoch), Index(*index));
            let standing = Standing { rank, membership: (*membership).clone(), idle: true, unknown: false };
            electable.members.insert(MemberId(*id), standing);
        }
        let payload = bytes::Bytes::new();
        let entry =
            Entry { index: Index(5), epoch: Epoch(2), kind: quorate_consensus::entry::Kind::NoOp, payload };
        let has = |id: MemberId| members.iter().any(|(member, last, _)| *member == id.0 && *last == (2, 5));
        electable.committed(MemberId(1), &entry, has)
    }

    #[test]
    fn figure_eight_is_seen() {
        let all = membership(&[1, 2, 3], &[]);
        assert_eq!(judged(&[(1, (2, 5), &all), (2, (2, 5), &all), (3, (1, 9), &all)]), Ok(()));
        assert!(judged(&[(1, (2, 5), &all), (2, (1, 4), &all), (3, (1, 9), &all)]).is_err(), "2 votes for 3");
        assert!(
            judged(&[(1, (2, 5), &all), (2, (2, 5), &all), (3, (3, 4), &all)]).is_err(),
            "figure 8: all do"
        );
    }

    #[test]
    fn a_learner_by_its_own_membership_is_judged_too() {
        let own = membership(&[1, 2, 3], &[4]);
        let (one, two, four) = ((1, (2, 5), &own), (2, (2, 5), &own), (4, (1, 4), &own));
        assert_eq!(judged(&[one, two, (3, (1, 4), &own), four]), Ok(()));
        assert!(judged(&[one, (2, (1, 4), &own), (3, (1, 4), &own), four]).is_err(), "2 and 3 vote for 4");
    }

    #[test]
    fn a_voter_that_never_started_votes_for_anybody() {
        let all = membership(&[1, 2, 3, 4, 5], &[]);
        let (one, two) = ((1, (2, 5), &all), (2, (2, 5), &all));
        assert!(judged(&[one, two, (3, (1, 4), &all)]).is_err(), "4 and 5 vote for 3");
    }

    #[test]
    fn a_member_whose_disk_is_not_known_counts_for_nothing() {
        let mut electable = Electable::new(ProtocolKind::Raft);
        let rank = (Epoch(0), Epoch(1), Index(4));
        let standing = Standing { rank, membership: membership(&[1], &[]), idle: false, unknown: false };
        electable.members.insert(MemberId(1), standing);
        electable.stopped(MemberId(1));
        let (kind, payload) = (quorate_consensus::entry::Kind::NoOp, bytes::Bytes::new());
        let entry = Entry { index: Index(5), epoch: Epoch(2), kind, payload };
        assert_eq!(electable.committed(MemberId(2), &entry, |_| false), Ok(()));
    }
}
