//! The leader's zone is cut off: how soon the status names the next leader, and how long clients wait that connect anew. And a
//! cluster that is made meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use quorate_e2e::cluster::{NODES, Node};
use quorate_e2e::command::until;

use crate::support::{CHANGE_TIMEOUT, Store, lab};

/// From the cut to a status with the next leader: an election, the operator's pause, and questions to a silent member.
const TOLD_TIMEOUT: Duration = Duration::from_secs(8);
/// Another operator takes over when the Lease of the first one has run out.
const TAKEN_OVER_TIMEOUT: Duration = Duration::from_secs(20);
/// For a client that knows every member's URL: an election, and questions to a name server that was cut off.
const GAP_MAX: Duration = Duration::from_secs(10);
/// Past the time after which Kubernetes itself takes the lost members out of the Service (16 s here).
const WATCHED: Duration = Duration::from_secs(25);

const OPERATORS: &str = "quorate-system";

/// The nodes whose pods of this namespace match.
fn nodes_of(namespace: &str, label: &str) -> Result<Vec<String>> {
    let names = "jsonpath={.items[*].spec.nodeName}";
    let nodes = lab().0.kubectl(&["-n", namespace, "get", "pods", "-l", label, "-o", names])?;
    Ok(nodes.split(' ').map(str::to_owned).collect())
}

/// The operator that works: its pod and its node.
fn operator() -> Result<(String, String)> {
    let get = |what: &[&str]| lab().0.kubectl(&[&["-n", OPERATORS, "get"], what].concat());
    let holder = get(&["lease", "quorate-operator", "-o", "jsonpath={.spec.holderIdentity}"])?;
    ensure!(!holder.is_empty(), "no operator works");
    let node = get(&["pod", &holder, "-o", "jsonpath={.spec.nodeName}"])?;
    Ok((holder, node))
}

/// Not the clients' node nor the operator's, rather one with a name server: pods elsewhere still ask that one.
fn node_without_operator() -> Result<&'static Node> {
    let (_, operator) = until("an operator", CHANGE_TIMEOUT, operator)?;
    let name_servers = nodes_of("kube-system", "k8s-app=kube-dns")?;
    println!("the operator works on {operator}, name servers on {name_servers:?}");
    let free = NODES[1..].iter().filter(|node| node.name != operator);
    free.max_by_key(|node| name_servers.iter().any(|name| name == node.name)).context("two nodes are left")
}

/// The operator's node, which must not be the clients'.
fn node_with_operator() -> Result<&'static Node> {
    until("an operator that is not on the clients' node", CHANGE_TIMEOUT, || {
        let (pod, node) = operator()?;
        if node == NODES[0].name {
            lab().0.kubectl(&["-n", OPERATORS, "delete", "pod", &pod])?;
        }
        NODES[1..].iter().find(|known| known.name == node).with_context(|| format!("it is on {node}"))
    })
}

/// A StoreCluster whose leader is on the node that is chosen, with clients in the first zone; and the leader's pod.
fn led_on(
    namespace: &str,
    choose: impl Fn() -> Result<&'static Node>,
) -> Result<(Store, &'static Node, String)> {
    let store = Store::ready(namespace, 3)?;
    store.toolbox_in(NODES[0].zone)?;
    let node = choose()?;
    let leader = format!("store-{}-0", node.zone);
    store.lead_at(&leader)?;
    Ok((store, node, leader))
}

/// How long after `began` the status named another leader.
fn told(store: &Store, cut: &str, began: Instant) -> Result<Duration> {
    until("the next leader in the status", CHANGE_TIMEOUT, || {
        let leader = store.leader()?;
        ensure!(leader != cut, "{leader} still leads");
        Ok(began.elapsed())
    })
}

/// The longest time between two acknowledged writes of clients that each connect anew.
fn longest_gap(store: &Store, endpoints: &str, key: &str, until: Instant) -> (Duration, usize) {
    let (mut longest, mut last, mut written) = (Duration::ZERO, Instant::now(), 0);
    while Instant::now() < until {
        if store.etcdctl(endpoints, &["put", key, "v"]).is_ok() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            written += 1;
        }
    }
    (longest.max(last.elapsed()), written)
}

