//! What the members say.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use futures::future::{join_all, select_ok};
use quorate_api::etcdserverpb::{Member, StatusResponse};

use crate::names::{Names, pod_of_url};
use crate::plan::{MemberFacts, PodFacts, StoreFacts};
use crate::store::{Credentials, Store};

/// What one member said of itself.
struct Answer {
    store: Store,
    status: StatusResponse,
}

impl Answer {
    fn leads(&self) -> bool {
        self.status.leader != 0 && member_id(&self.status) == self.status.leader
    }
}

/// Asks the members of these pods, all at once. Those that don't answer in time are left out.
pub async fn ask(
    names: &Names,
    pods: &BTreeMap<String, PodFacts>,
    credentials: Option<&Credentials>,
) -> Option<StoreFacts> {
    let running = pods.iter().filter_map(|(pod, facts)| Some((pod, facts.address?)));
    let questions = running.map(|(pod, address)| async move {
        let store = Store::connect(names, pod, address, credentials).await.ok()?;
        let status = store.status().await.ok()?;
        Some(Answer { store, status })
    });
    let answers: Vec<Answer> = join_all(questions).await.into_iter().flatten().collect();
    let newest = answers
        .iter()
        .max_by_key(|answer| (answer.status.raft_term, answer.leads(), answer.status.raft_applied_index))?;
    // The list that a quorum confirms is the truth; without one, the most advanced member's is shown.
    let (leader, members) = match confirmed(&answers, newest.status.raft_term).await {
        Some((leader, members)) => (Some(leader), members),
        None => (None, newest.store.members(false).await.ok()?.members),
    };
    let cluster_id = newest.status.header.as_ref().map_or(0, |header| header.cluster_id);
    let statuses: BTreeMap<u64, &StatusResponse> =
        answers.iter().map(|answer| (member_id(&answer.status), &answer.status)).collect();
    let members =
        members.iter().map(|member| facts(member, statuses.get(&member.id).copied(), leader)).collect();
    Some(StoreFacts { cluster_id, leader, members })
}

/// The leader of an epoch and the members, from whoever is first to have them confirmed by a quorum: a leader that the operator
/// can't reach may well serve the others.
async fn confirmed(answers: &[Answer], epoch: u64) -> Option<(u64, Vec<Member>)> {
    let know_a_leader =
        answers.iter().filter(|answer| answer.status.raft_term == epoch && answer.status.leader != 0);
    let questions: Vec<_> = know_a_leader
        .map(|answer| {
            let question = async {
                let list = answer.store.members(true).await.map_err(|_| ())?;
                // In a later epoch another one may have confirmed it.
                let same = list.header.as_ref().is_some_and(|header| header.raft_term == epoch);
                if same { Ok((answer.status.leader, list.members)) } else { Err(()) }
            };
            question.boxed()
        })
        .collect();
    if questions.is_empty() {
        return None;
    }
    select_ok(questions).await.ok().map(|(first, _)| first)
}

fn member_id(status: &StatusResponse) -> u64 {
    status.header.as_ref().map_or(0, |header| header.member_id)
}

fn facts(member: &Member, status: Option<&StatusResponse>, leader: Option<u64>) -> MemberFacts {
    let pod = member.peer_ur_ls.iter().find_map(|url| pod_of_url(url)).unwrap_or_default();
    MemberFacts {
        id: member.id,
        pod: pod.to_owned(),
        started: !member.client_ur_ls.is_empty(),
        learner: member.is_learner,
        healthy: status.is_some_and(|status| status.errors.is_empty() && Some(status.leader) == leader),
        applied: status.map_or(0, |status| status.raft_applied_index),
        size_bytes: status.map_or(0, |status| status.db_size),
        // The status before tells these (`status::tell_ages`).
        ..MemberFacts::default()
    }
}
