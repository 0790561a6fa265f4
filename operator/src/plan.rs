//! From facts to the next steps. Pure: the same facts give the same plan, so a plan cut short is taken up again.
//!
//! Order of care: first what makes the cluster whole (finish a learner, replace a lost member), then growth, then shrinking,
//! then clearing up. At most one step changes the membership or takes a member down, and none does without a quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::crd::Phase;
use crate::placement::Place;

/// A learner may be this many entries behind when it is promoted: it has nearly everything, and what is missing arrives
/// in one append.
pub const PROMOTE_LAG_MAX: u64 = 500;

/// A learner that has not answered for so long is given up: its pod or its volume does not come back by itself. Each time
/// doubles it for the next one in the same pod.
pub const LEARNER_SILENT_MAX_S: u64 = 10 * 60;

/// That grows no further than this.
pub const LEARNER_PATIENCE_MAX_S: u64 = 6 * 60 * 60;

/// A learner that has not caught up after so long is given up, and begins anew: copying the data takes less.
pub const LEARNER_BEHIND_MAX_S: u64 = 6 * 60 * 60;

/// Which of the objects that have had a name is meant: what is deleted must be the one that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uid(pub String);

/// What is known of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Kubernetes' id for it.
    pub uid: Uid,
    /// Its container is ready.
    pub ready: bool,
    /// It is on its way out.
    pub deleting: bool,
    /// Its process ended saying that its data is lost, and does not run now.
    pub data_lost: bool,
    /// It was made from an older template.
    pub outdated: bool,
    /// Its Kubernetes node.
    pub node: Option<String>,
    /// Where it is reached while it runs.
    pub address: Option<IpAddr>,
}

/// What is known of one member of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFacts {
    /// Its id.
    pub id: u64,
    /// Its pod, by its peer URL.
    pub pod: String,
    /// It has told the cluster its client URLs.
    pub started: bool,
    /// It does not vote.
    pub learner: bool,
    /// It answered just now, knows the leader and has no error.
    pub healthy: bool,
    /// Its last applied index.
    pub applied: u64,
    /// Its size.
    pub size_bytes: i64,
    /// Seconds since it answered, or since it was first seen; 0 while it answers.
    pub silent_s: u64,
    /// Seconds since it was first seen as a learner.
    pub learner_s: u64,
    /// How many learners were given up in its pod since that had a voter.
    pub given_up: u32,
}

impl MemberFacts {
    /// How long a learner may be silent, in seconds.
    fn patience_s(&self) -> u64 {
        patience_s(self.given_up)
    }
}

/// How long a learner may be silent after so many that were given up.
fn patience_s(given_up: u32) -> u64 {
    LEARNER_SILENT_MAX_S.saturating_mul(2_u64.saturating_pow(given_up)).min(LEARNER_PATIENCE_MAX_S)
}

/// What the members say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The leader, confirmed by a quorum just now.
    pub leader: Option<u64>,
    /// The members.
    pub members: Vec<MemberFacts>,
}

