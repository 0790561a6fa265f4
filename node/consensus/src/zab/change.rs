//! Changes of the membership, and handing leadership over.

use super::{Body, FollowerStage, PartState, Zab};
use crate::config::Config;
use crate::effect::{Effect, Refusal};
use crate::entry::{Entry, Kind};
use crate::id::{Index, MemberId, Time};
use crate::input::ProposalId;
use crate::log::LogRead;
use crate::membership::Membership;

/// A hand-over under way: no proposals are taken until it is over.
#[derive(Debug)]
pub(super) struct Transfer {
    to: MemberId,
    /// One election timeout after it began the leader goes on leading.
    pub(super) give_up_at: Time,
}

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

    pub(super) fn transfer(&mut self, to: Option<MemberId>, log: &dyn LogRead) {
        let membership = &self.present().1;
        let voters = membership.voters();
        let PartState::Leading(leading) = &self.part else { return };
        let candidates = leading
            .followers
            .iter()
            .filter(|(id, it)| it.stage == FollowerStage::Synced && voters.contains(id));
        let best = candidates.max_by_key(|(id, it)| {
            let priority = membership.member(**id).map_or(0, |member| member.leader_priority);
            (Some(**id) == to, it.progress.active_at, priority, it.progress.matched)
        });
        let Some((&chosen, _)) = best else { return };
        if to.is_some_and(|to| to != chosen) {
            return;
        }
        let give_up_at = self.now.after_ms(self.config.election_timeout_ms);
        if let PartState::Leading(leading) = &mut self.part {
            leading.transfer = Some(Transfer { to: chosen, give_up_at });
        }
        self.continue_transfer(chosen, log);
    }

    /// When the successor has everything, all go into an election in which its vote is the best.
    pub(super) fn continue_transfer(&mut self, from: MemberId, log: &dyn LogRead) {
        let last = self.view(log).last_index();
        let PartState::Leading(leading) = &self.part else { return };
        let caught_up = leading.followers.get(&from).is_some_and(|it| it.progress.matched == last);
        if caught_up && leading.transfer.as_ref().is_some_and(|transfer| transfer.to == from) {
            for id in self.synced_followers() {
                self.send(id, Body::Abdicate { successor: from });
            }
            self.look(false, log);
        }
    }
}
