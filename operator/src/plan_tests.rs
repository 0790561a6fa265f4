use super::*;
use crate::names::Names;
use crate::placement::places;

fn zones() -> Vec<String> {
    ["a", "b", "c"].map(str::to_owned).to_vec()
}

fn names() -> Names {
    Names { cluster: "x".into(), namespace: "n".into() }
}

/// A cluster that is well, with `count` voters; the first one leads.
fn well(count: u32, wanted: u32) -> Facts {
    let names = names();
    let there = places(&names, &zones(), count);
    let members: Vec<MemberFacts> = there
        .iter()
        .zip(1..)
        .map(|(place, id)| MemberFacts {
            id,
            pod: place.pod.clone(),
            started: true,
            healthy: true,
            applied: 1_000,
            ..MemberFacts::default()
        })
        .collect();
    let ready = PodFacts { ready: true, ..PodFacts::default() };
    Facts {
        founders: there.clone(),
        bootstrapped: true,
        wanted: places(&names, &zones(), wanted),
        witness_zones: BTreeSet::new(),
        places: places(&names, &zones(), 9).into_iter().map(|place| (place.pod.clone(), place)).collect(),
        pods: there.iter().map(|place| (place.pod.clone(), ready.clone())).collect(),
        claims: there.iter().map(|place| (place.pod.clone(), Uid::default())).collect(),
        replicas: replicas(there.iter()),
        store: Some(StoreFacts { cluster_id: 7, leader: Some(1), members }),
    }
}

fn members(facts: &mut Facts) -> &mut Vec<MemberFacts> {
    &mut facts.store.as_mut().unwrap().members
}

/// Does what a step says, as Kubernetes and the store would.
fn perform(facts: &mut Facts, step: &Step) {
    let next = members(facts).iter().map(|member| member.id).max().unwrap_or(0) + 1;
    match step {
        Step::RecordBootstrap { .. } => facts.bootstrapped = true,
        Step::AddLearner { pod, .. } => {
            let learner = MemberFacts { id: next, pod: pod.clone(), learner: true, ..MemberFacts::default() };
            members(facts).push(learner);
        }
        Step::AddWitness { pod } => {
            members(facts).push(MemberFacts { id: next, pod: pod.clone(), ..MemberFacts::default() });
        }
        Step::Promote { id, pod } => {
            members(facts).retain(|member| member.pod != *pod || member.id == *id);
            members(facts).iter_mut().find(|member| member.id == *id).unwrap().learner = false;
        }
        Step::MoveLeader { to, .. } => facts.store.as_mut().unwrap().leader = Some(*to),
        Step::GiveUpLearner { id, .. } | Step::RemoveMember { id, .. } => {
            members(facts).retain(|member| member.id != *id)
        }
        Step::DeleteClaim { pod } => {
            facts.claims.remove(pod);
        }
        Step::RestartPod { pod } => {
            facts.pods.insert(pod.clone(), PodFacts { ready: true, ..PodFacts::default() });
        }
    }
}

/// Brings pods and claims in line with the plan's replicas, as StatefulSets do.
fn settle(facts: &mut Facts, plan: &Plan) {
    facts.replicas = plan.replicas.clone();
    let names = names();
    let pods: BTreeSet<String> = plan
        .replicas
        .iter()
        .flat_map(|(zone, count)| (0..*count).map(|ordinal| names.pod(zone, ordinal)).collect::<Vec<_>>())
        .collect();
    facts.pods.retain(|pod, _| pods.contains(pod));
    for pod in pods {
        facts.claims.entry(pod.clone()).or_default();
        facts.pods.entry(pod).or_insert_with(|| PodFacts { ready: true, ..PodFacts::default() });
    }
    let running: Vec<String> =
        facts.pods.iter().filter(|(_, pod)| !pod.data_lost).map(|(name, _)| name.clone()).collect();
    let leader = facts.store.as_ref().unwrap().leader;
    for member in members(facts) {
        if running.contains(&member.pod) && (member.learner || !member.started || Some(member.id) == leader) {
            (member.started, member.healthy, member.applied) = (true, true, 1_000);
        }
    }
}

/// Follows plans to the end; every state on the way keeps a quorum and at most one learner.
fn follow(facts: &mut Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..60 {
        let now = plan(facts);
        assert_eq!(now, plan(facts), "plans are pure");
        settle(facts, &now);
        let Some(step) = now.step else {
            if now.waiting_for.is_none() {
                return steps;
            }
            continue;
        };
        perform(facts, &step);
        steps.push(step);
        let view = facts.store.as_ref().unwrap();
        let voters: Vec<_> = view.members.iter().filter(|member| !member.learner).collect();
        let healthy = voters.iter().filter(|member| member.healthy).count();
        assert!(healthy >= quorum(voters.len()), "no quorum after {steps:?}");
        assert!(view.members.len() - voters.len() <= 1, "two learners after {steps:?}");
    }
    panic!("no end: {:?} {steps:?}", plan(facts));
}

