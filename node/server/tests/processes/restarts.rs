//! Real processes on loopback: what was acknowledged is there on every member, after SIGKILL and SIGTERM too.

use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_api::etcdserverpb::{HashKvRequest, PutRequest, StatusRequest};
use tokio::task::JoinSet;

use super::support::{Member, count, count_as, leader, members, put, until};

#[tokio::test(flavor = "multi_thread")]
async fn with_raft_acknowledged_writes_survive_killed_and_stopped_leaders() {
    killed_and_stopped_leaders("Raft").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_multi_paxos_acknowledged_writes_survive_killed_and_stopped_leaders() {
    killed_and_stopped_leaders("MultiPaxos").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_zab_acknowledged_writes_survive_killed_and_stopped_leaders() {
    killed_and_stopped_leaders("Zab").await;
}

async fn killed_and_stopped_leaders(protocol: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut members = members(folder.path(), 3, protocol);
    for (at, member) in members.iter().enumerate() {
        put(member, &format!("k{at}")).await;
    }
    let killed = leader(&members, None).await;
    members[killed].kill();
    put(&members[(killed + 1) % 3], "k3").await;
    members[killed].start();
    assert_eq!(count(&members[killed]).await, 4);

    let stopped = leader(&members, None).await;
    assert!(members[stopped].terminate(), "SIGTERM ends a member with success");
    put(&members[(stopped + 1) % 3], "k4").await;
    members[stopped].start();
    for member in &mut members {
        member.kill();
    }
    for member in &mut members {
        member.start();
    }
    for member in &members {
        assert_eq!(count(member).await, 5, "on {}", member.name);
    }

    // A follower that comes back while nobody writes has nothing to apply, and serves what it has.
    let leader = leader(&members, None).await;
    let follower = &mut members[(leader + 1) % 3];
    assert!(follower.terminate(), "SIGTERM ends a follower with success");
    follower.start();
    assert_eq!(count_as(follower, true).await, 5, "serializable on {}", follower.name);
}

/// Puts so many keys through one member, several at a time. A put that a change of leader left without an answer is asked again.
async fn fill(member: &Member, keys: usize) {
    const WORKERS: usize = 64;
    let kv = KvClient::connect(member.client.clone()).await.expect("a connection");
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let kv = kv.clone();
        workers.spawn(async move {
            for number in (worker..keys).step_by(WORKERS) {
                let key = format!("k/{number:08}");
                until("a put", || {
                    let mut kv = kv.clone();
                    let put = PutRequest { key: key.clone().into(), value: "v".into(), ..Default::default() };
                    async move { kv.put(put).await.ok() }
                })
                .await;
            }
        });
    }
    workers.join_all().await;
}

/// The log keeps 5,000 applied entries once 15,000 have come together: who lacks more gets a snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn with_raft_a_member_that_was_away_for_long_gets_a_snapshot() {
    away_for_long("Raft").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_multi_paxos_a_member_that_was_away_for_long_gets_a_snapshot() {
    away_for_long("MultiPaxos").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_zab_a_member_that_was_away_for_long_gets_a_snapshot() {
    away_for_long("Zab").await;
}

async fn away_for_long(protocol: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut members = members(folder.path(), 3, protocol);
    put(&members[0], "k").await;
    let leader = leader(&members, None).await;
    let away = (leader + 1) % 3;
    members[away].kill();
    fill(&members[leader], 25_000).await;
    members[away].start();
    assert_eq!(count(&members[away]).await, 25_001);
    assert!(members[away].log().contains("installed a snapshot"), "it caught up another way");
    let hash = async |member: &Member| {
        let status = until("a hash", || async {
            let mut client = MaintenanceClient::connect(member.client.clone()).await.ok()?;
            let applied = client.status(StatusRequest {}).await.ok()?.into_inner().raft_applied_index;
            let hash = client.hash_kv(HashKvRequest::default()).await.ok()?.into_inner().hash;
            Some((applied, hash))
        });
        status.await.1
    };
    assert_eq!(hash(&members[away]).await, hash(&members[leader]).await);
    // What it received is on its disk too.
    members[away].kill();
    members[away].start();
    assert_eq!(count(&members[away]).await, 25_001);
}
