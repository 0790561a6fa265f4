//! Members come, are promoted, and go for good, as the operator would have it.

use quorate_consensus::id::MemberId;
use quorate_consensus::membership::{Member, Membership, Role};
use quorate_replica::change::MembershipChange;
use quorate_replica::event::{Event, GroupId, Request, RequestId};
use quorate_replica::output::{Answer, Failure};

use super::World;
use super::clients::PATIENCE_MS;
use super::machine::Machine;

/// Machines that a world has in its whole life, at most.
const MACHINES_MAX: u64 = 8;
/// Voters are removed down to so many.
const VOTERS_MIN: usize = 3;

/// A member as the world names it.
pub(super) fn member(id: u64, role: Role) -> Member {
    Member {
        id: MemberId(id),
        name: format!("m{id}"),
        peer_urls: vec![format!("sim://{id}")],
        client_urls: Vec::new(),
        role,
        zone: String::new(),
        leader_priority: 0,
    }
}

impl World {
    /// Asks some member for a change that fits what that member knows.
    pub(super) fn churn(&mut self) {
        let up: Vec<MemberId> =
            self.machines.iter().filter(|(_, machine)| machine.host.is_some()).map(|(&id, _)| id).collect();
        if up.is_empty() {
            return;
        }
        let asked = up[self.random.below(up.len() as u64) as usize];
        let host = self.machines[&asked].host.as_ref();
        let Some(replica) = host.and_then(|host| host.replica(GroupId::DEFAULT)) else { return };
        let membership = replica.membership().clone();
        let learner = membership.members.values().find(|member| member.role == Role::Learner);
        let voters: Vec<MemberId> = membership.voters().into_iter().collect();
        let next = self.machines.len() as u64 + 1;
        let (class, change) = match (learner, self.random.below(3)) {
            (Some(learner), 0 | 1) => ("learner promoted", MembershipChange::Promote(learner.id)),
            (_, 2) if voters.len() > VOTERS_MIN => {
                let leaving = voters[self.random.below(voters.len() as u64) as usize];
                ("member removed", MembershipChange::Remove(leaving))
            }
            (None, _) if next <= MACHINES_MAX => {
                let newcomer = member(next, Role::Learner);
                ("learner added", MembershipChange::Add { member: newcomer, replaces: None })
            }
            (_, _) => return,
        };
        self.moment += 1;
        let id = RequestId(self.moment);
        self.changes.insert((asked, id), class);
        let deadline = self.local(asked).after_ms(PATIENCE_MS);
        self.event(asked, Event::Request { id, request: Request::Change(change), deadline });
    }

    /// A change was decided or refused. Whoever is new starts with the membership that it was told, as a process does that
    /// asks its peers.
    pub(super) fn changed(&mut self, class: &'static str, result: Result<Answer, Failure>) {
        let Ok(Answer::Changed(membership)) = result else { return };
        self.tell(|| format!("{class}: voters {:?}", membership.voters()));
        *self.report.faults.entry(class).or_default() += 1;
        self.start_newcomers(&membership);
    }

    /// Starts members that have no machine yet.
    pub(super) fn start_newcomers(&mut self, membership: &Membership) {
        let missing = membership.members.keys().copied().filter(|id| !self.machines.contains_key(id));
        for id in missing.collect::<Vec<_>>() {
            self.machines.insert(id, Machine::new(membership.clone()));
            self.boot(id);
        }
    }

    /// The member learnt that it was removed: its process ends for good.
    pub(super) fn retire(&mut self, id: MemberId) {
        self.tell(|| format!("member {id} was told that it was removed"));
        *self.report.reached.entry("removed member told").or_default() += 1;
        self.crash(id);
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.retired = true;
        }
    }

    /// The membership that the newest established leader has, if there is one.
    pub(super) fn membership(&self) -> Option<&Membership> {
        let replicas = self.hosts().filter_map(|host| host.replica(GroupId::DEFAULT));
        let leaders = replicas.filter(|replica| replica.status().established);
        leaders.max_by_key(|replica| replica.status().epoch).map(|replica| replica.membership())
    }
}
