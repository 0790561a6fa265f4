//! Names of everything that belongs to a StoreCluster.

use std::collections::BTreeMap;

/// The port for clients.
pub const CLIENT_PORT: u16 = 2379;
/// The port for members.
pub const PEER_PORT: u16 = 2380;
/// The port for metrics and probes.
pub const METRICS_PORT: u16 = 2381;
/// Who applies our objects.
pub const MANAGER: &str = "quorate-operator";
/// Label: the StoreCluster.
pub const CLUSTER_LABEL: &str = "quorate.io/cluster";
/// Label: the zone.
pub const ZONE_LABEL: &str = "quorate.io/zone";
/// Label: what the pod's member is, in clusters that have witnesses.
pub const ROLE_LABEL: &str = "quorate.io/role";
/// A member that holds data.
pub const DATA_ROLE: &str = "data";
/// A member that votes and holds no data.
pub const WITNESS_ROLE: &str = "witness";
/// The nodes' label.
pub const NODE_ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The zone where nodes have no label.
pub const NO_ZONE: &str = "default";
/// The claim template's name.
pub const VOLUME: &str = "data";

/// The names of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The StoreCluster's name.
    pub cluster: String,
    /// Its namespace.
    pub namespace: String,
}

impl Names {
    /// The headless Service.
    #[must_use]
    pub fn peers(&self) -> String {
        format!("{}-peers", self.cluster)
    }

    /// The Service for clients.
    #[must_use]
    pub fn client(&self) -> String {
        format!("{}-client", self.cluster)
    }

    /// The ConfigMap with what members are told at their start.
    #[must_use]
    pub fn config(&self) -> String {
        format!("{}-config", self.cluster)
    }

    /// The Secret with the CA's certificate and key.
    #[must_use]
    pub fn ca(&self) -> String {
        format!("{}-ca", self.cluster)
    }

    /// The Secret with the members' certificate.
    #[must_use]
    pub fn server_tls(&self) -> String {
        format!("{}-server-tls", self.cluster)
    }

    /// The Secret with a client's certificate.
    #[must_use]
    pub fn client_tls(&self) -> String {
        format!("{}-client-tls", self.cluster)
    }

    /// A zone's StatefulSet.
    #[must_use]
    pub fn set(&self, zone: &str) -> String {
        format!("{}-{zone}", self.cluster)
    }

    /// A pod.
    #[must_use]
    pub fn pod(&self, zone: &str, ordinal: u32) -> String {
        format!("{}-{zone}-{ordinal}", self.cluster)
    }

    /// A pod's volume claim.
    #[must_use]
    pub fn claim(&self, pod: &str) -> String {
        format!("{VOLUME}-{pod}")
    }

    /// A pod's host name.
    #[must_use]
    pub fn host(&self, pod: &str) -> String {
        format!("{pod}.{}.{}.svc", self.peers(), self.namespace)
    }

    /// Where a pod's peers reach it.
    #[must_use]
    pub fn peer_url(&self, pod: &str) -> String {
        format!("https://{}:{PEER_PORT}", self.host(pod))
    }

    /// Labels of everything.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("app.kubernetes.io/name".into(), "quorate".into()),
            ("app.kubernetes.io/instance".into(), self.cluster.clone()),
            ("app.kubernetes.io/component".into(), "store".into()),
            ("app.kubernetes.io/managed-by".into(), MANAGER.into()),
            (CLUSTER_LABEL.into(), self.cluster.clone()),
        ])
    }

    /// Selects everything.
    #[must_use]
    pub fn selector(&self) -> String {
        format!("{CLUSTER_LABEL}={}", self.cluster)
    }
}

/// The pod that a peer URL belongs to: the first label of its host.
#[must_use]
pub fn pod_of_url(url: &str) -> Option<&str> {
    url.split_once("://")?.1.split(['.', ':', '/']).next().filter(|pod| !pod.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_url_names_its_pod() {
        let names = Names { cluster: "demo".into(), namespace: "ns".into() };
        assert_eq!(pod_of_url(&names.peer_url("demo-a-0")), Some("demo-a-0"));
        assert_eq!(names.peer_url("demo-a-0"), "https://demo-a-0.demo-peers.ns.svc:2380");
        assert_eq!(pod_of_url("nonsense"), None);
    }
}
