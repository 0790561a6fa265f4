//! Real processes on loopback: what was acknowledged is there on every member, after SIGKILL and SIGTERM too.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_api::etcdserverpb::{PutRequest, RangeRequest, StatusRequest};

/// A step of the cluster (an election, a start) takes no longer, on a busy machine either.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

struct Member {
    name: String,
    client: String,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Member {
    fn start(&mut self) {
        let binary = env!("CARGO_BIN_EXE_quorate-node");
        let child = Command::new(binary).args(&self.arguments).stderr(Stdio::inherit()).spawn();
        self.process = Some(child.expect("the member starts"));
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it ends");
        }
    }

    fn terminate(&mut self) -> bool {
        let mut process = self.process.take().expect("it runs");
        let told = Command::new("kill").arg(process.id().to_string()).status().expect("kill runs");
        assert!(told.success());
        process.wait().expect("it ends").success()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ports that were free a moment ago.
fn ports(count: usize) -> Vec<u16> {
    let bound: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    bound.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

fn members(folder: &Path, count: usize) -> Vec<Member> {
    let ports = ports(2 * count);
    let peer = |at: usize| format!("http://127.0.0.1:{}", ports[2 * at]);
    let cluster: Vec<_> = (0..count).map(|at| format!("m{at}={}", peer(at))).collect();
    (0..count)
        .map(|at| {
            let client = format!("http://127.0.0.1:{}", ports[2 * at + 1]);
            let arguments = vec![
                format!("--name=m{at}"),
                format!("--data-dir={}", folder.join(format!("m{at}")).display()),
                format!("--listen-peer-urls={}", peer(at)),
                format!("--initial-advertise-peer-urls={}", peer(at)),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--initial-cluster={}", cluster.join(",")),
                "--log-level=warn".into(),
            ];
            let mut member = Member { name: format!("m{at}"), client, arguments, process: None };
            member.start();
            member
        })
        .collect()
}

/// Asks until it succeeds: other processes tell nobody when they are ready.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    while began.elapsed() < STEP_TIMEOUT {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within {STEP_TIMEOUT:?}");
}

async fn put(member: &Member, key: &str) {
    until(&format!("put {key} on {}", member.name), || async {
        let mut kv = KvClient::connect(member.client.clone()).await.ok()?;
        let request = PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
        kv.put(request).await.ok()
    })
    .await;
}

async fn count(member: &Member) -> i64 {
    count_as(member, false).await
}

async fn count_as(member: &Member, serializable: bool) -> i64 {
    until(&format!("count on {}", member.name), || async {
        let mut kv = KvClient::connect(member.client.clone()).await.ok()?;
        let request = RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            count_only: true,
            serializable,
            ..Default::default()
        };
        Some(kv.range(request).await.ok()?.into_inner().count)
    })
    .await
}

/// The leader's place, as another member than `but` says.
async fn leader(members: &[Member], but: Option<usize>) -> usize {
    until("a leader", || async {
        for (at, member) in members.iter().enumerate().filter(|(at, _)| Some(*at) != but) {
            let Ok(mut maintenance) = MaintenanceClient::connect(member.client.clone()).await else {
                continue;
            };
            let Ok(status) = maintenance.status(StatusRequest {}).await else { continue };
            let status = status.into_inner();
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                return Some(at);
            }
        }
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_killed_and_stopped_leaders() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut members = members(folder.path(), 3);
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
