//! Elections: pre-vote, vote, and what a member may grant.

use std::collections::BTreeMap;

use super::{Body, Leading, PartState, Progress, Raft, Rounds};
use crate::effect::Effect;
use crate::entry::{Entry, Kind};
use crate::flow::Backlog;
use crate::id::{Epoch, Index, MemberId, WriteId};
use crate::log::LogRead;
use crate::mutants::mutant;
use crate::quorum::Outcome;

/// A candidate's count. A pre-candidate has not raised its term yet.
#[derive(Clone, Debug, Hash)]
pub(super) struct Campaign {
    pre: bool,
    votes: BTreeMap<MemberId, bool>,
    /// The write that makes the vote for itself durable; it counts only then.
    own_vote: Option<WriteId>,
}

impl Raft {
    /// The election timer ran out.
    pub(super) fn stand(&mut self, log: &dyn LogRead) {
        self.hurry.stood();
        self.reset_election_timer();
        self.leader = None;
        if self.may_lead() && self.disk.may_stand(self.now, &self.config) {
            self.campaign(true, false, log);
        }
    }

    /// The leader wants this member to succeed it: no pre-vote, no protection of the leader.
    pub(super) fn told_to_stand(&mut self, from: MemberId, log: &dyn LogRead) {
        let fit = self.disk.is_fit(self.now, &self.config);
        if self.leader == Some(from) && self.may_lead() && fit {
            self.reset_election_timer();
            self.leader = None;
            self.campaign(false, true, log);
        }
    }

    fn campaign(&mut self, pre: bool, forced: bool, log: &dyn LogRead) {
        let own = self.config.id;
        let mut campaign = Campaign { pre, votes: BTreeMap::new(), own_vote: None };
        let asked_term = Epoch(self.term.0 + 1);
        if pre {
            campaign.votes.insert(own, true);
        } else {
            self.term = asked_term;
            self.vote = Some(own);
            campaign.own_vote = Some(self.outbox.this_write());
        }
        self.part = PartState::Candidate(campaign);
        let view = self.view(log);
        let (last_index, last_term) = (view.last_index(), view.last_epoch());
        for voter in self.present().1.quorum().voters() {
            if voter != own {
                self.send_in(asked_term, voter, Body::Vote { pre, forced, last_index, last_term });
            }
        }
        self.count_votes(log);
    }

    pub(super) fn own_vote_persisted(&mut self, log: &dyn LogRead) {
        let own = self.config.id;
        if let PartState::Candidate(campaign) = &mut self.part
            && campaign.own_vote.is_some_and(|write| self.outbox.is_persisted(write))
        {
            campaign.own_vote = None;
            campaign.votes.insert(own, true);
            self.count_votes(log);
        }
    }

    pub(super) fn vote_came(
        &mut self,
        from: MemberId,
        term: Epoch,
        pre: bool,
        granted: bool,
        log: &dyn LogRead,
    ) {
        let expected = if pre && granted { Epoch(self.term.0 + 1) } else { self.term };
        if let PartState::Candidate(campaign) = &mut self.part
            && campaign.pre == pre
            && term == expected
        {
            campaign.votes.insert(from, granted);
            self.count_votes(log);
        }
    }

    fn count_votes(&mut self, log: &dyn LogRead) {
        let PartState::Candidate(campaign) = &self.part else { return };
        let outcome = self.present().1.quorum().outcome(|id| campaign.votes.get(&id).copied());
        match (outcome, campaign.pre) {
            (Outcome::Open, _) => {}
            (Outcome::Won, true) => self.campaign(false, false, log),
            (Outcome::Won, false) => self.become_leader(log),
            (Outcome::Lost, _) => self.part = PartState::Follower,
        }
    }

    /// Thesis 3.4 and 3.6.1: one vote a term, only for a log at least as up to date as this one.
    pub(super) fn asked_for_vote(
        &mut self,
        from: MemberId,
        term: Epoch,
        pre: bool,
        theirs: (Epoch, Index),
        log: &dyn LogRead,
    ) {
        let view = self.view(log);
        let up_to_date = theirs >= (view.last_epoch(), view.last_index()) || mutant!(VoteForAnyLog);
        self.needed |= !up_to_date;
        let granted = up_to_date
            && if pre {
                term > self.term && !self.leader_is_alive()
            } else {
                (self.vote.is_none_or(|vote| vote == from) || mutant!(VoteTwice)) && self.leader.is_none()
            };
        if granted && !pre {
            self.vote = Some(from);
            self.reset_election_timer();
        }
        // A granted pre-vote speaks of the term that was asked about; this member has not reached it.
        let spoken = if pre && granted { term } else { self.term };
        self.send_in(spoken, from, Body::VoteReply { pre, granted });
    }

    fn become_leader(&mut self, log: &dyn LogRead) {
        let (own, now) = (self.config.id, self.now);
        let last = self.view(log).last_index();
        let receivers = self.present().1.receivers();
        let mut progress: BTreeMap<MemberId, Progress> =
            receivers.into_iter().map(|id| (id, Progress::new(last.next(), now))).collect();
        if let Some(mine) = progress.get_mut(&own) {
            mine.acknowledged(self.outbox.durable(), log.snapshot_index(), now);
        }
        self.leader = Some(own);
        self.part = PartState::Leader(Box::new(Leading {
            progress,
            first: last.next(),
            heartbeat_at: now,
            tell_commit: false,
            check_quorum_at: now.after_ms(self.config.election_timeout_ms),
            transfer: None,
            reads: Rounds::default(),
            backlog: Backlog::default(),
        }));
        let first =
            Entry { index: last.next(), epoch: self.term, kind: Kind::NoOp, payload: bytes::Bytes::new() };
        self.lead_entry(first);
        self.tick_leader(log);
        self.replicate(log);
    }

    /// Whether a member that was removed still knocks (thesis 4.2.3): it is told, once the removal is committed and the joint
    /// membership left. Until then its vote may be the one that is needed, and it may lead.
    pub(super) fn disturbs(&self, from: MemberId) -> bool {
        let (at, membership) = self.present();
        *at <= self.commit && membership.is_gone(from)
    }

    pub(super) fn told_removed(&mut self, from: MemberId) {
        let known = self.present().1.member(from).is_some();
        if known && !self.removed {
            self.removed = true;
            self.stop_leading();
            self.part = PartState::Follower;
            self.leader = None;
            self.outbox.push(Effect::Removed);
        }
    }
}
