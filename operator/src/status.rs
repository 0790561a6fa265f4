//! From facts and plan to the status. It stays true when no member answers: then it says so.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::crd::{GivenUpLearners, MemberStatus, Phase, StoreCluster, StoreClusterStatus};
use crate::names::Names;
use crate::plan::{Facts, MemberFacts, Plan, Step, StoreFacts, quorum};

/// A member's last contact is written again after this time: a status that changes with every look would wake everybody
/// who watches it.
const CONTACT_RENEWAL_S: i64 = 60;

/// The status at `now`.
#[must_use]
pub fn status(
    cluster: &StoreCluster,
    names: &Names,
    cluster_id: Option<u64>,
    facts: &Facts,
    plan: &Plan,
    now: Timestamp,
) -> StoreClusterStatus {
    let before = cluster.status.clone().unwrap_or_default();
    let members = members(facts, &before, now);
    let voters = facts.store.iter().flat_map(|store| &store.members).filter(|member| !member.learner);
    let ready = voters.filter(|member| member.healthy).count();
    let leader = members.iter().find(|member| member.leader).map(|member| member.name.clone());
    let generation = cluster.metadata.generation.unwrap_or(0);
    StoreClusterStatus {
        observed_generation: generation,
        phase: plan.phase,
        cluster_id: cluster_id.map(|id| format!("{id:x}")),
        replicas: i32::try_from(members.len()).unwrap_or(i32::MAX),
        ready_members: i32::try_from(ready).unwrap_or(i32::MAX),
        leader,
        selector: names.selector(),
        members,
        learners_given_up: given_up(facts, plan, &before),
        plan: plan.step.as_ref().map(ToString::to_string),
        waiting_for: plan.waiting_for.clone(),
        zone_loss_survivable: survives_zone_loss(facts),
        conditions: conditions(facts, plan, &before.conditions, generation, now),
    }
}

/// Whether a quorum of voters is left after any one zone, counting those that are well.
fn survives_zone_loss(facts: &Facts) -> bool {
    let Some(store) = facts.store.as_ref().filter(|store| store.leader.is_some()) else { return false };
    let voters: Vec<&MemberFacts> = store.members.iter().filter(|member| !member.learner).collect();
    let zone = |member: &MemberFacts| facts.places.get(&member.pod).map(|place| place.zone.clone());
    let well: Vec<_> = voters.iter().filter(|member| member.healthy).map(|member| zone(member)).collect();
    let mut by_zone: BTreeMap<_, usize> = BTreeMap::new();
    for zone in &well {
        *by_zone.entry(zone).or_default() += 1;
    }
    let most = by_zone.values().max().copied().unwrap_or(0);
    by_zone.len() > 1 && well.len() - most >= quorum(voters.len())
}

fn members(facts: &Facts, before: &StoreClusterStatus, now: Timestamp) -> Vec<MemberStatus> {
    let Some(store) = &facts.store else {
        // Nobody answered: who they were is still true, how they are is not known.
        let unknown = |member: &MemberStatus| MemberStatus {
            leader: false,
            healthy: false,
            lag: None,
            ..member.clone()
        };
        return before.members.iter().map(unknown).collect();
    };
    let newest = store.members.iter().map(|member| member.applied).max().unwrap_or(0);
    let mut members: Vec<MemberStatus> = store
        .members
        .iter()
        .map(|member| {
            let id = format!("{:x}", member.id);
            let known = before.members.iter().find(|known| known.id == id);
            let last = known.and_then(|known| known.last_contact_time.clone());
            let learner_since = member.learner.then(|| {
                known.and_then(|known| known.learner_since.clone()).unwrap_or_else(|| now.to_string())
            });
            let renewed = if member.healthy { Some(contact(last.as_deref(), now)) } else { last };
            MemberStatus {
                name: member.pod.clone(),
                id,
                zone: facts.places.get(&member.pod).map(|place| place.zone.clone()).unwrap_or_default(),
                node: facts.pods.get(&member.pod).and_then(|pod| pod.node.clone()),
                role: role(facts, member).to_owned(),
                learner_since,
                leader: store.leader == Some(member.id),
                healthy: member.healthy,
                lag: (member.healthy && !facts.is_witness(&member.pod))
                    .then(|| rounded_lag(newest - member.applied)),
                size_bytes: member.healthy.then_some(member.size_bytes),
                last_contact_time: renewed,
            }
        })
        .collect();
    members.sort_by(|one, other| one.name.cmp(&other.name).then_with(|| one.id.cmp(&other.id)));
    members
}

