//! Membership changes: through a joint membership when the voters differ (thesis 4.3).

use super::{PartState, Progress, Raft, not_leader};
use crate::config::Config;
use crate::effect::{Effect, Refusal};
use crate::entry::{Entry, Kind};
use crate::input::ProposalId;
use crate::log::LogRead;
use crate::membership::Membership;
use crate::mutants::mutant;

impl Raft {
    pub(super) fn propose_membership(&mut self, id: ProposalId, target: Membership, log: &dyn LogRead) {
        if let Some(refusal) = self.change_refused(&target) {
            self.outbox.push(Effect::Refuse { id, refusal });
            return;
        }
        let present = &self.present().1;
        let differing = present.voters().symmetric_difference(&target.voters()).count();
        let one_step = match differing {
            1 => mutant!(ChangeWithoutJoint, ChangeBeforeOwnCommit),
            _ => mutant!(ChangeWithoutJoint),
        };
        let next = if one_step { target } else { present.towards(target) };
        let index = self.append_membership(&next, log);
        self.outbox.push(Effect::Accepted { id, index, epoch: self.term });
        self.replicate(log);
    }

    fn change_refused(&self, target: &Membership) -> Option<Refusal> {
        let PartState::Leader(leading) = &self.part else { return Some(not_leader(self)) };
        if leading.transfer.is_some() {
            return Some(Refusal::Transferring);
        }
        let (at, present) = self.present();
        let established = self.is_established() || mutant!(ChangeBeforeOwnCommit);
        if !established || present.is_joint() || *at > self.commit {
            return Some(Refusal::ChangeInProgress);
        }
        let Config { promotion_lag_max, election_timeout_ms, .. } = self.config;
        present.refusal(target, |id| {
            leading.progress.get(&id).is_some_and(|progress| {
                progress.is_ready(self.commit, promotion_lag_max, self.now, election_timeout_ms)
            })
        })
    }

    fn append_membership(&mut self, membership: &Membership, log: &dyn LogRead) -> crate::id::Index {
        let index = self.view(log).last_index().next();
        self.lead_entry(Entry {
            index,
            epoch: self.term,
            kind: Kind::Membership,
            payload: membership.encode(),
        });
        self.follow_membership();
        index
    }

    /// Starts and stops sending as the membership in force says.
    fn follow_membership(&mut self) {
        let receivers = self.present().1.receivers();
        let (own, now) = (self.config.id, self.now);
        let PartState::Leader(leading) = &mut self.part else { return };
        let next = leading.first;
        leading.progress.retain(|id, _| *id == own || receivers.contains(id));
        for id in receivers {
            leading.progress.entry(id).or_insert_with(|| Progress::new(next, now));
        }
    }

    /// After a commit: a joint membership that is committed is left; a leader that left itself stops leading.
    pub(super) fn settle_membership(&mut self, log: &dyn LogRead) {
        let (at, present) = self.present();
        if *at > self.commit || !matches!(self.part, PartState::Leader(_)) {
            return;
        }
        if present.is_joint() {
            let settled = present.settled();
            self.append_membership(&settled, log);
        } else if !self.is_voter() {
            // Those who stay hear of the commit before the leader goes.
            self.heartbeat();
            self.become_follower(self.term, None);
            if self.present().1.removed.contains(&self.config.id) {
                self.removed = true;
                self.outbox.push(Effect::Removed);
            }
        }
    }
}
