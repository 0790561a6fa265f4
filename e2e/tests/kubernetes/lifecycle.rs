//! Growing, shrinking, an operator that is killed on the way, the end.

use anyhow::{Result, ensure};
use quorate_e2e::command::until;

use crate::support::{CHANGE_TIMEOUT, READY_TIMEOUT, Store, Writer, lab};

fn scale(store: &Store, members: u32) -> Result<()> {
    store.kubectl(&["scale", "storecluster", store.name, &format!("--replicas={members}")]).map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn it_grows_and_shrinks_under_writes() -> Result<()> {
    let store = Store::ready("scale", 1)?;
    let clients = store.clients().await?;
    let writer = Writer::start(&clients);
    writer.wait_for(50).await?;
    for members in [3, 5, 3] {
        scale(&store, members)?;
        store.wait_ready(members, CHANGE_TIMEOUT)?;
        writer.wait_for(20).await?;
    }
    until("claims of removed members to go", CHANGE_TIMEOUT, || {
        let claims = store.kubectl(&["get", "pvc", "-o", "name"])?;
        ensure!(claims.lines().count() == 3, "{claims}");
        Ok(())
    })?;
    writer.finish("scaled 1, 3, 5, 3").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn an_operator_killed_in_the_middle_of_a_scale_finishes_it() -> Result<()> {
    let store = Store::ready("operator-killed", 3)?;
    let clients = store.clients().await?;
    let writer = Writer::start(&clients);
    writer.wait_for(20).await?;
    scale(&store, 5)?;
    for _ in 0..3 {
        let operator =
            ["-n", "quorate-system", "delete", "pod", "-l", "app.kubernetes.io/name=quorate-operator"];
        lab().0.kubectl(&[&operator[..], &["--grace-period=0", "--force"]].concat())?;
        // Each time at another place of the work.
        writer.wait_for(150).await?;
    }
    store.wait_ready(5, CHANGE_TIMEOUT)?;
    ensure!(store.get(".status.members[*].role")? == "Voter Voter Voter Voter Voter");
    writer.finish("operator killed three times").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn new_settings_reach_one_member_after_the_other() -> Result<()> {
    let store = Store::ready("restart", 3)?;
    let clients = store.clients().await?;
    let writer = Writer::start(&clients);
    writer.wait_for(20).await?;
    let pods = || store.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"]);
    let before = pods()?;
    store.apply(3, "  resources: {requests: {cpu: 50m, memory: 128Mi}}\n")?;
    until("every pod to be a new one", CHANGE_TIMEOUT, || {
        let now = pods()?;
        let old: Vec<_> = before.split(' ').filter(|uid| now.contains(*uid)).collect();
        ensure!(old.is_empty(), "{} pods are left", old.len());
        Ok(())
    })?;
    store.wait_ready(3, CHANGE_TIMEOUT)?;
    writer.finish("restarted with new settings").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn data_stays_or_goes_as_the_reclaim_policy_says() -> Result<()> {
    let store = Store::ready("reclaim", 3)?;
    let clients = store.clients().await?;
    clients.put_soon("w/kept", "w/kept").await?;
    let delete = || store.kubectl(&["delete", "storecluster", store.name, "--wait"]);
    let gone = || {
        until("the pods to go", CHANGE_TIMEOUT, || {
            let pods = store.kubectl(&["get", "pods", "-o", "name"])?;
            ensure!(pods.trim().is_empty(), "{pods}");
            Ok(())
        })
    };
    delete()?;
    gone()?;
    ensure!(store.kubectl(&["get", "pvc", "-o", "name"])?.lines().count() == 3, "Retain keeps the claims");

    let delete_with_it = store.manifest(3, "").replace("size: 1Gi", "size: 1Gi, reclaimPolicy: Delete");
    lab().0.apply(&delete_with_it)?;
    store.wait_ready(3, READY_TIMEOUT)?;
    let clients = store.clients().await?;
    ensure!(
        clients.all().await?.contains_key("w/kept"),
        "a cluster of the same name takes its data up again"
    );
    delete()?;
    gone()?;
    until("the claims to go", CHANGE_TIMEOUT, || {
        let claims = store.kubectl(&["get", "pvc", "-o", "name"])?;
        ensure!(claims.trim().is_empty(), "{claims}");
        Ok(())
    })
}