fn role(facts: &Facts, member: &MemberFacts) -> &'static str {
    match (member.learner, facts.is_witness(&member.pod)) {
        (true, _) => "Learner",
        (false, true) => "Witness",
        (false, false) => "Voter",
    }
}

/// Who was given up before and now, less the places that got a voter and those that nobody wants any more. One that could not be
/// taken out counts as well: the next one is waited for longer, nothing else.
fn given_up(facts: &Facts, plan: &Plan, before: &StoreClusterStatus) -> Vec<GivenUpLearners> {
    let known = before.learners_given_up.iter().map(|place| (place.name.as_str(), place.count));
    let mut counts: BTreeMap<&str, u32> = known.collect();
    if let Some(Step::GiveUpLearner { pod, .. }) = &plan.step {
        let count = counts.entry(pod).or_default();
        *count = count.saturating_add(1);
    }
    let is_wanted = |pod: &str| facts.wanted.iter().any(|place| place.pod == pod);
    let votes = |pod: &str| {
        let mut members = facts.store.iter().flat_map(|store| &store.members);
        members.any(|member| member.pod == pod && !member.learner && member.healthy)
    };
    counts.retain(|pod, _| is_wanted(pod) && !votes(pod));
    counts.into_iter().map(|(pod, count)| GivenUpLearners { name: pod.to_owned(), count }).collect()
}

/// Fills in for how long learners are there and silent, and how many were given up before them: the status before is the only memory of it.
pub fn tell_ages(store: &mut StoreFacts, before: &StoreClusterStatus, now: Timestamp) {
    let age = |time: &Option<String>| {
        let since = time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        since.map(|since| u64::try_from(now.as_second() - since.as_second()).unwrap_or(0))
    };
    for member in store.members.iter_mut().filter(|member| member.learner) {
        let given_up = before.learners_given_up.iter().find(|place| place.name == member.pod);
        member.given_up = given_up.map_or(0, |place| place.count);
        let id = format!("{:x}", member.id);
        let Some(known) = before.members.iter().find(|known| known.id == id) else { continue };
        member.learner_s = age(&known.learner_since).unwrap_or(0);
        let silent = age(&known.last_contact_time).unwrap_or(member.learner_s);
        member.silent_s = if member.healthy { 0 } else { silent };
    }
}

/// Small lags come and go with every write; they are all "up to date".
fn rounded_lag(lag: u64) -> u64 {
    const STEP: u64 = 1_000;
    lag / STEP * STEP
}

fn contact(last: Option<&str>, now: Timestamp) -> String {
    let known = last.and_then(|last| last.parse::<Timestamp>().ok());
    let fresh = known.filter(|last| now.as_second() - last.as_second() < CONTACT_RENEWAL_S);
    fresh.unwrap_or(now).to_string()
}