#[test]
fn a_well_cluster_needs_nothing() {
    let plan = plan(&well(3, 3));
    assert_eq!((plan.step, plan.waiting_for, plan.phase), (None, None, Phase::Ready));
}

#[test]
fn the_bootstrap_ends_when_every_founder_has_started() {
    let mut facts = well(3, 3);
    facts.bootstrapped = false;
    members(&mut facts)[2].started = false;
    assert_eq!(plan(&facts).step, None);
    assert_eq!(plan(&facts).waiting_for.as_deref(), Some("founding members x-c-0 to start: 2 of 3 have"));
    members(&mut facts)[2].started = true;
    assert_eq!(plan(&facts).step, Some(Step::RecordBootstrap { cluster_id: 7 }));
    // A change of the wish before the end changes nothing of the beginning.
    facts.wanted = places(&names(), &zones(), 5);
    assert_eq!(plan(&facts).replicas, replicas(facts.founders.iter()));
}

#[test]
fn it_grows_and_shrinks_one_member_at_a_time() {
    for (from, to) in [(1, 3), (3, 5), (5, 3), (3, 1), (1, 9), (9, 1)] {
        let mut facts = well(from, to);
        let steps = follow(&mut facts);
        let there: BTreeSet<&str> =
            facts.store.as_ref().unwrap().members.iter().map(|member| member.pod.as_str()).collect();
        let wanted: BTreeSet<&str> = facts.wanted.iter().map(|place| place.pod.as_str()).collect();
        assert_eq!(there, wanted, "{from} to {to}: {steps:?}");
        assert_eq!(facts.claims.len(), usize::try_from(to).unwrap());
        assert_eq!(plan(&facts).phase, Phase::Ready);
    }
}

#[test]
fn a_leader_hands_over_before_it_is_removed() {
    let mut facts = well(3, 1);
    facts.store.as_mut().unwrap().leader = Some(3);
    assert_eq!(plan(&facts).step, Some(Step::MoveLeader { from: "x-c-0".into(), to: 1 }));
}

#[test]
fn a_lost_disk_is_replaced_in_place() {
    let mut facts = well(3, 3);
    members(&mut facts)[1].healthy = false;
    facts.pods.insert("x-b-0".into(), PodFacts { data_lost: true, ..PodFacts::default() });
    let steps = follow(&mut facts);
    assert_eq!(
        steps,
        [
            Step::AddLearner { pod: "x-b-0".into(), replaces: Some(2) },
            Step::RestartPod { pod: "x-b-0".into() },
            Step::Promote { id: 4, pod: "x-b-0".into() },
        ]
    );
    assert_eq!(members(&mut facts).iter().map(|member| member.id).collect::<Vec<_>>(), [1, 3, 4]);
}

#[test]
fn without_a_quorum_nothing_is_touched() {
    let mut facts = well(3, 5);
    facts.store.as_mut().unwrap().leader = None;
    let plan = plan(&facts);
    assert_eq!((plan.step, plan.phase), (None, Phase::Unavailable));
    assert_eq!(plan.replicas, facts.replicas);
    assert!(plan.waiting_for.unwrap().contains("quorum"));
}

#[test]
fn nobody_is_added_or_removed_while_a_member_is_ill() {
    for wanted in [5, 1] {
        let mut facts = well(3, wanted);
        members(&mut facts)[0].healthy = false;
        facts.store.as_mut().unwrap().leader = Some(2);
        let plan = plan(&facts);
        assert!(plan.step.is_none() || wanted == 1, "{plan:?}");
        assert_eq!(plan.phase, Phase::Degraded);
    }
}

#[test]
fn new_settings_reach_the_leader_last() {
    let mut facts = well(3, 3);
    for pod in facts.pods.values_mut() {
        pod.outdated = true;
    }
    let steps = follow(&mut facts);
    assert_eq!(steps.len(), 4, "{steps:?}");
    assert!(matches!(steps[2], Step::MoveLeader { .. }));
    assert_eq!(steps[3], Step::RestartPod { pod: "x-a-0".into() });
}

