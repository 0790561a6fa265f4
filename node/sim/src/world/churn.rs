//! Members come, are promoted, and go for good; lost ones are replaced, as the operator would have it.

use quorate_consensus::id::MemberId;
use quorate_consensus::membership::{Member, Membership, Role};
use quorate_replica::change::MembershipChange;
use quorate_replica::event::{Event, GroupId, Request, RequestId};
use quorate_replica::output::{Answer, Failure};

use super::clients::PATIENCE_MS;
use super::machine::Machine;
use super::{Happening, World};
use crate::seed;

/// Machines that a world has in its whole life at most, those that replace lost ones left out.
const MACHINES_MAX: u64 = 8;
/// Voters are removed down to so many.
pub(super) const VOTERS_MIN: usize = 3;
/// The operator looks this often.
const LOOK_MS: u64 = 700;

/// A member as the world names it.
pub(super) fn member(seed: u64, id: u64, role: Role) -> Member {
    Member {
        id: MemberId(id),
        name: format!("m{id}"),
        peer_urls: vec![format!("sim://{id}")],
        client_urls: Vec::new(),
        role,
        zone: String::new(),
        leader_priority: seed::leader_priority(seed, id),
    }
}

impl World {
    /// Some member, and the membership that it knows.
    fn asked(&mut self) -> Option<(MemberId, Membership)> {
        let up: Vec<MemberId> =
            self.machines.iter().filter(|(_, machine)| machine.host.is_some()).map(|(&id, _)| id).collect();
        let asked = *up.get(self.random.below(up.len() as u64) as usize)?;
        let replica = self.machines[&asked].host.as_ref()?.replica(GroupId::DEFAULT)?;
        Some((asked, replica.membership().clone()))
    }

    fn next_machine(&self) -> u64 {
        self.machines.len() as u64 + 1
    }

    pub(super) fn ask_change(&mut self, asked: MemberId, class: &'static str, change: MembershipChange) {
        self.moment += 1;
        let id = RequestId(self.moment);
        self.changes.insert((asked, id), class);
        if let MembershipChange::Promote(learner) = change {
            self.may_vote.insert(learner);
        }
        self.change_asked = self.now;
        let deadline = self.local(asked).after_ms(PATIENCE_MS);
        self.event(asked, Event::Request { id, request: Request::Change(change), deadline });
    }

    /// Asks some member for a change that fits what that member knows.
    pub(super) fn churn(&mut self) -> bool {
        self.asked().is_some_and(|(asked, _)| self.churn_at(asked))
    }

    /// A member that was elected a moment ago is asked at once: nothing of its epoch is committed yet.
    pub(super) fn churn_early(&mut self, leader: MemberId) {
        if !self.churns || self.schedule.faults.is_empty() {
            return;
        }
        if let Some(ambush) = self.ambush {
            self.plan_ambush(ambush, leader);
        } else if self.random.chance(30) {
            self.plan(0, Happening::Churn { asked: leader });
        }
    }

    /// Asks this member for a change that fits what it knows.
    pub(super) fn churn_at(&mut self, asked: MemberId) -> bool {
        // One disruption at a time.
        let host = self.machines.get(&asked).and_then(|machine| machine.host.as_ref());
        let Some(replica) = host.and_then(|host| host.replica(GroupId::DEFAULT)) else { return false };
        if !self.atlas.is_sound() {
            return false;
        }
        let membership = replica.membership().clone();
        if self.random.chance(10) {
            return self.move_member(asked, &membership);
        }
        if self.witnesses > 0 && self.random.chance(70) {
            return self.change_witnesses(asked, &membership);
        }
        let learner = membership.members.values().find(|member| member.role == Role::Learner);
        let voters: Vec<MemberId> = membership.voters().into_iter().collect();
        let next = self.next_machine();
        let replaced = voters.get(self.random.below(2 * voters.len() as u64) as usize).copied();
        let (class, change) = match (learner, self.random.below(3)) {
            (Some(learner), 0 | 1) => ("learner promoted", MembershipChange::Promote(learner.id)),
            (_, 2) if voters.len() > VOTERS_MIN => {
                let leaving = voters[self.random.below(voters.len() as u64) as usize];
                ("member removed", MembershipChange::Remove(leaving))
            }
            (None, _) if next <= MACHINES_MAX => {
                let mut newcomer = member(self.seed, next, Role::Learner);
                let urls = replaced.and_then(|id| Some(membership.member(id)?.peer_urls.clone()));
                let class = if urls.is_some() { "learner added in a voter's place" } else { "learner added" };
                newcomer.peer_urls = urls.unwrap_or(newcomer.peer_urls);
                (class, MembershipChange::Add { member: newcomer, replaces: replaced })
            }
            (_, _) => return false,
        };
        self.ask_change(asked, class, change);
        true
    }

