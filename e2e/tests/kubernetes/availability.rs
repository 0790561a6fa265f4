//! Members, zones and volumes are lost; writes go on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::lease_client::LeaseClient;
use quorate_api::etcdserverpb::watch_client::WatchClient;
use quorate_api::etcdserverpb::watch_request::RequestUnion;
use quorate_api::etcdserverpb::{
    LeaseGrantRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchRequest,
};
use quorate_e2e::cluster::NODES;
use quorate_e2e::command::until;
use tokio_stream::StreamExt as _;

use crate::support::{CHANGE_TIMEOUT, Store, Writer, lab};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn a_killed_leader_loses_no_acknowledged_write_and_comes_back() -> Result<()> {
    let store = Store::ready("leader-killed", 3)?;
    let clients = store.clients().await?;
    let writer = Writer::start(&clients);
    writer.wait_for(50).await?;
    let leader = store.leader()?;
    store.kubectl(&["delete", "pod", &leader, "--grace-period=0", "--force"])?;
    writer.wait_for(100).await?;
    until("another leader", CHANGE_TIMEOUT, || {
        let next = store.leader()?;
        ensure!(next != leader, "{next} still leads");
        Ok(())
    })?;
    store.wait_ready(3, CHANGE_TIMEOUT)?;
    writer.finish("leader killed").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn watch_and_lease_outlive_a_leader() -> Result<()> {
    let store = Store::ready("watch-lease", 3)?;
    let clients = store.clients().await?;
    clients.put_soon("w/first", "w/first").await?;
    let channel = clients.channel().await?;
    let granted = LeaseClient::new(channel.clone()).lease_grant(LeaseGrantRequest { ttl: 30, id: 0 }).await?;
    let lease = granted.into_inner().id;
    let with_lease = PutRequest { key: "leased".into(), value: "v".into(), lease, ..Default::default() };
    let first =
        KvClient::new(channel).put(with_lease).await?.into_inner().header.context("a header")?.revision;
    let leader = store.leader()?;
    store.kubectl(&["delete", "pod", &leader, "--grace-period=0", "--force"])?;
    let mut written = 0;
    for number in 0..20 {
        clients.put_soon(&format!("watched/{number:02}"), "v").await?;
        written += 1;
    }
    // A watcher that comes back with its revision misses nothing of what happened meanwhile.
    let create = WatchCreateRequest {
        key: "watched/".into(),
        range_end: "watched0".into(),
        start_revision: first,
        ..Default::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::once(create).chain(tokio_stream::pending());
    // Long-lived streams have no deadline, unlike the requests of the other clients.
    let mut events = WatchClient::new(clients.channel().await?).watch(requests).await?.into_inner();
    let mut keys = std::collections::BTreeSet::new();
    while keys.len() < written {
        let response =
            tokio::time::timeout(CHANGE_TIMEOUT, events.message()).await??.context("the watch ended")?;
        keys.extend(response.events.into_iter().filter_map(|event| event.kv).map(|kv| kv.key));
    }
    let mut kv = KvClient::new(clients.channel().await?);
    let leased = kv.range(RangeRequest { key: "leased".into(), ..Default::default() }).await?.into_inner();
    ensure!(leased.count == 1, "the lease outlives the leader: the new one starts its time anew");
    until_gone(&clients).await
}

/// Nobody renews the lease: it ends under the new leader too.
async fn until_gone(clients: &crate::support::Clients) -> Result<()> {
    let began = std::time::Instant::now();
    loop {
        let request = RangeRequest { key: "leased".into(), ..Default::default() };
        let answer = KvClient::new(clients.channel().await?).range(request).await;
        if answer.is_ok_and(|answer| answer.into_inner().count == 0) {
            return Ok(());
        }
        ensure!(began.elapsed() < CHANGE_TIMEOUT, "the lease did not end");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn a_zone_is_cut_off_and_healed() -> Result<()> {
    let store = Store::ready("zone-cut", 3)?;
    let clients = store.clients().await?;
    let writer = Writer::start(&clients);
    writer.wait_for(50).await?;
    // The clients' way leads over the first node; of the other two the leader's is cut if it is there.
    let leader = store.leader()?;
    let node = if leader.contains("zone-c") { &NODES[2] } else { &NODES[1] };
    lab().0.cut(node)?;
    let result = writer.wait_for(100).await;
    let degraded = until("the loss to be told", CHANGE_TIMEOUT, || {
        ensure!(store.get(".status.readyMembers")? == "2" && store.get(".status.phase")? == "Degraded");
        Ok(())
    });
    lab().0.heal(node)?;
    result?;
    degraded?;
    store.wait_ready(3, CHANGE_TIMEOUT)?;
    writer.finish(&format!("{} cut off, leader {leader}", node.zone)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn a_lost_volume_is_replaced_in_place() -> Result<()> {
    let store = Store::ready("volume-lost", 3)?;
    let clients = store.clients().await?;
    let writer = Writer::start(&clients);
    writer.wait_for(50).await?;
    let pod = store.leader()?;
    let id = |pod: &str| store.get(&format!(".status.members[?(@.name==\"{pod}\")].id"));
    let before = id(&pod)?;
    store.kubectl(&["delete", "pvc", &format!("data-{pod}"), "--wait=false"])?;
    store.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"])?;
    until("a new member in the same pod", CHANGE_TIMEOUT, || {
        let now = id(&pod)?;
        ensure!(now != before && !now.is_empty() && !now.contains(' '), "the member of {pod} is {now}");
        Ok(())
    })?;
    store.wait_ready(3, CHANGE_TIMEOUT)?;
    writer.finish("volume lost").await
}
