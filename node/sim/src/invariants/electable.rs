//! Nobody can win an election without what is committed: a member whose log lacks it finds no quorum whose logs are not better than
//! its own (`etcdraft.tla`: MoreUpToDateCorrect; Raft: thesis 3.6.3; Zab 2011: the leader of an epoch has the best history of a
//! quorum, by current epoch and last zxid). This sees figure 8 at the moment of the commit, before anybody has to lose anything.
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

use super::logs::Logs;

/// How good a history is: Zab's current epoch, nothing with Raft; the last entry's epoch and index.
type Rank = (Epoch, Epoch, Index);

#[derive(Debug)]
struct Standing {
    rank: Rank,
    membership: Membership,
    /// Everything of it is durable.
    idle: bool,
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
                (standing.rank, standing.idle) = (rank, idle);
            }
            Some(_) | None => {
                drop(self.members.insert(id, Standing { rank, membership: membership.clone(), idle }));
            }
        }
    }

    /// `entry` was committed by `by`.
    pub(super) fn committed(&mut self, by: MemberId, entry: &Entry, logs: &Logs) -> Result<(), String> {
        if self.protocol == ProtocolKind::MultiPaxos || entry.index <= self.judged {
            return Ok(());
        }
        self.judged = entry.index;
        for (id, standing) in &self.members {
            let quorum = standing.membership.quorum();
            let may_lead = quorum.contains(*id) && !standing.membership.is_witness(*id);
            if !may_lead || logs.has(*id, entry) {
                continue;
            }
            let follows = |voter| {
                voter == *id || self.members.get(&voter).is_some_and(|other| other.rank <= standing.rank)
            };
            if quorum.reached(follows) {
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
        self.members.retain(|member, standing| *member != id || standing.idle);
    }
}