    /// A witness goes, or one comes while there are fewer than there should be.
    fn change_witnesses(&mut self, asked: MemberId, membership: &Membership) -> bool {
        let present: Vec<MemberId> =
            membership.members.keys().copied().filter(|id| membership.is_witness(*id)).collect();
        let next = self.next_machine();
        if present.len() as u64 >= self.witnesses {
            let leaving = present[self.random.below(present.len() as u64) as usize];
            self.ask_change(asked, "witness removed", MembershipChange::Remove(leaving));
        } else if next <= MACHINES_MAX {
            let member = member(self.seed, next, Role::Witness);
            self.may_vote.insert(member.id);
            self.ask_change(asked, "witness added", MembershipChange::Add { member, replaces: None });
        } else {
            return false;
        }
        true
    }

    /// A member gets another URL.
    fn move_member(&mut self, asked: MemberId, membership: &Membership) -> bool {
        let ids: Vec<MemberId> = membership.members.keys().copied().collect();
        let Some(&id) = ids.get(self.random.below(ids.len() as u64) as usize) else { return false };
        self.moment += 1;
        let urls = vec![format!("sim://{id}/{}", self.moment)];
        self.ask_change(asked, "member moved", MembershipChange::UpdatePeerUrls(id, urls));
        true
    }

    /// Looks for lost members, and takes the next step of replacing one: a new member with the lost one's URLs joins as a
    /// learner, is promoted, and the lost id leaves in the same change.
    pub(super) fn operate(&mut self) {
        self.plan(LOOK_MS, Happening::Operate);
        if !self.plans_changes {
            return;
        }
        let lost = |world: &Self, id: &MemberId| world.machines.get(id).is_some_and(|machine| machine.lost);
        let Some((asked, membership)) = self.asked() else { return };
        let Some(gone) = membership.members.values().find(|member| lost(self, &member.id)).cloned() else {
            return;
        };
        // Nobody needs a lost learner, even where the voter lives in whose place it was added.
        if gone.role == Role::Learner {
            return self.ask_change(asked, "lost learner removed", MembershipChange::Remove(gone.id));
        }
        let stands_in = |other: &&Member| other.id != gone.id && other.peer_urls == gone.peer_urls;
        match membership.members.values().find(stands_in) {
            // A replacement that was lost, too, or a learner that nobody needs any more, leaves.
            Some(other) if lost(self, &other.id) => {
                let id = if other.role == Role::Learner { other.id } else { gone.id };
                self.ask_change(asked, "lost member removed", MembershipChange::Remove(id));
            }
            Some(other) if other.role == Role::Learner => {
                self.ask_change(asked, "lost member replaced", MembershipChange::Promote(other.id));
            }
            Some(_) => {}
            None => {
                let newcomer = Member {
                    peer_urls: gone.peer_urls.clone(),
                    ..member(self.seed, self.next_machine(), Role::Learner)
                };
                let change = MembershipChange::Add { member: newcomer, replaces: Some(gone.id) };
                self.ask_change(asked, "replacement added", change);
            }
        }
    }

    /// A change was decided or refused. Whoever is new starts with the membership that it was told, as a process does that
    /// asks its peers.
    pub(super) fn changed(&mut self, class: &'static str, result: Result<Answer, Failure>) {
        let Ok(Answer::Changed(membership)) = result else { return };
        self.tell(|| format!("{class}: voters {:?}", membership.voters()));
        *self.report.changes.entry(class).or_default() += 1;
        if class == "lost member replaced" {
            self.reached("lost member replaced");
        }
        self.start_newcomers(&membership);
    }

    /// Starts members that have no machine yet, and lets go those that were removed while they were lost.
    pub(super) fn start_newcomers(&mut self, membership: &Membership) {
        let missing = membership.members.keys().copied().filter(|id| !self.machines.contains_key(id));
        for id in missing.collect::<Vec<_>>() {
            if membership.is_witness(id) {
                self.without_data.insert(id);
            }
            self.machines.insert(id, Machine::new(membership.clone()));
            self.boot(id);
        }
        let gone = membership.removed.iter().copied();
        for id in
            gone.filter(|id| self.machines.get(id).is_some_and(|machine| machine.lost)).collect::<Vec<_>>()
        {
            self.change_machine(id, |machine| machine.retired = true);
            self.atlas.forget(id);
        }
    }

    /// The member learnt that it was removed: its process ends for good.
    pub(super) fn retire(&mut self, id: MemberId) {
        self.tell(|| format!("member {id} was told that it was removed"));
        self.reached("removed member told");
        self.change_machine(id, |machine| machine.retired = true);
        self.kill(id);
        self.atlas.forget(id);
    }

    /// The membership that the newest established leader has, if there is one.
    pub(super) fn membership(&self) -> Option<&Membership> {
        let replicas = self.hosts().filter_map(|host| host.replica(GroupId::DEFAULT));
        let leaders = replicas.filter(|replica| replica.status().established);
        leaders.max_by_key(|replica| replica.status().epoch).map(|replica| replica.membership())
    }

    /// The newest established leader.
    pub(super) fn leader(&self) -> Option<MemberId> {
        let statuses = self.hosts().filter_map(|host| host.status(GroupId::DEFAULT));
        statuses.filter(|status| status.established).max_by_key(|status| status.epoch).map(|status| status.id)
    }
}
