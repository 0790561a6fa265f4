//! The StoreCluster. `crds/` is generated from here.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How members agree.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Consensus {
    /// Raft.
    #[default]
    Raft,
    /// Multi-Paxos.
    MultiPaxos,
    /// Zab.
    Zab,
}

impl Consensus {
    /// As `quorate-node --consensus` takes it.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Raft => "Raft",
            Self::MultiPaxos => "MultiPaxos",
            Self::Zab => "Zab",
        }
    }
}

/// What becomes of the data when the StoreCluster is deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ReclaimPolicy {
    /// Volume claims stay; a StoreCluster of the same name takes them up again.
    #[default]
    Retain,
    /// Volume claims are deleted with it.
    Delete,
}

/// The members' volumes.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
        .message("storage.size can't shrink: volumes only grow; make a new cluster with smaller volumes and move the data"),
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) <= 0")
        .message("storage.size can't grow yet: leave it as it is"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storage.storageClassName can't change: the volumes are there already")
)]
pub struct Storage {
    /// Size of each member's volume.
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("storage.size must be a positive quantity such as 10Gi"))]
    #[schemars(length(max = 32))]
    pub size: String,
    /// Storage class; without it, the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of the data when the StoreCluster is deleted.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
}

/// What the members of a zone are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ZoneRole {
    /// They hold data, serve clients and may lead.
    #[default]
    Data,
    /// They vote and hold no data: clients don't reach them, and a small volume is enough.
    Witness,
}

/// A zone that members live in.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Zone {
    /// The value of the nodes' label topology.kubernetes.io/zone.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What its members are; fixed for the cluster's life.
    #[serde(default)]
    pub role: ZoneRole,
    /// A member that is in sync takes leadership over from one in a zone of a lower priority.
    #[serde(default)]
    #[schemars(range(max = 1000))]
    pub leader_priority: u32,
}

/// TLS.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub struct Tls {
    /// Whether clients speak TLS and show a certificate. Members always do among themselves.
    #[serde(default = "yes")]
    pub client: bool,
}

fn yes() -> bool {
    true
}

impl Default for Tls {
    fn default() -> Self {
        Self { client: true }
    }
}

/// A replicated store with etcd's API, spread over zones.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[kube(
    group = "quorate.io",
    version = "v1alpha1",
    kind = "StoreCluster",
    namespaced,
    shortname = "qsc",
    category = "all",
    status = "StoreClusterStatus",
    derive = "PartialEq",
    doc = "A replicated store with etcd's API, spread over zones.",
    scale(
        spec_replicas_path = ".spec.members",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Members", type_ = "integer", json_path = ".spec.members"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyMembers"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Waiting for", type_ = "string", json_path = ".status.waitingFor", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("metadata.name can't be longer than 40 characters: names of pods are made from it")
)]
#[x_kube(
    validation = Rule::new("self.members in [1, 3, 5, 7, 9]")
        .message("members must be 1, 3, 5, 7 or 9: an even number survives no more failures than the odd one below it"),
    validation = Rule::new("self.consensus == oldSelf.consensus")
        .message("consensus can't change: it is fixed in the data; make a new cluster and move the data"),
    validation = Rule::new("!has(self.zones) || self.zones.all(zone, self.zones.exists_one(other, other.name == zone.name))")
        .message("zones must have different names: remove the one that is listed twice"),
    validation = Rule::new("!has(self.zones) || 2 * self.zones.filter(zone, zone.role == 'Witness').size() < self.zones.size()")
        .message("zones with role Witness must be fewer than those with role Data: a quorum needs a member with the data"),
    validation = Rule::new("has(self.zones) == has(oldSelf.zones) && (!has(self.zones) || (self.zones.size() == oldSelf.zones.size() && self.zones.all(zone, oldSelf.zones.exists(old, old.name == zone.name && old.role == zone.role))))")
        .message("zones can't change yet, but for leaderPriority: make a new cluster and move the data"),
    validation = Rule::new("self.tls == oldSelf.tls")
        .message("tls can't change yet: make a new cluster and move the data")
)]
#[serde(rename_all = "camelCase")]
pub struct StoreClusterSpec {
    /// Voting members: 1, 3, 5, 7 or 9.
    #[serde(default = "three")]
    pub members: u32,
    /// How members agree; fixed for the cluster's life.
    #[serde(default)]
    pub consensus: Consensus,
    /// The members' volumes.
    pub storage: Storage,
    /// Zones that members live in; without it, those of the nodes that take pods when the cluster is made, or will again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9))]
    pub zones: Option<Vec<Zone>>,
    /// TLS.
    #[serde(default)]
    pub tls: Tls,
    /// The node's image; without it, the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Each member's resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

impl StoreClusterSpec {
    /// The zones whose members are witnesses.
    #[must_use]
    pub fn witness_zones(&self) -> BTreeSet<String> {
        let zones = self.zones.iter().flatten().filter(|zone| zone.role == ZoneRole::Witness);
        zones.map(|zone| zone.name.clone()).collect()
    }

    /// The leader priority of a zone's members.
    #[must_use]
    pub fn leader_priority(&self, zone: &str) -> u32 {
        self.zones.iter().flatten().find(|known| known.name == zone).map_or(0, |zone| zone.leader_priority)
    }
}

fn three() -> u32 {
    3
}

/// Where a cluster stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// The founding members start.
    Bootstrapping,
    /// All members are there and well.
    Ready,
    /// Members come, go or restart as planned.
    Changing,
    /// A quorum serves, but not all members are well.
    Degraded,
    /// No quorum answers.
    Unavailable,
}

/// One member.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its pod.
    pub name: String,
    /// Its id in hexadecimal.
    pub id: String,
    /// Its zone.
    pub zone: String,
    /// The Kubernetes node of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Voter, Learner or Witness.
    pub role: String,
    /// When it was first seen as a learner, while it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learner_since: Option<String>,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it answered and knows the leader.
    pub healthy: bool,
    /// Log entries behind the most advanced member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Size of its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// When it answered last; renewed about every minute while it is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_time: Option<String>,
}

/// A place whose learners did not become voters.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GivenUpLearners {
    /// Their pod.
    pub name: String,
    /// How many there were; the next one has twice as long for each, within bounds.
    pub count: u32,
}

/// What the operator sees and plans.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreClusterStatus {
    /// The spec's generation that this is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Where the cluster stands.
    #[serde(default)]
    pub phase: Phase,
    /// The cluster's id in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Members of the store, for the scale subresource.
    #[serde(default)]
    pub replicas: i32,
    /// Voters that answer and know the leader.
    #[serde(default)]
    pub ready_members: i32,
    /// The leader's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Selects the pods, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// The members.
    #[serde(default)]
    pub members: Vec<MemberStatus>,
    /// Places whose learners were given up, until one becomes a voter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners_given_up: Vec<GivenUpLearners>,
    /// What is done next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// What that waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Whether a quorum is left after the loss of any one zone, now.
    #[serde(default)]
    pub zone_loss_survivable: bool,
    /// Available, Progressing, Degraded.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
