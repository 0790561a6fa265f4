//! Changes of the membership.

use super::{FollowerStage, PartState, Zab};
use crate::config::Config;
use crate::effect::{Effect, Refusal};
use crate::entry::{Entry, Kind};
use crate::id::Index;
use crate::input::ProposalId;
use crate::log::LogRead;
use crate::membership::Membership;

impl Zab {
    pub(super) fn propose_membership(&mut self, id: ProposalId, target: Membership, log: &dyn LogRead) {
        if let Some(refusal) = self.change_refused(&target) {
            self.outbox.push(Effect::Refuse { id, refusal });
            return;
        }
        let next = self.present().1.towards(target);
        let index = self.append_membership(&next, log);
        self.outbox.push(Effect::Accepted { id, index, epoch: self.accepted_epoch });
        self.replicate(log);
    }

    fn change_refused(&self, target: &Membership) -> Option<Refusal> {
        let PartState::Leading(leading) = &self.part else { return Some(self.not_leader()) };
        if leading.transfer.is_some() {
            return Some(Refusal::Transferring);
        }
        let (at, present) = self.present();
        if !self.is_established() || present.is_joint() || *at > self.commit {
            return Some(Refusal::ChangeInProgress);
        }
        let Config { promotion_lag_max, election_timeout_ms, .. } = self.config;
        present.refusal(target, |id| {
            leading.followers.get(&id).is_some_and(|follower| {
                let ready = |commit| {
                    follower.progress.is_ready(commit, promotion_lag_max, self.now, election_timeout_ms)
                };
                follower.stage == FollowerStage::Synced && ready(self.commit)
            })
        })
    }

    fn append_membership(&mut self, membership: &Membership, log: &dyn LogRead) -> Index {
        let index = self.view(log).last_index().next();
        let payload = membership.encode();
        self.lead_entry(Entry { index, epoch: self.accepted_epoch, kind: Kind::Membership, payload });
        let receivers = self.present().1.receivers();
        if let PartState::Leading(leading) = &mut self.part {
            leading.followers.retain(|id, _| receivers.contains(id));
        }
        index
    }

    /// After a commit: new voters that a quorum of the old and of the new has are activated; a leader that left itself stops.
    pub(super) fn settle_membership(&mut self, log: &dyn LogRead) {
        let (at, present) = self.present();
        if *at > self.commit || !self.is_established() {
            return;
        }
        if present.is_joint() {
            let settled = present.settled();
            self.append_membership(&settled, log);
            self.replicate(log);
        } else if !self.is_voter() {
            // Those who stay hear of the commit before the leader goes.
            self.ping(false);
            if self.present().1.removed.contains(&self.config.id) {
                self.leave();
            } else {
                self.look(false, log);
            }
        }
    }
}