/// Everything that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The founders as they were written down first.
    pub founders: Vec<Place>,
    /// The bootstrap is over; for ever.
    pub bootstrapped: bool,
    /// Where members should be, the last one goes first.
    pub wanted: Vec<Place>,
    /// Zones whose members are witnesses: they vote and hold no data.
    pub witness_zones: BTreeSet<String>,
    /// Places of all members there are, wanted or not.
    pub places: BTreeMap<String, Place>,
    /// Pods by name.
    pub pods: BTreeMap<String, PodFacts>,
    /// Volume claims by pod.
    pub claims: BTreeMap<String, Uid>,
    /// Replicas of the StatefulSets there are, by zone.
    pub replicas: BTreeMap<String, u32>,
    /// What the members say; `None` if none answered.
    pub store: Option<StoreFacts>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write down that the bootstrap is over.
    RecordBootstrap {
        /// The cluster's id.
        cluster_id: u64,
    },
    /// Add a learner.
    AddLearner {
        /// For this pod.
        pod: String,
        /// Instead of this member, which lost its data in the same pod.
        replaces: Option<u64>,
    },
    /// Add a witness.
    AddWitness {
        /// For this pod.
        pod: String,
    },
    /// Let a learner vote.
    Promote {
        /// Its id.
        id: u64,
        /// Its pod.
        pod: String,
    },
    /// Hand leadership over.
    MoveLeader {
        /// From this pod.
        from: String,
        /// To this member.
        to: u64,
    },
    /// Take a learner out that is lost or never catches up; it is added anew.
    GiveUpLearner {
        /// Its id.
        id: u64,
        /// Its pod.
        pod: String,
        /// What is wrong with it.
        why: String,
    },
    /// Take a member out.
    RemoveMember {
        /// Its id.
        id: u64,
        /// Its pod.
        pod: String,
    },
    /// Delete the volume claim of a pod that has no member.
    DeleteClaim {
        /// The pod.
        pod: String,
    },
    /// Delete a pod so that it comes back from the new template.
    RestartPod {
        /// The pod.
        pod: String,
    },
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RecordBootstrap { cluster_id } => {
                write!(f, "record that cluster {cluster_id:x} is bootstrapped")
            }
            Self::AddLearner { pod, replaces: None } => write!(f, "add {pod} as a learner"),
            Self::AddLearner { pod, replaces: Some(id) } => {
                write!(f, "replace member {id:x}, whose data is lost, by a new member in {pod}")
            }
            Self::AddWitness { pod } => write!(f, "add {pod} as a witness"),
            Self::Promote { id, pod } => write!(f, "promote {pod} ({id:x}) to voter"),
            Self::MoveLeader { from, to } => write!(f, "move leadership from {from} to {to:x}"),
            Self::GiveUpLearner { id, pod, why } => write!(f, "give up learner {pod} ({id:x}): {why}"),
            Self::RemoveMember { id, pod } => write!(f, "remove {pod} ({id:x}) from the store"),
            Self::DeleteClaim { pod } => write!(f, "delete the volume claim of {pod}"),
            Self::RestartPod { pod } => write!(f, "restart {pod}"),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Next, at most one.
    pub step: Option<Step>,
    /// Why nothing else is done yet.
    pub waiting_for: Option<String>,
    /// Replicas that each zone's StatefulSet should have.
    pub replicas: BTreeMap<String, u32>,
    /// Where the cluster stands.
    pub phase: Phase,
}

/// A majority.
#[must_use]
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

fn replicas<'a>(places: impl Iterator<Item = &'a Place>) -> BTreeMap<String, u32> {
    let mut replicas = BTreeMap::new();
    for place in places {
        let count: &mut u32 = replicas.entry(place.zone.clone()).or_default();
        *count = (*count).max(place.ordinal + 1);
    }
    replicas
}

/// Plans.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    if !facts.bootstrapped {
        return bootstrap(facts);
    }
    match &facts.store {
        Some(store) if store.leader.is_some() => maintain(facts, store),
        Some(_) | None => Plan {
            waiting_for: Some(why_unavailable(facts)),
            // Nothing grows or shrinks while nobody confirms the membership; zones that lost their set get it back.
            replicas: kept_replicas(facts),
            phase: Phase::Unavailable,
            step: None,
        },
    }
}

fn kept_replicas(facts: &Facts) -> BTreeMap<String, u32> {
    let mut kept = replicas(facts.wanted.iter().filter(|place| facts.claims.contains_key(&place.pod)));
    for (zone, count) in &facts.replicas {
        let most: &mut u32 = kept.entry(zone.clone()).or_default();
        *most = (*most).max(*count);
    }
    kept
}

fn why_unavailable(facts: &Facts) -> String {
    let ready = facts.pods.values().filter(|pod| pod.ready).count();
    format!(
        "a quorum of members: {ready} of {} pods are ready; see `kubectl describe pod` of the others",
        facts.pods.len()
    )
}