#[test]
fn a_new_wish_in_the_middle_is_taken_up() {
    let mut facts = well(3, 5);
    let first = plan(&facts).step.unwrap();
    perform(&mut facts, &first);
    facts.wanted = places(&names(), &zones(), 3);
    let steps = follow(&mut facts);
    assert!(matches!(steps[0], Step::RemoveMember { id: 4, .. }), "{steps:?}");
    assert_eq!(members(&mut facts).len(), 3);
}

/// A cluster of three that grows, whose learner (4) has started; `change` says what became of it.
fn growing(change: impl FnOnce(&mut MemberFacts)) -> Facts {
    let mut facts = well(3, 5);
    while !members(&mut facts).iter().any(|member| member.learner && member.started) {
        let now = plan(&facts);
        if let Some(step) = &now.step {
            perform(&mut facts, step);
        }
        let next = plan(&facts);
        settle(&mut facts, &next);
    }
    change(members(&mut facts).iter_mut().find(|member| member.learner).unwrap());
    facts
}

#[test]
fn a_learner_whose_pod_ends_is_promoted_when_it_is_back() {
    let mut facts = growing(|learner| learner.healthy = true);
    let well = facts.pods.insert("x-a-1".into(), PodFacts { deleting: true, ..PodFacts::default() });
    let ends = plan(&facts);
    assert_eq!((ends.step, ends.waiting_for.as_deref()), (None, Some("x-a-1 to end and come back")));
    facts.pods.insert("x-a-1".into(), well.unwrap());
    assert!(matches!(plan(&facts).step, Some(Step::Promote { id: 4, .. })));
}

#[test]
fn a_silent_learner_is_given_up_after_a_while_and_added_anew() {
    let mut facts = growing(|learner| {
        (learner.healthy, learner.applied, learner.silent_s) = (false, 0, LEARNER_SILENT_MAX_S - 1);
    });
    assert_eq!(plan(&facts).waiting_for.as_deref(), Some("learner x-a-1 to answer"));
    members(&mut facts)[3].silent_s += 1;
    let given_up = plan(&facts).step.unwrap();
    assert_eq!(given_up.to_string(), "give up learner x-a-1 (4): no answer for 10 min");
    perform(&mut facts, &given_up);
    let steps = follow(&mut facts);
    // Its volume may be what was lost: the new one begins without it.
    assert_eq!(steps[0], Step::DeleteClaim { pod: "x-a-1".into() });
    assert_eq!(steps[1], Step::AddLearner { pod: "x-a-1".into(), replaces: None });
    assert_eq!((plan(&facts).phase, members(&mut facts).len()), (Phase::Ready, 5));
}

#[test]
fn learners_that_are_lost_again_and_again_are_given_up_less_often() {
    for (given_up, minutes) in [(0, 10), (1, 20), (2, 40), (5, 320), (6, 360), (u32::MAX, 360)] {
        let mut facts = growing(|learner| {
            (learner.healthy, learner.given_up, learner.silent_s) = (false, given_up, minutes * 60 - 1);
        });
        let waits = plan(&facts);
        assert_eq!(waits.step, None, "{given_up}");
        let tells = given_up == 0 || waits.waiting_for.unwrap().contains(&format!("within {minutes} min"));
        assert!(tells, "{given_up}");
        members(&mut facts)[3].silent_s += 1;
        assert!(matches!(plan(&facts).step, Some(Step::GiveUpLearner { id: 4, .. })), "{given_up}");
    }
    // Lost data is no reason to wait once, and one the second time.
    for (given_up, silent_s, at_once) in
        [(0, 0, true), (1, LEARNER_SILENT_MAX_S - 1, false), (1, LEARNER_SILENT_MAX_S, true)]
    {
        let mut facts = growing(|learner| {
            (learner.healthy, learner.given_up, learner.silent_s) = (false, given_up, silent_s);
        });
        facts.pods.insert("x-a-1".into(), PodFacts { data_lost: true, ..PodFacts::default() });
        assert_eq!(matches!(plan(&facts).step, Some(Step::GiveUpLearner { .. })), at_once, "{given_up}");
    }
}

#[test]
fn a_learner_that_never_started_is_given_up_too() {
    let facts = growing(|learner| {
        (learner.started, learner.healthy, learner.silent_s) = (false, false, LEARNER_SILENT_MAX_S);
    });
    assert!(matches!(plan(&facts).step, Some(Step::GiveUpLearner { id: 4, .. })));
}

#[test]
fn a_learner_that_lost_its_data_is_given_up_at_once() {
    let mut facts = growing(|learner| learner.healthy = false);
    facts.pods.insert("x-a-1".into(), PodFacts { data_lost: true, ..PodFacts::default() });
    assert!(matches!(plan(&facts).step, Some(Step::GiveUpLearner { id: 4, .. })));
}

