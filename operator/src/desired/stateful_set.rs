//! A zone's StatefulSet.

use serde_json::{Value, json};

use super::Basis;
use crate::crd::ReclaimPolicy;
use crate::names::{
    CLIENT_PORT, CLUSTER_LABEL, DATA_ROLE, METRICS_PORT, NO_ZONE, NODE_ZONE_LABEL, PEER_PORT, ROLE_LABEL,
    VOLUME, WITNESS_ROLE, ZONE_LABEL,
};

/// The user of the node's image.
const USER: u32 = 65_532;
/// A leader hands over within 3 s, then writes down what is on its way; more is for slow disks.
const END_TIMEOUT_S: u32 = 30;
/// A witness keeps headers of a bounded stretch of the log.
const WITNESS_VOLUME: &str = "1Gi";
const DATA: &str = "/var/lib/quorate";
const CERTIFICATES: &str = "/etc/quorate/tls";

/// The StatefulSet of `zone` with this many pods. The operator chooses when each pod restarts.
#[must_use]
pub fn stateful_set(basis: &Basis<'_>, zone: &str, replicas: u32) -> Value {
    let names = &basis.names;
    let mut labels = names.labels();
    labels.insert(ZONE_LABEL.to_owned(), zone.to_owned());
    let is_witness = basis.spec.witness_zones().contains(zone);
    // Clusters without witnesses keep their pods' template as it was.
    if basis.has_witnesses() {
        let role = if is_witness { WITNESS_ROLE } else { DATA_ROLE };
        labels.insert(ROLE_LABEL.to_owned(), role.to_owned());
    }
    let when_deleted = match basis.spec.storage.reclaim_policy {
        ReclaimPolicy::Retain => "Retain",
        ReclaimPolicy::Delete => "Delete",
    };
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": basis.metadata(&names.set(zone)),
        "spec": {
            "replicas": replicas,
            "serviceName": names.peers(),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted, "whenScaled": "Retain"},
            "selector": {"matchLabels": {CLUSTER_LABEL: names.cluster, ZONE_LABEL: zone}},
            "template": {"metadata": {"labels": labels}, "spec": pod(basis, zone)},
            "volumeClaimTemplates": [claim(basis, is_witness)],
        },
    })
}

fn claim(basis: &Basis<'_>, is_witness: bool) -> Value {
    let storage = &basis.spec.storage;
    let size = if is_witness { WITNESS_VOLUME } else { &storage.size };
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    });
    if let Some(class) = &storage.storage_class_name {
        spec["storageClassName"] = json!(class);
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": VOLUME, "labels": {CLUSTER_LABEL: basis.names.cluster}},
        "spec": spec,
    })
}

fn pod(basis: &Basis<'_>, zone: &str) -> Value {
    json!({
        "serviceAccountName": basis.names.cluster,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": END_TIMEOUT_S,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        // A question to a name server that was lost with its zone is asked again after 1 s instead of 5.
        "dnsConfig": {"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "4"}]},
        "affinity": affinity(basis, zone),
        "containers": [container(basis, zone)],
        "volumes": [
            {"name": "tls", "secret": {"secretName": basis.names.server_tls(), "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {}},
        ],
    })
}

fn affinity(basis: &Basis<'_>, zone: &str) -> Value {
    let mut affinity = json!({
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {CLUSTER_LABEL: basis.names.cluster}},
            },
        }]},
    });
    if zone != NO_ZONE {
        affinity["nodeAffinity"] = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{
                "matchExpressions": [{"key": NODE_ZONE_LABEL, "operator": "In", "values": [zone]}],
            }]},
        });
    }
    affinity
}

