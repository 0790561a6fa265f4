//! A StoreCluster under test, clients of it, and a workload that knows what was acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::{PutRequest, RangeRequest};
use quorate_e2e::cluster::{Cluster, NODES, proxy};
use quorate_e2e::command::until;
use quorate_e2e::product::images::{Loaded, load};
use quorate_e2e::product::target::Target;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// From `kubectl apply` to ready, images loaded.
pub const READY_TIMEOUT: Duration = Duration::from_secs(45);
/// Any later change, on a busy machine.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(180);
/// One request; then another connection is tried.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The embedded Kubernetes with the operator on it, started once. Unless it ran before, it ends with this process.
pub fn lab() -> &'static (Cluster, Loaded) {
    static KEEPER: OnceLock<Option<Child>> = OnceLock::new();
    static LAB: OnceLock<(Cluster, Loaded)> = OnceLock::new();
    LAB.get_or_init(|| {
        KEEPER.get_or_init(|| Cluster::new().end_with_this_process().expect("quorate-lab is built"));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::new();
        cluster.up().expect("the embedded Kubernetes starts");
        let images = load(&cluster).expect("the images are built");
        let target = Target::embedded(&cluster);
        target
            .install(&images.operator, &images.operator_tag, &images.node)
            .expect("the operator is installed");
        (cluster, images)
    })
}

/// One StoreCluster in a namespace of its own, which goes when this is dropped.
pub struct Store {
    pub namespace: String,
    pub name: &'static str,
}

impl Store {
    /// A new namespace without a StoreCluster.
    pub fn namespace(namespace: &str) -> Result<Self> {
        let (cluster, _) = lab();
        // A new cluster is spread over the nodes that take pods now: those that an earlier test cut off are awaited.
        until("every node to take pods", CHANGE_TIMEOUT, || {
            let each = "{.spec.taints[*].key} {.status.conditions[?(@.type==\"Ready\")].status},";
            let nodes = format!("jsonpath={{range .items[*]}}{each}{{end}}");
            let nodes = cluster.kubectl(&["get", "nodes", "-o", &nodes])?;
            ensure!(
                nodes.split_terminator(',').all(|node| node.trim() == "True"),
                "taints and readiness: {nodes}"
            );
            Ok(())
        })?;
        cluster.kubectl(&["delete", "namespace", namespace, "--ignore-not-found", "--wait"])?;
        cluster.kubectl(&["create", "namespace", namespace])?;
        // Everything of ours passes the strictest of Kubernetes' own standards.
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        cluster.kubectl(&["label", "namespace", namespace, restricted])?;
        Ok(Self { namespace: namespace.to_owned(), name: "store" })
    }

    /// A ready StoreCluster.
    pub fn ready(namespace: &str, members: u32) -> Result<Self> {
        let store = Self::namespace(namespace)?;
        store.apply(members, "")?;
        store.wait_ready(members, READY_TIMEOUT)?;
        Ok(store)
    }

    pub fn manifest(&self, members: u32, more: &str) -> String {
        format!(
            "apiVersion: quorate.io/v1alpha1\nkind: StoreCluster\nmetadata: {{name: {}, namespace: {}}}\nspec:\n  \
             members: {members}\n  storage: {{size: 1Gi}}\n{more}",
            self.name, self.namespace
        )
    }

    pub fn apply(&self, members: u32, more: &str) -> Result<()> {
        lab().0.apply(&self.manifest(members, more))
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let namespace = format!("--namespace={}", self.namespace);
        lab().0.kubectl(&[&[namespace.as_str()], arguments].concat())
    }

    /// A pod with etcdctl and the client's certificate.
    pub fn toolbox(&self) -> Result<()> {
        self.toolbox_with("")
    }

    /// The same in a zone.
    pub fn toolbox_in(&self, zone: &str) -> Result<()> {
        self.toolbox_with(&format!("      nodeSelector: {{topology.kubernetes.io/zone: {zone}}}\n"))
    }

    /// The same with more of a pod's specification.
    fn toolbox_with(&self, more: &str) -> Result<()> {
        let toolbox = include_str!("../../src/cluster/manifests/toolbox.yaml")
            .replace("IMAGE", &lab().1.tools)
            .replace("demo-client", &format!("{}-client", self.name))
            .replace(
                "name: toolbox, labels",
                &format!("name: toolbox, namespace: {}, labels", self.namespace),
            )
            + more;
        lab().0.apply(&toolbox)?;
        self.kubectl(&["rollout", "status", "deploy/toolbox", "--timeout=120s"]).map(|_| ())
    }