fn bootstrap(facts: &Facts) -> Plan {
    let mut plan =
        Plan { replicas: replicas(facts.founders.iter()), phase: Phase::Bootstrapping, ..Plan::default() };
    let started = |place: &Place| {
        let is_it = |member: &MemberFacts| member.pod == place.pod && member.started;
        facts.store.as_ref().is_some_and(|store| store.members.iter().any(is_it))
    };
    let missing: Vec<&str> =
        facts.founders.iter().filter(|place| !started(place)).map(|place| place.pod.as_str()).collect();
    match &facts.store {
        Some(store) if store.leader.is_some() && missing.is_empty() => {
            plan.step = Some(Step::RecordBootstrap { cluster_id: store.cluster_id });
        }
        Some(_) if missing.is_empty() => {
            plan.waiting_for = Some("the founding members to elect a leader".into())
        }
        // One that comes later than this is written down would be taken for one that lost its data.
        Some(_) | None => {
            let (all, there) = (facts.founders.len(), facts.founders.len() - missing.len());
            plan.waiting_for =
                Some(format!("founding members {} to start: {there} of {all} have", missing.join(", ")));
        }
    }
    plan
}

/// What a maintenance plan looks at.
struct View<'a> {
    facts: &'a Facts,
    store: &'a StoreFacts,
    leader: u64,
    voters: Vec<&'a MemberFacts>,
    healthy: usize,
}

impl Facts {
    /// Whether the member of this pod is a witness. A place never changes its role.
    #[must_use]
    pub fn is_witness(&self, pod: &str) -> bool {
        self.places.get(pod).is_some_and(|place| self.witness_zones.contains(&place.zone))
    }
}

impl<'a> View<'a> {
    fn new(facts: &'a Facts, store: &'a StoreFacts) -> Self {
        let voters: Vec<&MemberFacts> = store.members.iter().filter(|member| !member.learner).collect();
        let healthy = voters.iter().filter(|member| member.healthy).count();
        Self { facts, store, leader: store.leader.unwrap_or(0), voters, healthy }
    }

    fn is_wanted(&self, pod: &str) -> bool {
        self.facts.wanted.iter().any(|place| place.pod == pod)
    }

    /// The pod's process ended because its data is gone.
    fn has_lost_data(&self, pod: &str) -> bool {
        self.facts.pods.get(pod).is_some_and(|pod| pod.data_lost && !pod.deleting)
    }

    fn is_ending(&self, pod: &str) -> bool {
        self.facts.pods.get(pod).is_some_and(|pod| pod.deleting)
    }

    fn applied_max(&self) -> u64 {
        self.store.members.iter().map(|member| member.applied).max().unwrap_or(0)
    }

    /// Healthy voters that would be left without this one are still a quorum of the rest.
    fn can_spare(&self, id: u64) -> bool {
        let left = self.voters.iter().filter(|member| member.id != id && member.healthy).count();
        left >= quorum(self.voters.len().saturating_sub(1).max(1))
    }

    /// Without this one there are still more voters with data than witnesses, as the store demands.
    fn leaves_more_data(&self, leaver: &MemberFacts) -> bool {
        let left: Vec<_> = self.voters.iter().filter(|member| member.id != leaver.id).collect();
        let witnesses = left.iter().filter(|member| self.facts.is_witness(&member.pod)).count();
        left.len() > 2 * witnesses
    }

    /// The best one to lead instead of `id`.
    fn successor(&self, id: u64) -> Option<u64> {
        let can_lead = |member: &&&MemberFacts| member.healthy && !self.facts.is_witness(&member.pod);
        let candidates = self.voters.iter().filter(|member| member.id != id).filter(can_lead);
        candidates.max_by_key(|member| (self.is_wanted(&member.pod), member.applied)).map(|member| member.id)
    }
}

/// A step, or a reason to wait, or neither.
type Thought = Option<Result<Step, String>>;

