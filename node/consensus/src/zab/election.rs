//! Phase 0: ZooKeeper's fast leader election (`FastLeaderElection.java`). It finds a likely leader with the best history; it
//! is never needed for safety, which discovery gives.

use std::collections::BTreeMap;

use super::{Body, Notification, PartState, State, Vote, Zab};
use crate::id::{MemberId, Time};
use crate::log::LogRead;

/// A member that looks for a leader.
#[derive(Clone, Debug, Hash)]
pub(super) struct Looking {
    /// Whom it votes for; `None` before the election of a start.
    vote: Option<Vote>,
    /// It votes, or voted, for itself.
    stands: bool,
    /// Votes of this round.
    heard: BTreeMap<MemberId, Vote>,
    ask_again_at: Time,
    /// A quorum agrees; until then somebody better may still speak.
    settled_at: Option<Time>,
    /// The vote for a voter whose better history ended this member's attempt to lead.
    nominated: Option<Vote>,
}

impl Looking {
    /// After a start: the first election begins at `at`.
    pub(super) fn from_start(at: Time) -> Self {
        Self {
            vote: None,
            stands: false,
            heard: BTreeMap::new(),
            ask_again_at: at,
            settled_at: None,
            nominated: None,
        }
    }

    pub(super) fn deadline(&self) -> Time {
        self.settled_at.map_or(self.ask_again_at, |at| at.min(self.ask_again_at))
    }
}

impl Zab {
    /// Leaves what it was doing and looks for a leader in a new round. `favoured`: the last leader wants this member.
    pub(super) fn look(&mut self, favoured: bool, log: &dyn LogRead) {
        self.stop_leading();
        self.leader = None;
        if self.removed {
            return;
        }
        self.round += 1;
        let own = self.own_vote(favoured, log);
        self.part = PartState::Looking(Looking {
            vote: own,
            stands: own.is_some(),
            heard: own.map(|vote| (self.config.id, vote)).into_iter().collect(),
            ask_again_at: self.ask_again_at(),
            settled_at: None,
            nominated: None,
        });
        self.tell_vote();
        self.tally(log);
    }

    /// Gives up for a voter with a better history, and votes for it. Memberships are in force where they are appended, so a leader
    /// may need a member that its own newest membership does not count, and that does not stand therefore: one that is left out by
    /// what only it has, or a learner whose promotion only others have. Voted for, it leads until what it has is decided.
    pub(super) fn give_up_for(&mut self, better: Vote, log: &dyn LogRead) {
        self.look(false, log);
        let witness = self.present().1.is_witness(better.leader);
        let id = self.config.id;
        let PartState::Looking(looking) = &mut self.part else { return };
        if witness {
            return;
        }
        looking.nominated = Some(better);
        looking.vote = looking.vote.max(looking.nominated);
        looking.heard.extend(looking.vote.map(|vote| (id, vote)));
        self.tell_vote();
        self.tally(log);
    }

    /// Members that started together or lost one leader speak at once; a little chance keeps them from doing so for ever.
    fn ask_again_at(&mut self) -> Time {
        let interval = self.config.heartbeat_interval_ms;
        self.now.after_ms(interval + self.random.draw() % interval.max(1))
    }

    /// What speaks for this member; nothing if it may not lead, or its disk is better left alone.
    fn own_vote(&self, favoured: bool, log: &dyn LogRead) -> Option<Vote> {
        let priority = self.present().1.member(self.config.id).map_or(0, |member| member.leader_priority);
        let may = self.may_lead() && self.disk.may_stand(self.now, &self.config);
        may.then(|| Vote {
            current: self.current_epoch,
            last: self.last(log),
            priority: if favoured { u32::MAX } else { priority },
            leader: self.config.id,
        })
    }

    /// Whether it may lead when others vote for it though it does not stand: see [`Self::give_up_for`].
    fn may_lead_if_needed(&self) -> bool {
        let witness = self.present().1.is_witness(self.config.id);
        !witness && self.disk.may_stand(self.now, &self.config)
    }

    fn notification(&self) -> Notification {
        let (state, vote) = match &self.part {
            PartState::Looking(looking) => (State::Looking, looking.vote),
            PartState::Following(_) => (State::Following, None),
            PartState::Leading(_) => (State::Leading, None),
        };
        Notification { round: self.round, state, vote }
    }

    fn tell_vote(&mut self) {
        let notification = self.notification();
        let mut hearers = self.present().1.quorum().voters();
        if let PartState::Looking(looking) = &self.part {
            // Who votes or stands may be a voter by a change that this member has not heard of.
            hearers.extend(looking.heard.keys());
            hearers.extend(looking.vote.map(|vote| vote.leader));
        }
        for voter in hearers {
            if voter != self.config.id {
                self.send(voter, Body::Notification(notification));
            }
        }
    }

