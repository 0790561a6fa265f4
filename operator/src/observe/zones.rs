//! Where a StoreCluster that names no zones may live: the zones of the nodes. Chosen once, so a node that is out for a while counts.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use crate::names::{NO_ZONE, NODE_ZONE_LABEL, Names};
use crate::placement::place;

/// Zones that a cluster chooses by itself, at most: more members than this there are not.
const ZONES_MAX: usize = 9;

/// Taints that pass, by how their names begin: Kubernetes' own for the condition of a node (not ready, unreachable, cordoned, under
/// pressure) and those of the autoscalers for a node about to be replaced. The zone stays: its members wait as pending pods.
const PASSING: [&str; 4] = [
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
];

/// Whether a node takes the members' pods, which tolerate no taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Takes {
    Now,
    Later,
    Never,
}

impl Takes {
    fn of(node: &Node) -> Self {
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        taints.map(Self::despite).max().unwrap_or(Self::Now)
    }

    fn despite(taint: &Taint) -> Self {
        if !["NoSchedule", "NoExecute"].contains(&taint.effect.as_str()) {
            return Self::Now;
        }
        let passes = PASSING.iter().any(|beginning| taint.key.starts_with(beginning));
        if passes { Self::Later } else { Self::Never }
    }
}

/// The zones of the nodes that take pods now or later; one without a name if no such node has a label.
///
/// # Errors
/// The API server's.
pub async fn zones(client: &Client) -> Result<Vec<String>, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    Ok(zones_of(&nodes.list(&ListParams::default()).await?.items))
}

/// Zones that take pods now come first: where there are more zones than members, no founder waits in one that is out.
fn zones_of(nodes: &[Node]) -> Vec<String> {
    let mut best: BTreeMap<&String, Takes> = BTreeMap::new();
    for node in nodes {
        if let Some(zone) = node.labels().get(NODE_ZONE_LABEL) {
            let known = best.entry(zone).or_insert(Takes::Never);
            *known = Takes::of(node).min(*known);
        }
    }
    let mut zones: Vec<(&String, Takes)> =
        best.into_iter().filter(|(_, takes)| *takes != Takes::Never).collect();
    if zones.is_empty() {
        return vec![NO_ZONE.to_owned()];
    }
    zones.sort_by_key(|(_, takes)| *takes);
    zones.into_iter().take(ZONES_MAX).map(|(zone, _)| zone.clone()).collect()
}

/// The same zones, those with most claims first: a StoreCluster that was deleted left its members' claims, and the next one of its
/// name has its founders in the same places.
#[must_use]
pub fn where_claims_are(names: &Names, mut zones: Vec<String>, claims: &BTreeSet<String>) -> Vec<String> {
    let places: Vec<_> = claims.iter().filter_map(|pod| place(names, &zones, pod)).collect();
    let count = |zone: &String| places.iter().filter(|place| place.zone == *zone).count();
    zones.sort_by_key(|zone| std::cmp::Reverse(count(zone)));
    zones
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::places;
    use serde_json::json;

    fn node(zone: &str, taints: &[(&str, &str)]) -> Node {
        let taints: Vec<_> =
            taints.iter().map(|(key, effect)| json!({"key": key, "effect": effect})).collect();
        let labels = json!({NODE_ZONE_LABEL: zone});
        serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": {"taints": taints}})).unwrap()
    }

    #[test]
    fn a_zone_that_is_out_for_a_while_belongs_to_a_new_cluster() {
        let passing = [
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
            "node.kubernetes.io/unschedulable",
            "node.kubernetes.io/memory-pressure",
            "node.kubernetes.io/disk-pressure",
            "node.kubernetes.io/pid-pressure",
            "node.kubernetes.io/network-unavailable",
            "node.kubernetes.io/out-of-service",
            "node.cloudprovider.kubernetes.io/uninitialized",
            "node.cloudprovider.kubernetes.io/shutdown",
            "ToBeDeletedByClusterAutoscaler",
            "karpenter.sh/disrupted",
        ];
        for taint in passing {
            let out = node("b", &[(taint, "NoSchedule"), (taint, "NoExecute")]);
            assert_eq!(zones_of(&[node("a", &[]), out, node("c", &[])]), ["a", "c", "b"], "{taint}");
        }
    }

    #[test]
    fn a_zone_whose_nodes_are_kept_for_others_does_not() {
        for effect in ["NoSchedule", "NoExecute"] {
            for taint in ["node-role.kubernetes.io/control-plane", "dedicated"] {
                let other = node("b", &[("node.kubernetes.io/not-ready", "NoSchedule"), (taint, effect)]);
                assert_eq!(zones_of(&[node("a", &[]), other.clone()]), ["a"], "{taint} {effect}");
                assert_eq!(zones_of(&[other, node("b", &[])]), ["b"], "another node of the zone takes pods");
            }
        }
        assert_eq!(zones_of(&[node("a", &[("dedicated", "PreferNoSchedule")])]), ["a"]);
        assert_eq!(zones_of(&[node("a", &[("dedicated", "NoSchedule")])]), [NO_ZONE]);
        assert_eq!(zones_of(&[Node::default()]), [NO_ZONE], "no labels");
    }

    #[test]
    fn a_node_that_takes_pods_now_speaks_for_its_zone() {
        let out = || node("a", &[("node.kubernetes.io/unschedulable", "NoSchedule")]);
        assert_eq!(zones_of(&[out(), node("a", &[]), node("b", &[])]), ["a", "b"]);
        assert_eq!(zones_of(&[node("a", &[]), out(), node("b", &[])]), ["a", "b"]);
    }

    #[test]
    fn a_cluster_made_again_has_its_founders_where_their_claims_are() {
        let names = Names { cluster: "x".into(), namespace: "n".into() };
        let zones = |order: [&str; 4]| order.map(str::to_owned).to_vec();
        let pods =
            |order: &[String], members| places(&names, order, members).into_iter().map(|place| place.pod);
        for members in [1, 3, 5, 7, 9] {
            let claims: BTreeSet<String> = pods(&zones(["d", "b", "a", "c"]), members).collect();
            let again = where_claims_are(&names, zones(["a", "c", "d", "b"]), &claims);
            assert_eq!(pods(&again, members).collect::<BTreeSet<_>>(), claims, "{members} members");
        }
        assert_eq!(
            where_claims_are(&names, zones(["b", "a", "d", "c"]), &BTreeSet::new()),
            ["b", "a", "d", "c"]
        );
    }
}