#[test]
#[ignore = "needs root: make test"]
fn the_next_leader_is_told_soon_after_the_leaders_zone_is_cut_off() -> Result<()> {
    let (store, node, cut) = led_on("zone-loss", node_without_operator)?;
    // With the final dot a name is looked up once, not once for each domain of the pod's search list (docs/clients.md).
    let members = store.urls().replace(".svc:", ".svc.cluster.local.:");
    let began = Instant::now();
    let end = began + WATCHED;
    lab().0.cut(node)?;
    let (told, service, each) = std::thread::scope(|scope| {
        let service = scope.spawn(|| longest_gap(&store, "https://store-client:2379", "service", end));
        let each = scope.spawn(|| longest_gap(&store, &members, "each", end));
        (told(&store, &cut, began), service.join(), each.join())
    });
    lab().0.heal(node)?;
    let (Ok(service), Ok(each)) = (service, each) else { anyhow::bail!("a client panicked") };
    let told = told?;
    println!(
        "leader {cut} cut off with {}: the status named the next after {} ms; longest gap of clients that connect anew, through \
         the Service {} ms ({} writes), with every member's URL {} ms ({} writes)",
        node.zone,
        told.as_millis(),
        service.0.as_millis(),
        service.1,
        each.0.as_millis(),
        each.1,
    );
    store.wait_ready(3, CHANGE_TIMEOUT)?;
    ensure!(told <= TOLD_TIMEOUT, "the status named the next leader only after {} ms", told.as_millis());
    ensure!(each.0 <= GAP_MAX, "clients that know every member waited {} ms", each.0.as_millis());
    Ok(())
}

#[test]
#[ignore = "needs root: make test"]
fn another_operator_tells_it_after_the_loss_of_the_first_ones_zone() -> Result<()> {
    let (store, node, cut) = led_on("operator-lost", node_with_operator)?;
    let began = Instant::now();
    lab().0.cut(node)?;
    let told = told(&store, &cut, began);
    lab().0.heal(node)?;
    let told = told?;
    println!(
        "leader {cut} and the operator cut off: the status named the next after {} ms",
        told.as_millis()
    );
    store.wait_ready(3, CHANGE_TIMEOUT)?;
    let limit = TAKEN_OVER_TIMEOUT + TOLD_TIMEOUT;
    ensure!(told <= limit, "the status named the next leader only after {} ms", told.as_millis());
    Ok(())
}

/// Makes a StoreCluster while a node is not ready: the founders in the other zones serve.
fn made_without(store: &Store, out: &Node) -> Result<()> {
    until(&format!("{} to be unreachable", out.name), CHANGE_TIMEOUT, || {
        let taints = lab().0.kubectl(&["get", "node", out.name, "-o", "jsonpath={.spec.taints[*].key}"])?;
        ensure!(taints.contains("node.kubernetes.io/unreachable"), "taints: {taints}");
        Ok(())
    })?;
    store.apply(3, "")?;
    until("two of three founders to serve", CHANGE_TIMEOUT, || {
        let state = store.get(
            ".status.readyMembers} {.status.phase} {.status.conditions[0].status} {.status.waitingFor",
        )?;
        let pod = format!("store-{}-0", out.zone);
        let wanted = format!("2 Bootstrapping True founding members {pod} to start: 2 of 3 have");
        ensure!(state == wanted, "{state}");
        Ok(())
    })
}

#[test]
#[ignore = "needs root: make test"]
fn a_cluster_made_while_a_zone_is_out_has_it_when_it_is_back() -> Result<()> {
    let store = Store::namespace("zone-out")?;
    let node = node_without_operator()?;
    let began = Instant::now();
    lab().0.cut(node)?;
    let made = made_without(&store, node);
    lab().0.heal(node)?;
    made?;
    let healed = began.elapsed();
    store.wait_ready(3, CHANGE_TIMEOUT)?;
    println!(
        "made without {}: served after {} s, whole {} s after the zone was back",
        node.zone,
        healed.as_secs(),
        (began.elapsed() - healed).as_secs(),
    );
    let zones = store.get(".status.members[*].zone")?;
    ensure!(zones == NODES.map(|node| node.zone).join(" "), "members are in {zones}");
    Ok(())
}
