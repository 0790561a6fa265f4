//! Services.

use serde_json::{Value, json};

use super::Basis;
use crate::names::{CLIENT_PORT, CLUSTER_LABEL, DATA_ROLE, METRICS_PORT, PEER_PORT, ROLE_LABEL};

/// The headless Service: every pod's name, ready or not, since members find each other before they are ready.
#[must_use]
pub fn peers(basis: &Basis<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": basis.metadata(&basis.names.peers()),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": {CLUSTER_LABEL: basis.names.cluster},
            "ports": [
                {"name": "client", "port": CLIENT_PORT, "targetPort": CLIENT_PORT, "protocol": "TCP"},
                {"name": "peer", "port": PEER_PORT, "targetPort": PEER_PORT, "protocol": "TCP"},
                {"name": "metrics", "port": METRICS_PORT, "targetPort": METRICS_PORT, "protocol": "TCP"},
            ],
        },
    })
}

/// The Service for clients: ready members with data only.
#[must_use]
pub fn client(basis: &Basis<'_>) -> Value {
    let mut selector = json!({CLUSTER_LABEL: basis.names.cluster});
    if basis.has_witnesses() {
        selector[ROLE_LABEL] = json!(DATA_ROLE);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": basis.metadata(&basis.names.client()),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": "client", "port": CLIENT_PORT, "targetPort": CLIENT_PORT, "protocol": "TCP"}],
        },
    })
}