    /// A value of the StoreCluster by its path.
    pub fn get(&self, path: &str) -> Result<String> {
        let query = format!("jsonpath={{{path}}}");
        self.kubectl(&["get", "storecluster", self.name, "-o", &query])
    }

    pub fn leader(&self) -> Result<String> {
        let leader = self.get(".status.leader")?;
        if leader.is_empty() { bail!("nobody leads") } else { Ok(leader) }
    }

    /// The client URL of a pod's member.
    pub fn url(&self, pod: &str) -> String {
        format!("https://{pod}.{}-peers.{}.svc:2379", self.name, self.namespace)
    }

    /// The client URLs of the three first members.
    pub fn urls(&self) -> String {
        NODES.map(|node| self.url(&format!("{}-{}-0", self.name, node.zone))).join(",")
    }

    /// Runs etcdctl in the toolbox, which connects anew each time.
    pub fn etcdctl(&self, endpoints: &str, arguments: &[&str]) -> Result<String> {
        let endpoints = format!("ETCDCTL_ENDPOINTS={endpoints}");
        let to = ["exec", "deploy/toolbox", "--", "env", &endpoints, "etcdctl"];
        self.kubectl(&[&to[..], arguments].concat())
    }

    /// Makes this pod's member the leader.
    pub fn lead_at(&self, pod: &str) -> Result<()> {
        // The store gives a transfer up after 10 s; one that went to a member which was just cut off may be lost: it is asked for again.
        let move_leader = ["--command-timeout=12s", "move-leader"];
        let id = self.get(&format!(".status.members[?(@.name==\"{pod}\")].id"))?;
        until(&format!("{pod} to lead"), CHANGE_TIMEOUT, || {
            if self.leader()? != pod {
                self.etcdctl(&self.urls(), &[&move_leader[..], &[&id]].concat())?;
            }
            let now = self.leader()?;
            if now == pod { Ok(()) } else { bail!("{now} leads") }
        })
    }

    /// Waits until exactly this many members are there, all well, and nothing is to be done.
    pub fn wait_ready(&self, members: u32, limit: Duration) -> Result<()> {
        until(&format!("{members} members of {}", self.namespace), limit, || {
            let state = self.get(".metadata.generation} {.status.observedGeneration} {.status.phase} {.status.readyMembers} {.status.replicas")?;
            let wanted = format!("Ready {members} {members}");
            let (generation, rest) = state.split_once(' ').context("no status yet")?;
            match rest.split_once(' ') {
                Some((observed, state)) if observed == generation && state == wanted => Ok(()),
                Some(_) | None => {
                    let plan = self.get(".status.plan} {.status.waitingFor")?;
                    bail!("{state}: {plan}")
                }
            }
        })
        .inspect_err(|_| self.explain())
    }

    /// What a person would look at.
    fn explain(&self) {
        for what in ["storecluster,pods,pvc", "events"] {
            println!("{}", self.kubectl(&["get", what, "-o", "wide"]).unwrap_or_default());
        }
        let pods = self.kubectl(&["get", "pods", "-o", "name"]).unwrap_or_default();
        for pod in pods.lines() {
            println!("{pod}: {}", self.kubectl(&["logs", pod, "--tail=15"]).unwrap_or_default());
        }
        let operators = ["-l", "app.kubernetes.io/name=quorate-operator", "--prefix", "--tail=30"];
        let operator = lab().0.kubectl(&[&["-n", "quorate-system", "logs"][..], &operators].concat());
        println!("operator: {}", operator.unwrap_or_default());
    }

    pub fn secret(&self, key: &str) -> Result<String> {
        let query = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        self.kubectl(&["get", "secret", &format!("{}-client-tls", self.name), "-o", &query])
    }

