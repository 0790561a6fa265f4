//! A member that votes and holds no data, and members that are preferred as leaders, as real processes.

use quorate_api::etcdserverpb::cluster_client::ClusterClient;
use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_api::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberRemoveRequest, PutRequest, RangeRequest, StatusRequest,
};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use super::support::{Member as Process, count, get, leader, leads, members_with, put, until};

/// The witness's place; the others hold data.
const WITNESS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn with_raft_a_witness_keeps_the_quorum() {
    a_witness_keeps_the_quorum("Raft").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_multi_paxos_a_witness_keeps_the_quorum() {
    a_witness_keeps_the_quorum("MultiPaxos").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_zab_a_witness_keeps_the_quorum() {
    a_witness_keeps_the_quorum("Zab").await;
}

async fn a_witness_keeps_the_quorum(protocol: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let witness = |_| vec![format!("--initial-cluster-witnesses=m{WITNESS}")];
    let mut members = members_with(folder.path(), 3, protocol, witness);
    put(&members[0], "k0").await;
    put(&members[1], "k1").await;
    assert_eq!(count(&members[0]).await, 2);
    ready(&members[WITNESS], true).await;
    says_what_it_is(&members[WITNESS]).await;

    // One member with data is left, and a witness that has to come back from its disk.
    let killed = leader(&members, None).await;
    assert_ne!(killed, WITNESS, "a witness leads");
    let other = 1 - killed;
    members[killed].kill();
    leads(&members, other).await;
    put(&members[other], "k2").await;
    members[WITNESS].kill();
    members[WITNESS].start();
    put(&members[other], "k3").await;
    assert_eq!(count(&members[other]).await, 4);

    // The killed one caught up, and leads when the other is gone.
    members[killed].start();
    assert_eq!(count(&members[killed]).await, 4);
    members[other].kill();
    put(&members[killed], "k4").await;
    assert_eq!(count(&members[killed]).await, 5);
    members[killed].kill();
    ready(&members[WITNESS], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_raft_a_lost_witness_is_replaced() {
    a_lost_witness_is_replaced("Raft").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_multi_paxos_a_lost_witness_is_replaced() {
    a_lost_witness_is_replaced("MultiPaxos").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_zab_a_lost_witness_is_replaced() {
    a_lost_witness_is_replaced("Zab").await;
}

/// The operator's way: the lost one leaves, and a new one votes at once in its place.
async fn a_lost_witness_is_replaced(protocol: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let witness = |_| vec![format!("--initial-cluster-witnesses=m{WITNESS}")];
    let mut members = members_with(folder.path(), 3, protocol, witness);
    put(&members[0], "k0").await;
    ready(&members[WITNESS], true).await;
    members[WITNESS].kill();
    std::fs::remove_dir_all(folder.path().join(format!("m{WITNESS}"))).expect("its data goes");

    let leader = leader(&members, None).await;
    let mut cluster = ClusterClient::connect(members[leader].client.clone()).await.expect("a connection");
    let listed = cluster.member_list(MemberListRequest { linearizable: true }).await.expect("the members");
    let name = format!("m{WITNESS}");
    let lost = listed.into_inner().members.into_iter().find(|member| member.name == name);
    let Member { id, peer_ur_ls, .. } = lost.expect("the witness");
    // Refused until the leader has heard from the other one lately.
    until("the witness leaves", || {
        let mut cluster = cluster.clone();
        async move { cluster.member_remove(MemberRemoveRequest { id }).await.ok() }
    })
    .await;
    let mut add = Request::new(MemberAddRequest { peer_ur_ls, is_learner: false });
    add.metadata_mut().insert("quorate-role", MetadataValue::from_static("witness"));
    cluster.member_add(add).await.expect("another one comes");

    members[WITNESS].arguments.push("--initial-cluster-state=existing".to_owned());
    members[WITNESS].start();
    ready(&members[WITNESS], true).await;
    says_what_it_is(&members[WITNESS]).await;
    // Its vote counts now.
    members[leader].kill();
    put(&members[1 - leader], "k1").await;
    assert_eq!(count(&members[1 - leader]).await, 2);
}

async fn ready(member: &Process, wanted: bool) {
    let status = if wanted { "HTTP/1.1 200" } else { "HTTP/1.1 503" };
    let what = format!("{status} of {}'s /readyz", member.name);
    until(&what, || async { get(member, "/readyz").await?.starts_with(status).then_some(()) }).await;
}

/// It tells clients to go elsewhere, and operators how it is.
async fn says_what_it_is(witness: &Process) {
    let mut kv = KvClient::connect(witness.client.clone()).await.expect("a connection");
    let refused = |status: Status| {
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("is a witness"), "{status}");
    };
    refused(
        kv.put(PutRequest { key: "k".into(), ..Default::default() }).await.expect_err("a witness refuses"),
    );
    let read = RangeRequest { key: "k".into(), serializable: true, ..Default::default() };
    refused(kv.range(read).await.expect_err("a witness refuses"));
    let mut cluster = ClusterClient::connect(witness.client.clone()).await.expect("a connection");
    let listed = cluster.member_list(MemberListRequest { linearizable: true }).await.expect("the members");
    assert_eq!(listed.into_inner().members.len(), 3);
    let mut maintenance = MaintenanceClient::connect(witness.client.clone()).await.expect("a connection");
    let status = maintenance.status(StatusRequest {}).await.expect("a status").into_inner();
    assert_eq!(status.errors, [] as [String; 0]);
    assert_ne!(status.leader, 0);
    let metrics = get(witness, "/metrics").await.expect("metrics");
    assert!(metrics.contains("quorate_server_is_witness 1"), "{metrics}");
    assert!(metrics.contains("quorate_server_group_feature_level 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_raft_a_preferred_member_leads_while_it_is_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let preferred = 2;
    // A preferred voter must be in sync for three election timeouts: short ones.
    let more = |at| {
        let priority = u32::from(at == preferred);
        vec![format!("--leader-priority={priority}"), "--election-timeout=500".to_owned()]
    };
    let mut members = members_with(folder.path(), 3, "Raft", more);
    put(&members[0], "k0").await;
    leads(&members, preferred).await;
    members[preferred].kill();
    let next = leader(&members, Some(preferred)).await;
    put(&members[next], "k1").await;
    members[preferred].start();
    leads(&members, preferred).await;
    put(&members[next], "k2").await;
    assert_eq!(count(&members[preferred]).await, 3);
}
