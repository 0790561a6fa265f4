//! Phase 1: a quorum accepts a new epoch, and tells its histories.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Backlog, Body, Follower, FollowerStage, Following, Leading, PartState, Progress, Rounds, Stage, Vote,
    Zab, Zxid,
};
use crate::id::{Epoch, Index, MemberId};
use crate::log::LogRead;
use crate::mutants::mutant;

/// A leader that is not established within so many election timeouts gives up (ZooKeeper's `initLimit`, 10 ticks).
const ESTABLISH_TIMEOUTS: u64 = 10;

impl Zab {
    /// Follows `leader` from phase 1 on.
    pub(super) fn follow(&mut self, leader: MemberId, _log: &dyn LogRead) {
        let give_up_at = self.now.after_ms(self.config.election_timeout_ms);
        self.part = PartState::Following(Following {
            leader,
            stage: Stage::Discovery,
            new_leader: None,
            history: None,
            give_up_at,
            ask_again_at: self.now,
        });
        self.ask_leader();
    }

    /// CEPOCH, until the leader answers.
    pub(super) fn ask_leader(&mut self) {
        let again_at = self.now.after_ms(self.config.heartbeat_interval_ms);
        let PartState::Following(following) = &mut self.part else { return };
        following.ask_again_at = again_at;
        let leader = following.leader;
        if following.stage == Stage::Discovery {
            self.send(leader, Body::FollowerInfo);
        }
    }

    /// This member was elected; it leads when a quorum follows.
    pub(super) fn lead(&mut self, log: &dyn LogRead) {
        let (own, now) = (self.config.id, self.now);
        let timeout_ms = self.config.election_timeout_ms;
        self.part = PartState::Leading(Box::new(Leading {
            stage: Stage::Discovery,
            infos: BTreeMap::from([(own, self.accepted_epoch)]),
            accepted: BTreeSet::new(),
            followers: BTreeMap::new(),
            own_write: None,
            initial: Index(0),
            establish_by: now.after_ms(ESTABLISH_TIMEOUTS * timeout_ms),
            beat_at: now,
            check_quorum_at: now.after_ms(timeout_ms),
            transfer: None,
            reads: Rounds::default(),
            backlog: Backlog::default(),
        }));
        self.count_infos(log);
    }

    /// CEPOCH of a follower.
    pub(super) fn follower_came(&mut self, from: MemberId, accepted: Epoch, log: &dyn LogRead) {
        self.decide_early(from, log);
        let votes = self.present().1.quorum().contains(from);
        let (own_epoch, now) = (self.accepted_epoch, self.now);
        let PartState::Leading(leading) = &mut self.part else { return };
        if !leading.infos.is_empty() {
            if votes {
                leading.infos.insert(from, accepted);
            }
            return self.count_infos(log);
        }
        if accepted > own_epoch && votes {
            // It can't follow an epoch that is behind its own; a new election finds one for all.
            return self.look(false, log);
        }
        let progress = Progress::new(Index(1), now);
        leading.followers.insert(from, Follower { stage: FollowerStage::Informed, progress });
        self.send(from, Body::LeaderInfo);
    }

    /// NEWEPOCH when a quorum has told what it accepted: the new epoch is above all of that.
    fn count_infos(&mut self, log: &dyn LogRead) {
        let (own, now, quorum) = (self.config.id, self.now, self.present().1.quorum());
        let PartState::Leading(leading) = &mut self.part else { return };
        if leading.infos.is_empty() || !quorum.reached(|id| leading.infos.contains_key(&id)) {
            return;
        }
        let infos = std::mem::take(&mut leading.infos);
        let highest = infos.values().copied().max().unwrap_or_default().max(self.accepted_epoch);
        self.accepted_epoch = Epoch(highest.0 + 1);
        self.accepted_from = Some(own);
        leading.own_write = Some(self.outbox.this_write());
        for id in infos.into_keys().filter(|id| *id != own) {
            let progress = Progress::new(Index(1), now);
            if let PartState::Leading(leading) = &mut self.part {
                leading.followers.insert(id, Follower { stage: FollowerStage::Informed, progress });
            }
            self.send(id, Body::LeaderInfo);
        }
        self.count_accepted(log);
    }