fn container(basis: &Basis<'_>, zone: &str) -> Value {
    let from_config = |variable: &str, key: &str| {
        json!({
            "name": variable,
            "valueFrom": {"configMapKeyRef": {"name": basis.names.config(), "key": key}},
        })
    };
    let from_field = |variable: &str, path: &str| json!({"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let resources = basis.spec.resources.as_ref().map_or_else(
        || json!({"requests": {"cpu": "100m", "memory": "256Mi"}}),
        |resources| json!(resources),
    );
    let mut environment = vec![
        from_field("POD_NAME", "metadata.name"),
        from_field("POD_NAMESPACE", "metadata.namespace"),
        from_config("ETCD_INITIAL_CLUSTER", "initial-cluster"),
        from_config("ETCD_INITIAL_CLUSTER_STATE", "initial-cluster-state"),
    ];
    if basis.has_witnesses() {
        environment.push(from_config("ETCD_INITIAL_CLUSTER_WITNESSES", "initial-cluster-witnesses"));
    }
    json!({
        "name": "quorate-node",
        "image": basis.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/local/bin/quorate-node"],
        "args": arguments(basis, zone),
        "env": environment,
        "ports": [
            {"name": "client", "containerPort": CLIENT_PORT, "protocol": "TCP"},
            {"name": "peer", "containerPort": PEER_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": VOLUME, "mountPath": DATA},
            {"name": "tls", "mountPath": CERTIFICATES, "readOnly": true},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        // A member that recovers a long log answers late: an hour of it is not a reason to start over.
        "startupProbe": probe("/livez", 1, 3_600),
        "livenessProbe": probe("/livez", 5, 6),
        "readinessProbe": probe("/readyz", 2, 2),
    })
}

fn probe(path: &str, period_s: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": METRICS_PORT, "scheme": "HTTP"},
        "periodSeconds": period_s,
        "failureThreshold": failures,
        "timeoutSeconds": 6,
    })
}

fn arguments(basis: &Basis<'_>, zone: &str) -> Vec<String> {
    let host = format!("$(POD_NAME).{}.$(POD_NAMESPACE).svc", basis.names.peers());
    let scheme = basis.client_scheme();
    let mut arguments = vec![
        "--name=$(POD_NAME)".to_owned(),
        format!("--data-dir={DATA}/data"),
        format!("--zone={zone}"),
        format!("--consensus={}", basis.spec.consensus.flag()),
        format!("--initial-cluster-token={}", basis.uid),
        format!("--listen-peer-urls=https://0.0.0.0:{PEER_PORT}"),
        format!("--initial-advertise-peer-urls=https://{host}:{PEER_PORT}"),
        format!("--listen-client-urls={scheme}://0.0.0.0:{CLIENT_PORT}"),
        format!("--advertise-client-urls={scheme}://{host}:{CLIENT_PORT}"),
        format!("--listen-metrics-urls=http://0.0.0.0:{METRICS_PORT}"),
        format!("--peer-cert-file={CERTIFICATES}/tls.crt"),
        format!("--peer-key-file={CERTIFICATES}/tls.key"),
        format!("--peer-trusted-ca-file={CERTIFICATES}/ca.crt"),
        "--peer-client-cert-auth".to_owned(),
        "--log-format=json".to_owned(),
    ];
    if let priority @ 1.. = basis.spec.leader_priority(zone) {
        arguments.push(format!("--leader-priority={priority}"));
    }
    if basis.spec.tls.client {
        arguments.extend([
            format!("--cert-file={CERTIFICATES}/tls.crt"),
            format!("--key-file={CERTIFICATES}/tls.key"),
            format!("--trusted-ca-file={CERTIFICATES}/ca.crt"),
            "--client-cert-auth".to_owned(),
        ]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::StoreCluster;
    use crate::desired::services;

    fn cluster(zones: Value) -> StoreCluster {
        serde_json::from_value(json!({
            "apiVersion": "quorate.io/v1alpha1",
            "kind": "StoreCluster",
            "metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"storage": {"size": "10Gi"}, "zones": zones},
        }))
        .unwrap()
    }

    #[test]
    fn a_witness_has_a_small_volume_and_no_clients() {
        let cluster = cluster(json!([{"name": "a"}, {"name": "b"}, {"name": "w", "role": "Witness"}]));
        let basis = Basis::new(&cluster, "image");
        let size = |zone| {
            let claim = &stateful_set(&basis, zone, 1)["spec"]["volumeClaimTemplates"][0];
            claim["spec"]["resources"]["requests"]["storage"].clone()
        };
        assert_eq!((size("a"), size("w")), (json!("10Gi"), json!("1Gi")));
        let labels = |zone| stateful_set(&basis, zone, 1)["spec"]["template"]["metadata"]["labels"].clone();
        let selector = services::client(&basis)["spec"]["selector"].clone();
        let selects = |zone| {
            let labels = labels(zone);
            selector.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value)
        };
        assert_eq!((selects("a"), selects("b"), selects("w")), (true, true, false));
    }

    #[test]
    fn a_zones_priority_is_its_members() {
        let cluster = cluster(json!([{"name": "a", "leaderPriority": 7}, {"name": "b"}]));
        let basis = Basis::new(&cluster, "image");
        assert!(arguments(&basis, "a").contains(&"--leader-priority=7".to_owned()));
        assert!(!arguments(&basis, "b").iter().any(|argument| argument.starts_with("--leader-priority")));
    }
}
