//! What the members say.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use quorate_api::etcdserverpb::{Member, StatusResponse};

use crate::names::{Names, pod_of_url};
use crate::plan::{MemberFacts, StoreFacts};
use crate::store::{Credentials, Store};

/// Asks the members of these pods, all at once.
pub async fn ask(
    names: &Names,
    pods: &BTreeSet<String>,
    credentials: Option<&Credentials>,
) -> Option<StoreFacts> {
    let questions = pods.iter().map(|pod| async move {
        let store = Store::connect(names, pod, credentials).await.ok()?;
        let status = store.status().await.ok()?;
        Some((pod.clone(), store, status))
    });
    let answers: Vec<(String, Store, StatusResponse)> =
        join_all(questions).await.into_iter().flatten().collect();
    // The leader's list, confirmed by its quorum, is the truth; without one, the most advanced member's is shown.
    let newest = answers.iter().max_by_key(|(_, _, status)| {
        let leads = status.leader != 0 && member_id(status) == status.leader;
        (status.raft_term, leads, status.raft_applied_index)
    })?;
    let (_, store, status) = newest;
    let leads = member_id(status) == status.leader;
    let confirmed = if leads { store.members().await.ok() } else { None };
    let leader = confirmed.is_some().then_some(status.leader);
    let members = match confirmed {
        Some(members) => members,
        None => store.known_members().await.ok()?,
    };
    let cluster_id = status.header.as_ref().map_or(0, |header| header.cluster_id);
    let statuses: BTreeMap<u64, &StatusResponse> =
        answers.iter().map(|(_, _, status)| (member_id(status), status)).collect();
    let members =
        members.iter().map(|member| facts(member, statuses.get(&member.id).copied(), leader)).collect();
    Some(StoreFacts { cluster_id, leader, members })
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