    /// A follower's answer to NEWEPOCH. An epoch is acknowledged to one leader only; to another one that found the same number
    /// the follower tells its history, which does not count.
    pub(super) fn epoch_told(&mut self, from: MemberId, epoch: Epoch, log: &dyn LogRead) {
        let last = self.last(log);
        let give_up_at = self.now.after_ms(self.config.election_timeout_ms);
        let (accepted, PartState::Following(following)) = (self.accepted_epoch, &mut self.part) else {
            return;
        };
        if following.leader != from {
            return;
        }
        if epoch < accepted {
            return self.look(false, log);
        }
        if epoch > accepted {
            self.accepted_epoch = epoch;
            self.accepted_from = Some(from);
        }
        following.stage = Stage::Synchronisation;
        following.new_leader = None;
        following.history = None;
        following.give_up_at = give_up_at;
        self.leader = Some(from);
        let counts = self.accepted_from == Some(from) || mutant!(EpochAcknowledgedTwice);
        let current = self.current_epoch;
        self.send(from, Body::AckEpoch { current, last, counts });
    }

    /// ACK-E. A history that is better than this leader's ends its attempt.
    pub(super) fn epoch_accepted(
        &mut self,
        from: MemberId,
        current: Epoch,
        last: Zxid,
        counts: bool,
        log: &dyn LogRead,
    ) {
        let own = (self.current_epoch, self.last(log));
        let votes = self.present().1.quorum().contains(from);
        let PartState::Leading(leading) = &mut self.part else { return };
        let Some(follower) = leading.followers.get_mut(&from) else { return };
        // Later, one that heard NEWEPOCH again starts over.
        if follower.stage != FollowerStage::Informed && leading.stage == Stage::Discovery {
            return;
        }
        follower.stage = FollowerStage::Accepted(last);
        if leading.stage != Stage::Discovery {
            return self.synchronise(from, log);
        }
        let better = (current, last) > own && !mutant!(LeaderWithWorseHistory);
        if votes && better {
            return self.give_up_for(Vote { current, last, priority: 0, leader: from }, log);
        }
        if votes && !counts {
            return self.look(false, log);
        }
        leading.accepted.insert(from);
        self.count_accepted(log);
    }

    /// Phase 1 ends when a quorum, this member included, has durably accepted the epoch.
    pub(super) fn count_accepted(&mut self, log: &dyn LogRead) {
        let (own, quorum) = (self.config.id, self.present().1.quorum());
        let initial = self.view(log).last_index();
        let PartState::Leading(leading) = &mut self.part else { return };
        let accepted = |id| {
            if id == own { leading.own_write.is_none() } else { leading.accepted.contains(&id) }
        };
        if leading.stage != Stage::Discovery || !leading.infos.is_empty() || !quorum.reached(accepted) {
            return;
        }
        leading.stage = Stage::Synchronisation;
        leading.initial = initial;
        if mutant!(InitialHistoryCommittedEarly) {
            self.commit_to(initial);
        }
        self.make_own_current(log);
        self.synchronise_all(log);
    }

    /// What this member waited for is on its disk: its acceptance of the epoch, its history, or its current epoch.
    pub(super) fn own_write_persisted(&mut self, log: &dyn LogRead) {
        let PartState::Leading(leading) = &mut self.part else { return };
        if !leading.own_write.is_some_and(|write| self.outbox.is_persisted(write)) {
            return;
        }
        leading.own_write = None;
        match leading.stage {
            Stage::Discovery => self.count_accepted(log),
            Stage::Synchronisation => self.make_own_current(log),
            Stage::Acknowledged | Stage::Broadcast => {}
        }
    }
}