    /// The way to the client Service from the host: through a node's network.
    pub async fn clients(&self) -> Result<Clients> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.secret("ca.crt")?))
            .identity(Identity::from_pem(self.secret("tls.crt")?, self.secret("tls.key")?))
            .domain_name("localhost");
        self.clients_with(Some(tls)).await
    }

    /// The same with these certificates, or in clear text.
    pub async fn clients_with(&self, tls: Option<ClientTlsConfig>) -> Result<Clients> {
        let service = format!("{}-client", self.name);
        let address = self.kubectl(&["get", "service", &service, "-o", "jsonpath={.spec.clusterIP}"])?;
        let to: SocketAddr = format!("{address}:2379").parse()?;
        let listen: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let task = tokio::spawn(async move { proxy::serve(listen, &NODES[0].namespace(), to).await });
        let began = Instant::now();
        while tokio::net::TcpStream::connect(listen).await.is_err() {
            // The task binds the port first thing.
            if began.elapsed() > REQUEST_TIMEOUT {
                bail!("the way into {} does not open", NODES[0].name);
            }
            tokio::task::yield_now().await;
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{listen}"))?
            .connect_timeout(REQUEST_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls)?;
        }
        Ok(Clients { endpoint, _task: Arc::new(Aborted(task)) })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = lab().0.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

struct Aborted(tokio::task::JoinHandle<Result<()>>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connections to the client Service.
#[derive(Clone)]
pub struct Clients {
    endpoint: Endpoint,
    _task: Arc<Aborted>,
}

impl Clients {
    pub async fn channel(&self) -> Result<Channel> {
        Ok(self.endpoint.connect().await?)
    }

    pub async fn put(&self, key: &str, value: &str) -> Result<()> {
        let request =
            PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
        KvClient::new(self.channel().await?).put(request).await?;
        Ok(())
    }

    /// Puts, tried again: a Service reaches a node's rules a moment after its pods are ready.
    pub async fn put_soon(&self, key: &str, value: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.put(key, value).await {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > CHANGE_TIMEOUT => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Every key of the workload with its value, read linearizably; tried again while members come and go.
    pub async fn all(&self) -> Result<BTreeMap<String, String>> {
        let began = Instant::now();
        loop {
            match self.try_all().await {
                Ok(all) => return Ok(all),
                Err(error) if began.elapsed() > CHANGE_TIMEOUT => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn try_all(&self) -> Result<BTreeMap<String, String>> {
        let request = RangeRequest { key: "w/".into(), range_end: "w0".into(), ..Default::default() };
        let response = KvClient::new(self.channel().await?).range(request).await?.into_inner();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(response.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect())
    }
}

/// Writes one key after the other until it is stopped.
pub struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<Duration>,
    clients: Clients,
}

impl Writer {
    pub fn start(clients: &Clients) -> Self {
        Self::start_at(clients, "w/")
    }

    /// Writes keys of this prefix, which begins with `w/`: for a second workload on the same store.
    pub fn start_at(clients: &Clients, prefix: &'static str) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let task = tokio::spawn(write(clients.clone(), prefix, Arc::clone(&stop), Arc::clone(&acknowledged)));
        Self { stop, acknowledged, task, clients: clients.clone() }
    }

    pub fn count(&self) -> usize {
        self.acknowledged.lock().expect("never poisoned").len()
    }

    /// Waits until so many more were acknowledged.
    pub async fn wait_for(&self, more: usize) -> Result<()> {
        let wanted = self.count() + more;
        let began = Instant::now();
        while self.count() < wanted {
            if began.elapsed() > CHANGE_TIMEOUT {
                bail!("only {} of {wanted} writes were acknowledged", self.count());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Stops; every acknowledged write must be there. Prints the longest time between two acknowledgements.
    pub async fn finish(self, what: &str) -> Result<()> {
        self.wait_for(20).await?;
        self.stop.store(true, Ordering::Relaxed);
        let gap = self.task.await?;
        let acknowledged = self.acknowledged.lock().expect("never poisoned").clone();
        let all = self.clients.all().await?;
        let lost: Vec<_> = acknowledged.iter().filter(|key| all.get(*key) != Some(*key)).collect();
        println!(
            "{what}: {} writes acknowledged, {} lost, longest gap {} ms",
            acknowledged.len(),
            lost.len(),
            gap.as_millis()
        );
        if !lost.is_empty() {
            bail!("acknowledged writes are lost: {lost:?}");
        }
        Ok(())
    }
}

async fn write(
    clients: Clients,
    prefix: &str,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    let mut channel = None;
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        if channel.is_none() {
            channel = clients.channel().await.ok();
        }
        let Some(open) = channel.clone() else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        number += 1;
        let key = format!("{prefix}{number:08}");
        let request = PutRequest { key: key.clone().into(), value: key.clone().into(), ..Default::default() };
        match KvClient::new(open).put(request).await {
            Ok(_) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                acknowledged.lock().expect("never poisoned").push(key);
                // A steady trickle: the point is when, not how many.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // What became of it is not known; the Service gives the next connection another member.
            Err(_) => channel = None,
        }
    }
    longest
}