    pub(super) fn tick_looking(&mut self, log: &dyn LogRead) {
        let again_at = self.ask_again_at();
        let PartState::Looking(looking) = &mut self.part else { return };
        let begun = looking.vote.is_some() || self.round > 0;
        if !begun {
            return self.look(false, log);
        }
        if looking.settled_at.is_some_and(|at| self.now >= at) {
            return self.decide(log);
        }
        let waits = !looking.stands && self.own_vote(false, log).is_some();
        if waits {
            // Nobody else came to lead.
            return self.look(false, log);
        }
        let PartState::Looking(looking) = &mut self.part else { return };
        if self.now >= looking.ask_again_at {
            looking.ask_again_at = again_at;
            self.tell_vote();
        }
    }

    pub(super) fn notified(&mut self, from: MemberId, told: Notification, log: &dyn LogRead) {
        match (&self.part, told.state) {
            (PartState::Looking(_), State::Looking) => self.vote_told(from, told, log),
            // What it had said before its process ended may still arrive; one that lives says it again.
            (PartState::Looking(_), State::Leading) if self.is_gone(from) => {}
            (PartState::Looking(_), State::Leading) => self.follow(from, log),
            (PartState::Following(_) | PartState::Leading(_), State::Looking) => {
                let notification = self.notification();
                self.send(from, Body::Notification(notification));
            }
            (PartState::Looking(_), State::Following)
            | (PartState::Following(_) | PartState::Leading(_), State::Following | State::Leading) => {}
        }
    }

    fn is_gone(&self, leader: MemberId) -> bool {
        let recently = |at| self.now.since_ms(at) < self.config.heartbeat_interval_ms;
        self.gone.is_some_and(|(gone, at)| gone == leader && recently(at))
    }

    fn vote_told(&mut self, from: MemberId, told: Notification, log: &dyn LogRead) {
        let quorum = self.present().1.quorum();
        let own = self.own_vote(false, log);
        let id = self.config.id;
        let leads_if_needed = self.may_lead_if_needed();
        let (round, PartState::Looking(looking)) = (self.round, &mut self.part) else { return };
        if told.round < round {
            let notification = self.notification();
            return self.send(from, Body::Notification(notification));
        }
        let before = looking.vote;
        if told.round > round {
            self.round = told.round;
            looking.heard.clear();
            looking.stands = own.is_some();
            // What was favoured in this member's own round stays so.
            looking.vote = own.max(looking.vote.filter(|vote| vote.leader == id)).max(looking.nominated);
        }
        // One without a vote tells its round all the same: it answers no lower one, and may be a voter by a change that it has not
        // heard of. So may the candidate: its history decides, not this one.
        if let Some(theirs) = told.vote.filter(|vote| vote.leader != id || looking.stands || leads_if_needed)
        {
            looking.stands |= theirs.leader == id;
            looking.vote = looking.vote.max(Some(theirs));
            looking.heard.insert(from, theirs);
        }
        if let Some(vote) = looking.vote.filter(|_| quorum.contains(id)) {
            looking.heard.insert(id, vote);
        }
        if looking.vote != before || told.round > round {
            looking.settled_at = None;
            self.tell_vote();
        }
        self.tally(log);
    }

    /// Decides at once when all voters agree, and a little later when a quorum does.
    fn tally(&mut self, log: &dyn LogRead) {
        let quorum = self.present().1.quorum();
        let settle_at = self.now.after_ms(self.config.heartbeat_interval_ms / 2);
        let PartState::Looking(looking) = &mut self.part else { return };
        let Some(vote) = looking.vote else { return };
        let agrees = |id: &MemberId| looking.heard.get(id).is_some_and(|heard| heard.leader == vote.leader);
        if quorum.voters().iter().all(agrees) {
            return self.decide(log);
        }
        if quorum.reached(|id| agrees(&id)) {
            looking.settled_at.get_or_insert(settle_at);
        } else {
            looking.settled_at = None;
        }
    }

    fn decide(&mut self, log: &dyn LogRead) {
        let PartState::Looking(looking) = &self.part else { return };
        match looking.vote {
            Some(vote) if vote.leader == self.config.id => self.lead(log),
            Some(vote) => self.follow(vote.leader, log),
            None => {}
        }
    }

    /// A voter that comes as a follower has decided for this member: with a quorum of those there is no more to wait for.
    pub(super) fn decide_early(&mut self, from: MemberId, log: &dyn LogRead) {
        let (id, quorum) = (self.config.id, self.present().1.quorum());
        let PartState::Looking(looking) = &mut self.part else { return };
        let Some(vote) = looking.vote.filter(|vote| vote.leader == id) else { return };
        looking.heard.insert(from, vote);
        if quorum.reached(|id| looking.heard.get(&id).is_some_and(|heard| heard.leader == vote.leader)) {
            self.lead(log);
        }
    }
}