fn maintain(facts: &Facts, store: &StoreFacts) -> Plan {
    let view = View::new(facts, store);
    let thoughts: [fn(&View<'_>) -> Thought; 6] =
        [finish_learner, replace_lost, grow, shrink, clear_claims, restart];
    let thought = thoughts.iter().find_map(|thought| thought(&view));
    let present = store.members.iter().filter_map(|member| facts.places.get(&member.pod));
    let whole = view.healthy == view.voters.len() && view.voters.len() == facts.wanted.len();
    let phase = match (&thought, whole) {
        (None, true) => Phase::Ready,
        (None, false) => Phase::Degraded,
        (Some(_), _) if view.healthy < view.voters.len() => Phase::Degraded,
        (Some(_), _) => Phase::Changing,
    };
    let (step, waiting_for) = match thought {
        None if whole => (None, None),
        None => (None, Some(unhealthy(&view))),
        Some(Ok(step)) => (Some(step), None),
        Some(Err(why)) => (None, Some(why)),
    };
    Plan { step, waiting_for, replicas: replicas(present), phase }
}

fn unhealthy(view: &View<'_>) -> String {
    let ill: Vec<&str> =
        view.voters.iter().filter(|member| !member.healthy).map(|member| member.pod.as_str()).collect();
    format!("{} to answer", ill.join(", "))
}

/// A learner that was added becomes a voter, or leaves if it is not wanted any more.
fn finish_learner(view: &View<'_>) -> Thought {
    let learner = view.store.members.iter().find(|member| member.learner)?;
    let (id, pod) = (learner.id, learner.pod.clone());
    // A learner becomes a member with data: in a witness's place it was added by somebody else.
    if !view.is_wanted(&pod) || view.facts.is_witness(&pod) {
        return Some(Ok(Step::RemoveMember { id, pod }));
    }
    if let Some(why) = lost_learner(view, learner) {
        return Some(Ok(Step::GiveUpLearner { id, pod, why }));
    }
    let behind = view.applied_max().saturating_sub(learner.applied);
    Some(match (learner.started, learner.healthy) {
        // Its pod was made before it was added, and ended for want of its data: a new start joins.
        (false, _) if view.has_lost_data(&pod) => Ok(Step::RestartPod { pod }),
        (false, _) => Err(format!("{pod} to start and join as a learner{}", patience(learner))),
        (true, false) => Err(format!("learner {pod} to answer{}", patience(learner))),
        (true, true) if behind > PROMOTE_LAG_MAX => {
            Err(format!("learner {pod} to catch up: {behind} entries behind"))
        }
        // A pod that was told to end serves a little longer; as a voter it would be missed.
        (true, true) if view.is_ending(&pod) => Err(format!("{pod} to end and come back")),
        (true, true) => Ok(Step::Promote { id, pod }),
    })
}

/// When a learner is given up, where others were before.
fn patience(learner: &MemberFacts) -> String {
    match learner.given_up {
        0 => String::new(),
        1 => format!(" within {} min; one was given up here", learner.patience_s() / 60),
        count => format!(" within {} min; {count} were given up here", learner.patience_s() / 60),
    }
}

/// Why a learner will not become a voter any more, if so. It holds nothing that others lack, so that taking it out is safe.
fn lost_learner(view: &View<'_>, learner: &MemberFacts) -> Option<String> {
    let behind = view.applied_max().saturating_sub(learner.applied);
    // The first one is replaced at once; a volume that loses its data again and again is not worth a new member each time.
    let data_lost = learner.started && !learner.healthy && view.has_lost_data(&learner.pod);
    let pause_s = learner.given_up.checked_sub(1).map_or(0, patience_s);
    if data_lost && learner.silent_s >= pause_s {
        Some("its data is lost".to_owned())
    } else if !learner.healthy && learner.silent_s >= learner.patience_s() {
        Some(format!("no answer for {} min", learner.silent_s / 60))
    } else if learner.healthy && behind > PROMOTE_LAG_MAX && learner.learner_s >= LEARNER_BEHIND_MAX_S {
        Some(format!("still {behind} entries behind after {} min", learner.learner_s / 60))
    } else {
        None
    }
}

/// A pod whose process says that its data is gone gets a new member; the old one leaves when that votes. A witness leaves first:
/// the new one has nothing to catch up with.
fn replace_lost(view: &View<'_>) -> Thought {
    let lost = view.voters.iter().find(|member| !member.healthy && view.has_lost_data(&member.pod))?;
    if !view.is_wanted(&lost.pod) {
        return None;
    }
    if view.healthy < quorum(view.voters.len()) {
        return Some(Err(format!("a quorum, to replace {} whose data is lost", lost.pod)));
    }
    let (id, pod) = (lost.id, lost.pod.clone());
    if view.facts.is_witness(&pod) {
        return Some(if view.can_spare(id) {
            Ok(Step::RemoveMember { id, pod })
        } else {
            Err(format!("{}, before lost witness {pod} is removed", unhealthy(view)))
        });
    }
    Some(Ok(Step::AddLearner { pod, replaces: Some(id) }))
}

fn grow(view: &View<'_>) -> Thought {
    let has_member = |place: &&Place| view.store.members.iter().any(|member| member.pod == place.pod);
    let missing = view.facts.wanted.iter().find(|place| !has_member(place))?;
    if view.healthy < view.voters.len() {
        return Some(Err(format!("{}, before {} is added", unhealthy(view), missing.pod)));
    }
    let pod = missing.pod.clone();
    if view.facts.pods.contains_key(&pod) {
        return Some(Err(format!("the former pod {pod} to be gone")));
    }
    if view.facts.claims.contains_key(&pod) {
        // What a former member of this place left is not this cluster's state any more.
        return Some(Ok(Step::DeleteClaim { pod }));
    }
    if view.facts.is_witness(&pod) {
        return Some(Ok(Step::AddWitness { pod }));
    }
    Some(Ok(Step::AddLearner { pod, replaces: None }))
}

fn shrink(view: &View<'_>) -> Thought {
    let unwanted = view.voters.iter().filter(|member| !view.is_wanted(&member.pod));
    let leaver = unwanted.filter(|member| view.leaves_more_data(member)).max_by_key(|member| {
        // The ill first, then witnesses, then from the end of the list.
        (
            !member.healthy,
            view.facts.is_witness(&member.pod),
            view.facts.places.get(&member.pod).map(|place| (place.ordinal, place.zone.clone())),
        )
    })?;
    if !view.can_spare(leaver.id) {
        let why = if view.facts.is_witness(&leaver.pod) {
            ": a witness goes before members with data, which must stay more than witnesses"
        } else {
            ""
        };
        return Some(Err(format!("{}, before {} is removed{why}", unhealthy(view), leaver.pod)));
    }
    let (id, pod) = (leaver.id, leaver.pod.clone());
    if id == view.leader {
        let to = view.successor(id)?;
        return Some(Ok(Step::MoveLeader { from: pod, to }));
    }
    Some(Ok(Step::RemoveMember { id, pod }))
}

fn clear_claims(view: &View<'_>) -> Thought {
    let has_member = |pod: &String| view.store.members.iter().any(|member| member.pod == *pod);
    let left = view.facts.claims.keys().find(|pod| !has_member(pod) && !view.is_wanted(pod))?;
    if view.facts.pods.contains_key(left) {
        return Some(Err(format!("pod {left} to end")));
    }
    Some(Ok(Step::DeleteClaim { pod: left.clone() }))
}

/// New settings reach one member at a time, the leader last.
fn restart(view: &View<'_>) -> Thought {
    let outdated = |member: &&&MemberFacts| view.facts.pods.get(&member.pod).is_some_and(|pod| pod.outdated);
    let next =
        view.voters.iter().filter(outdated).min_by_key(|member| (member.id == view.leader, &member.pod))?;
    if view.is_ending(&next.pod) {
        return Some(Err(format!("{} to end and come back", next.pod)));
    }
    let ill_others = view.voters.iter().any(|member| member.id != next.id && !member.healthy);
    let unready = view.facts.pods.iter().any(|(pod, facts)| *pod != next.pod && !facts.ready);
    if ill_others || unready {
        return Some(Err(format!("all members to be well, before {} restarts", next.pod)));
    }
    if next.id == view.leader
        && let Some(to) = view.successor(next.id)
    {
        return Some(Ok(Step::MoveLeader { from: next.pod.clone(), to }));
    }
    Some(Ok(Step::RestartPod { pod: next.pod.clone() }))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
