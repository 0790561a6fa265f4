//! A zone whose member is a witness: it votes, holds no data, never leads, and keeps the quorum when a member with data is lost.

use anyhow::{Context as _, Result, ensure};
use quorate_e2e::cluster::NODES;
use quorate_e2e::command::until;

use crate::support::{CHANGE_TIMEOUT, Clients, READY_TIMEOUT, Store, Writer, lab};

const WITNESS: &str = "store-zone-c-0";

/// The members with data, in the first two zones.
const DATA: [&str; 2] = ["store-zone-a-0", "store-zone-b-0"];

fn zones(priorities: [u32; 2]) -> String {
    let [a, b] = priorities;
    format!(
        "  zones: [{{name: zone-a, leaderPriority: {a}}}, {{name: zone-b, leaderPriority: {b}}}, \
         {{name: zone-c, role: Witness}}]\n"
    )
}

fn other_than(leader: &str) -> Result<&'static str> {
    DATA.into_iter().find(|pod| *pod != leader).context("two members hold data")
}

/// Who leads; never the witness.
fn leader(store: &Store) -> Result<&'static str> {
    let leader = until("a leader", CHANGE_TIMEOUT, || store.leader())?;
    DATA.into_iter().find(|pod| *pod == leader).with_context(|| format!("{leader} leads"))
}

fn wait_leads(store: &Store, wanted: &str) -> Result<()> {
    until(&format!("{wanted} to lead"), CHANGE_TIMEOUT, || {
        let now = leader(store)?;
        ensure!(now == wanted, "{now} leads");
        Ok(())
    })
}

/// The status tells the witness apart, and says that any one zone may be lost.
fn status_tells(store: &Store) -> Result<()> {
    let members = store.get(".status.members[*].name} {.status.members[*].role")?;
    ensure!(members == format!("{} {} {WITNESS} Voter Voter Witness", DATA[0], DATA[1]), "{members}");
    let conditions = store.get(".status.conditions[*].type} {.status.conditions[*].status")?;
    ensure!(conditions == "Available Progressing Degraded True False False", "{conditions}");
    ensure!(store.get(".status.zoneLossSurvivable")? == "true");
    Ok(())
}

/// Runs etcdctl against the member of a pod.
fn etcdctl(store: &Store, pod: &str, arguments: &[&str]) -> Result<String> {
    store.etcdctl(&store.url(pod), &[&["--command-timeout=3s"], arguments].concat())
}

/// What etcdctl and a probe see of a witness: a member that is well, and has nothing to read or write.
fn witness_holds_no_data(store: &Store) -> Result<()> {
    ensure!(etcdctl(store, DATA[0], &["put", "hello", "world"])?.trim() == "OK");
    ensure!(etcdctl(store, DATA[1], &["get", "hello", "--print-value-only"])?.trim() == "world");
    let status = etcdctl(store, WITNESS, &["endpoint", "status", "-w", "fields"])?;
    ensure!(status.contains("\"Errors\" : []"), "{status}");
    ensure!(!status.contains("\"Leader\" : 0\n"), "{status}");
    for pod in [DATA[0], WITNESS] {
        ensure!(etcdctl(store, pod, &["member", "list"])?.lines().count() == 3);
    }
    for command in [&["put", "hello", "there"][..], &["get", "hello"], &["get", "hello", "--consistency=s"]] {
        let said = etcdctl(store, WITNESS, command).err().map(|error| format!("{error:#}"));
        let said = said.with_context(|| format!("the witness serves {command:?}"))?;
        ensure!(said.contains("this member is a witness"), "{said}");
    }
    // etcdctl calls a member healthy that serves a read.
    ensure!(etcdctl(store, WITNESS, &["endpoint", "health"]).is_err(), "the witness serves a read");
    let page = |path: &str| {
        let url = format!("http://{WITNESS}.store-peers.{}.svc:2381{path}", store.namespace);
        store.kubectl(&["exec", "deploy/toolbox", "--", "wget", "-qO-", &url])
    };
    page("/readyz")?;
    let metrics = page("/metrics")?;
    ensure!(metrics.contains("\nquorate_server_is_witness 1\n"), "{metrics}");
    ensure!(metrics.contains("\netcd_server_is_leader 0\n"), "{metrics}");
    Ok(())
}

