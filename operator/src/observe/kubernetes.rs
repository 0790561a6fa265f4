//! What the API server says. Always asked anew: membership decisions on a cache would be decisions on the past.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodStatus};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt as _};

use crate::names::{Names, VOLUME, ZONE_LABEL};
use crate::plan::{PodFacts, Uid};

/// `quorate-node`'s exit code when its data is lost.
const DATA_LOST: i32 = 3;

/// Pods, claims and StatefulSets of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Pods by name.
    pub pods: BTreeMap<String, PodFacts>,
    /// Claims by the pod that they are for.
    pub claims: BTreeMap<String, Uid>,
    /// Replicas by zone.
    pub replicas: BTreeMap<String, u32>,
}

/// Looks.
///
/// # Errors
/// The API server's.
pub async fn look(client: &Client, names: &Names) -> Result<Seen, kube::Error> {
    let parameters = ListParams::default().labels(&names.selector());
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &names.namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &names.namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &names.namespace);
    let (sets, pods, claims) =
        tokio::try_join!(sets.list(&parameters), pods.list(&parameters), claims.list(&parameters))?;
    let mut seen = Seen::default();
    let mut revisions = BTreeMap::new();
    for set in &sets.items {
        let zone =
            set.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref()?.get(ZONE_LABEL).cloned());
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        if let Some(zone) = zone {
            seen.replicas.insert(zone.clone(), u32::try_from(replicas).unwrap_or(0));
            let status = set.status.as_ref();
            let current = status.filter(|status| status.observed_generation >= set.metadata.generation);
            revisions.insert(zone, current.and_then(|status| status.update_revision.clone()));
        }
    }
    for pod in &pods.items {
        let revision = pod.labels().get(ZONE_LABEL).and_then(|zone| revisions.get(zone)).cloned().flatten();
        seen.pods.insert(pod.name_any(), pod_facts(pod, revision.as_deref()));
    }
    let prefix = format!("{VOLUME}-");
    seen.claims = claims
        .items
        .iter()
        .filter_map(|claim| Some((claim.name_any().strip_prefix(&prefix)?.to_owned(), uid(claim))))
        .collect();
    Ok(seen)
}

fn uid(object: &impl Resource<DynamicType = ()>) -> Uid {
    Uid(object.meta().uid.clone().unwrap_or_default())
}

fn pod_facts(pod: &Pod, revision: Option<&str>) -> PodFacts {
    let status = pod.status.as_ref();
    let ready = status.and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let data_lost = container.is_some_and(|container| {
        let runs = container.state.as_ref().is_some_and(|state| state.running.is_some());
        let ended = [&container.state, &container.last_state];
        let mut ends = ended.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
        !runs && ends.next().is_some_and(|end| end.exit_code == DATA_LOST)
    });
    let own = pod.labels().get("controller-revision-hash");
    PodFacts {
        uid: uid(pod),
        ready,
        deleting: pod.metadata.deletion_timestamp.is_some(),
        data_lost,
        outdated: own.zip(revision).is_some_and(|(own, newest)| own != newest),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        address: status.and_then(address),
    }
}

/// The address of a pod that has ended may be another's by now.
fn address(status: &PodStatus) -> Option<IpAddr> {
    let runs = status.phase.as_deref() == Some("Running");
    status.pod_ip.as_deref().filter(|_| runs)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_reached_while_it_runs() {
        let status = |phase: &str, ip: Option<&str>| PodStatus {
            phase: Some(phase.to_owned()),
            pod_ip: ip.map(str::to_owned),
            ..PodStatus::default()
        };
        assert_eq!(address(&status("Running", Some("10.1.2.3"))), "10.1.2.3".parse().ok());
        assert_eq!(address(&status("Running", Some("fd00::7"))), "fd00::7".parse().ok());
        assert_eq!(address(&status("Pending", None)), None);
        assert_eq!(address(&status("Failed", Some("10.1.2.3"))), None, "it may be another pod's by now");
    }
}
