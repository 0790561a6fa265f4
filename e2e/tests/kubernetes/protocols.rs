//! The core of the suite once more with each protocol but Raft, which all other tests run on.

use anyhow::{Result, ensure};
use quorate_e2e::cluster::NODES;
use quorate_e2e::command::until;

use crate::support::{CHANGE_TIMEOUT, READY_TIMEOUT, Store, Writer, lab};

/// Bring-up, the leader killed, a zone cut off, five members and three again, all under writes.
async fn core(namespace: &str, consensus: &str) -> Result<()> {
    let store = Store::namespace(namespace)?;
    store.apply(3, &format!("  consensus: {consensus}\n"))?;
    store.wait_ready(3, READY_TIMEOUT)?;
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

    // The clients' way leads over the first node; of the other two the leader's is cut if it is there.
    let node = if store.leader()?.contains("zone-c") { &NODES[2] } else { &NODES[1] };
    lab().0.cut(node)?;
    let result = writer.wait_for(100).await;
    lab().0.heal(node)?;
    result?;
    store.wait_ready(3, CHANGE_TIMEOUT)?;

    for members in [5, 3] {
        store.kubectl(&["scale", "storecluster", store.name, &format!("--replicas={members}")])?;
        store.wait_ready(members, CHANGE_TIMEOUT)?;
        writer.wait_for(20).await?;
    }
    writer.finish(&format!("{consensus}: leader killed, {} cut off, scaled 3, 5, 3", node.zone)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn multi_paxos_passes_the_core() -> Result<()> {
    core("multi-paxos", "MultiPaxos").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn zab_passes_the_core() -> Result<()> {
    core("zab", "Zab").await
}