#[test]
fn a_learner_that_does_not_catch_up_is_given_up_after_hours() {
    let mut facts = growing(|learner| (learner.applied, learner.learner_s) = (0, LEARNER_BEHIND_MAX_S - 1));
    assert_eq!(plan(&facts).waiting_for.unwrap(), "learner x-a-1 to catch up: 1000 entries behind");
    members(&mut facts)[3].learner_s += 1;
    assert!(matches!(plan(&facts).step, Some(Step::GiveUpLearner { id: 4, .. })));
    // One that is near enough is promoted, however long it took.
    members(&mut facts)[3].applied = 1_000;
    assert!(matches!(plan(&facts).step, Some(Step::Promote { id: 4, .. })));
}

/// As `well`, where the members of zone c are witnesses.
fn well_with_witness(count: u32, wanted: u32) -> Facts {
    Facts { witness_zones: BTreeSet::from(["c".to_owned()]), ..well(count, wanted) }
}

#[test]
fn witnesses_come_and_go_without_being_learners() {
    for (from, to) in [(1, 3), (3, 7), (7, 3), (3, 1)] {
        let mut facts = well_with_witness(from, to);
        let steps = follow(&mut facts);
        let promoted = |step: &Step| matches!(step, Step::Promote { pod, .. } if pod.starts_with("x-c-"));
        assert!(!steps.iter().any(promoted), "{from} to {to}: {steps:?}");
        assert_eq!(members(&mut facts).len(), usize::try_from(to).unwrap());
    }
    let mut facts = well_with_witness(1, 3);
    assert!(follow(&mut facts).contains(&Step::AddWitness { pod: "x-c-0".into() }));
}

#[test]
fn witnesses_leave_before_members_with_data() {
    // Two members with data and one without: taking one with data out would leave as many witnesses.
    let mut facts = well_with_witness(3, 1);
    assert_eq!(plan(&facts).step, Some(Step::RemoveMember { id: 3, pod: "x-c-0".into() }));
    follow(&mut facts);
    assert_eq!(members(&mut facts)[0].pod, "x-a-0");
}

#[test]
fn an_ill_member_with_data_leaves_before_a_witness_where_that_is_allowed() {
    // Seven, two of them witnesses, three ill: without one of these there are still more with data.
    let mut facts = well_with_witness(7, 3);
    for ill in [3, 4, 6] {
        members(&mut facts)[ill].healthy = false;
    }
    assert_eq!(plan(&facts).step, Some(Step::RemoveMember { id: 7, pod: "x-a-2".into() }));
}

#[test]
fn a_witness_that_must_leave_first_waits_for_the_ill_and_says_why() {
    // Without the ill one there would be as many witnesses as members with data; without the witness no quorum.
    let mut facts = well_with_witness(3, 1);
    members(&mut facts)[1].healthy = false;
    let waits = plan(&facts);
    assert_eq!(waits.step, None);
    assert_eq!(
        waits.waiting_for.as_deref(),
        Some(
            "x-b-0 to answer, before x-c-0 is removed: a witness goes before members with data, \
             which must stay more than witnesses"
        )
    );
}

#[test]
fn a_witness_is_never_asked_to_lead() {
    let mut facts = well_with_witness(3, 3);
    members(&mut facts)[2].applied = 2_000;
    for pod in facts.pods.values_mut() {
        pod.outdated = true;
    }
    let steps = follow(&mut facts);
    assert!(steps.contains(&Step::MoveLeader { from: "x-a-0".into(), to: 2 }), "{steps:?}");
}

#[test]
fn a_lost_witness_is_replaced_by_a_new_one() {
    let mut facts = well_with_witness(3, 3);
    members(&mut facts)[2].healthy = false;
    facts.pods.insert("x-c-0".into(), PodFacts { data_lost: true, ..PodFacts::default() });
    let pod = || "x-c-0".to_owned();
    let steps = follow(&mut facts);
    assert_eq!(
        steps,
        [
            Step::RemoveMember { id: 3, pod: pod() },
            Step::DeleteClaim { pod: pod() },
            Step::AddWitness { pod: pod() }
        ]
    );
}

#[test]
fn a_learner_in_a_witnesss_place_is_not_promoted() {
    let mut facts = well_with_witness(2, 3);
    members(&mut facts).push(MemberFacts {
        id: 9,
        pod: "x-c-0".into(),
        learner: true,
        ..MemberFacts::default()
    });
    assert_eq!(plan(&facts).step, Some(Step::RemoveMember { id: 9, pod: "x-c-0".into() }));
}