fn conditions(
    facts: &Facts,
    plan: &Plan,
    before: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let waiting = plan.waiting_for.clone();
    let doing = plan.step.as_ref().map(ToString::to_string).or(waiting.clone()).unwrap_or_default();
    let (available, why) = match plan.phase {
        Phase::Ready | Phase::Changing | Phase::Degraded => (true, "QuorumServes"),
        // A quorum of founders serves while the others are still awaited.
        Phase::Bootstrapping if facts.store.as_ref().is_some_and(|store| store.leader.is_some()) => {
            (true, "QuorumServes")
        }
        Phase::Bootstrapping | Phase::Pending => (false, "Bootstrapping"),
        Phase::Unavailable => (false, "NoQuorum"),
    };
    let progressing = plan.phase != Phase::Ready;
    let working = match &plan.step {
        Some(Step::GiveUpLearner { .. }) => "LearnerGivenUp",
        Some(_) | None if progressing => "Working",
        Some(_) | None => "Done",
    };
    let degraded = matches!(plan.phase, Phase::Degraded | Phase::Unavailable);
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let same = before.iter().find(|known| known.type_ == kind && known.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: Some(generation),
            last_transition_time: same.map_or(Time(now), |known| known.last_transition_time.clone()),
        }
    };
    vec![
        condition("Available", available, why, waiting.as_deref().unwrap_or("a quorum serves")),
        condition("Progressing", progressing, working, &doing),
        condition(
            "Degraded",
            degraded,
            if degraded { "MembersIll" } else { "AllWell" },
            waiting.as_deref().unwrap_or(""),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Place;

    #[test]
    fn a_learners_ages_are_remembered_by_the_status() {
        let learner = MemberFacts { id: 10, learner: true, ..MemberFacts::default() };
        let mut store = StoreFacts { members: vec![learner], ..StoreFacts::default() };
        let time = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut before = StoreClusterStatus::default();
        tell_ages(&mut store, &before, time(100));
        assert_eq!((store.members[0].silent_s, store.members[0].learner_s), (0, 0), "not seen before");
        before.members.push(MemberStatus {
            id: "a".into(),
            learner_since: Some(time(100).to_string()),
            ..MemberStatus::default()
        });
        tell_ages(&mut store, &before, time(130));
        assert_eq!((store.members[0].silent_s, store.members[0].learner_s), (30, 30), "never answered");
        before.members[0].last_contact_time = Some(time(120).to_string());
        tell_ages(&mut store, &before, time(130));
        assert_eq!((store.members[0].silent_s, store.members[0].learner_s), (10, 30));
        store.members[0].healthy = true;
        tell_ages(&mut store, &before, time(130));
        assert_eq!(store.members[0].silent_s, 0);
    }

    #[test]
    fn a_quorum_of_founders_is_available_before_the_last_one_comes() {
        let plan = Plan { phase: Phase::Bootstrapping, ..Plan::default() };
        let available = |leader: Option<Option<u64>>| {
            let store = leader.map(|leader| StoreFacts { leader, ..StoreFacts::default() });
            let facts = Facts { store, ..Facts::default() };
            conditions(&facts, &plan, &[], 1, Timestamp::UNIX_EPOCH)[0].status.clone()
        };
        assert_eq!(
            [available(None), available(Some(None)), available(Some(Some(4)))],
            ["False", "False", "True"]
        );
    }

    #[test]
    fn learners_given_up_are_counted_until_their_place_has_a_voter() {
        let place = |pod: &str| Place { pod: pod.into(), zone: "a".into(), ordinal: 0 };
        let learner = MemberFacts { id: 4, pod: "p".into(), learner: true, ..MemberFacts::default() };
        let store = StoreFacts { members: vec![learner], ..StoreFacts::default() };
        let mut facts = Facts { wanted: vec![place("p")], store: Some(store), ..Facts::default() };
        let step = Step::GiveUpLearner { id: 4, pod: "p".into(), why: String::new() };
        let gives_up = Plan { step: Some(step), ..Plan::default() };
        let mut before = StoreClusterStatus::default();
        for count in 1..=2 {
            before.learners_given_up = given_up(&facts, &gives_up, &before);
            assert_eq!(before.learners_given_up, [GivenUpLearners { name: "p".into(), count }]);
        }
        before.learners_given_up = given_up(&facts, &Plan::default(), &before);
        tell_ages(facts.store.as_mut().unwrap(), &before, Timestamp::UNIX_EPOCH);
        let member = &mut facts.store.as_mut().unwrap().members[0];
        assert_eq!(member.given_up, 2);
        (member.learner, member.healthy) = (false, true);
        assert_eq!(given_up(&facts, &Plan::default(), &before), []);
        facts.store = None;
        assert_eq!(given_up(&facts, &Plan::default(), &before).len(), 1, "nobody answers: it is remembered");
        facts.wanted.clear();
        assert_eq!(given_up(&facts, &Plan::default(), &before), []);
    }
}
