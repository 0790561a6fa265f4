//! Who may do what: account, role, network, disruptions.

use serde_json::{Value, json};

use super::Basis;
use crate::names::{CLIENT_PORT, CLUSTER_LABEL, METRICS_PORT, PEER_PORT};
use crate::plan::quorum;

/// The pods' account; it has no token and no rights.
#[must_use]
pub fn account(basis: &Basis<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": basis.metadata(&basis.names.cluster),
        "automountServiceAccountToken": false,
    })
}

/// Keeps a quorum of voters through voluntary disruptions. An integer, since a share moves with the pods that are there.
#[must_use]
pub fn disruption_budget(basis: &Basis<'_>, voters: usize) -> Value {
    let wanted = usize::try_from(basis.spec.members).unwrap_or(usize::MAX);
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": basis.metadata(&basis.names.cluster),
        "spec": {
            "minAvailable": quorum(voters.max(wanted)),
            "selector": {"matchLabels": {CLUSTER_LABEL: basis.names.cluster}},
            // Pods that are not ready protect nothing: let them go.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    })
}

/// Members talk to each other and to name service; anybody may come to the client and metrics ports.
#[must_use]
pub fn network_policy(basis: &Basis<'_>) -> Value {
    let members = json!({"podSelector": {"matchLabels": {CLUSTER_LABEL: basis.names.cluster}}});
    let tcp = |port: u16| json!({"port": port, "protocol": "TCP"});
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": basis.metadata(&basis.names.cluster),
        "spec": {
            "podSelector": {"matchLabels": {CLUSTER_LABEL: basis.names.cluster}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [members], "ports": [tcp(PEER_PORT)]},
                {"ports": [tcp(CLIENT_PORT), tcp(METRICS_PORT)]},
            ],
            "egress": [
                {"to": [members], "ports": [tcp(PEER_PORT), tcp(CLIENT_PORT)]},
                {"ports": [tcp(53), {"port": 53, "protocol": "UDP"}, tcp(1053), {"port": 1053, "protocol": "UDP"}]},
            ],
        },
    })
}