/// The leader's pod is killed under writes, and comes back.
async fn leader_killed(store: &Store, clients: &Clients, consensus: &str) -> Result<()> {
    let writer = Writer::start(clients);
    writer.wait_for(50).await?;
    let killed = leader(store)?;
    store.kubectl(&["delete", "pod", killed, "--grace-period=0", "--force"])?;
    writer.wait_for(100).await?;
    store.wait_ready(3, CHANGE_TIMEOUT)?;
    // The other one, unless the killed one and the witness alone had acknowledged the last write: then nobody could lead
    // before the killed one was back.
    let leads = leader(store)?;
    writer
        .finish(&format!("{consensus}, one of three a witness: leader {killed} killed, {leads} leads"))
        .await
}

/// Everything the members had acknowledged is on both when the leader's zone is cut off: the other one and the witness go on.
async fn leaders_zone_cut_off(store: &Store, clients: &Clients, consensus: &str) -> Result<()> {
    // The clients' way leads over the first node.
    let (stays, cut) = (DATA[0], DATA[1]);
    store.lead_at(cut)?;
    lab().0.cut(&NODES[1])?;
    let result = async {
        let writer = Writer::start_at(clients, "w/cut/");
        writer.wait_for(100).await?;
        wait_leads(store, stays)?;
        writer.finish(&format!("{consensus}, one of three a witness: the leader's zone cut off")).await
    };
    let result = result.await;
    lab().0.heal(&NODES[1])?;
    result?;
    store.wait_ready(3, CHANGE_TIMEOUT)
}

/// A member with data loses its volume under writes: another one takes its place, with all of the data.
async fn volume_lost(store: &Store, clients: &Clients, consensus: &str) -> Result<()> {
    let writer = Writer::start_at(clients, "w/volume/");
    writer.wait_for(50).await?;
    let lost = other_than(leader(store)?)?;
    let id = || store.get(&format!(".status.members[?(@.name==\"{lost}\")].id"));
    let before = id()?;
    store.kubectl(&["delete", "pvc", &format!("data-{lost}"), "--wait=false"])?;
    store.kubectl(&["delete", "pod", lost, "--grace-period=0", "--force"])?;
    until("a new member in the same pod", CHANGE_TIMEOUT, || {
        let now = id()?;
        ensure!(now != before && !now.is_empty() && !now.contains(' '), "the member of {lost} is {now}");
        Ok(())
    })?;
    store.wait_ready(3, CHANGE_TIMEOUT)?;
    writer.finish(&format!("{consensus}, one of three a witness: volume of {lost} lost")).await?;
    let all = clients.all().await?.len();
    until("all data on the new member", CHANGE_TIMEOUT, || {
        let read = ["get", "w/", "--prefix", "--count-only", "--consistency=s", "-w", "fields"];
        let read = etcdctl(store, lost, &read)?;
        ensure!(read.contains(&format!("\"Count\" : {all}\n")), "{read} of {all}");
        Ok(())
    })
}

/// All of it with one protocol.
async fn core(namespace: &str, consensus: &str) -> Result<Store> {
    let store = Store::namespace(namespace)?;
    store.apply(3, &format!("  consensus: {consensus}\n{}", zones([0, 0])))?;
    store.wait_ready(3, READY_TIMEOUT)?;
    store.toolbox()?;
    status_tells(&store)?;
    witness_holds_no_data(&store)?;
    let clients = store.clients().await?;
    leader_killed(&store, &clients, consensus).await?;
    leaders_zone_cut_off(&store, &clients, consensus).await?;
    volume_lost(&store, &clients, consensus).await?;
    status_tells(&store)?;
    Ok(store)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn raft_goes_on_with_a_witness_and_leads_where_it_is_preferred() -> Result<()> {
    let store = core("witness", "Raft").await?;
    // Members restart one after the other to learn of it; each time the witness keeps the quorum.
    let preferred = other_than(leader(&store)?)?;
    let priorities = DATA.map(|pod| u32::from(pod == preferred));
    store.apply(3, &zones(priorities))?;
    wait_leads(&store, preferred)?;
    store.wait_ready(3, CHANGE_TIMEOUT)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn multi_paxos_goes_on_with_a_witness() -> Result<()> {
    core("witness-multi-paxos", "MultiPaxos").await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn zab_goes_on_with_a_witness() -> Result<()> {
    core("witness-zab", "Zab").await.map(|_| ())
}
