//! Members as processes on loopback.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_api::etcdserverpb::{PutRequest, RangeRequest, StatusRequest};

/// A step of the cluster (an election, a start) takes no longer, on a busy machine either.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Member {
    pub name: String,
    pub client: String,
    pub arguments: Vec<String>,
    folder: PathBuf,
    process: Option<Child>,
}

impl Member {
    pub fn start(&mut self) {
        let binary = env!("CARGO_BIN_EXE_quorate-node");
        let child = Command::new(binary).args(&self.arguments).stderr(self.log_file()).spawn();
        self.process = Some(child.expect("the member starts"));
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn log_file(&self) -> Stdio {
        OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a writable folder").into()
    }

    /// What it has said so far, over its restarts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).expect("a log")
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it ends");
        }
    }

    pub fn terminate(&mut self) -> bool {
        let mut process = self.process.take().expect("it runs");
        let told = Command::new("kill").arg(process.id().to_string()).status().expect("kill runs");
        assert!(told.success());
        process.wait().expect("it ends").success()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}: {}", self.name, self.log());
        }
    }
}

/// Ports that were free a moment ago.
pub fn ports(count: usize) -> Vec<u16> {
    let bound: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    bound.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

pub fn members(folder: &Path, count: usize, protocol: &str) -> Vec<Member> {
    members_with(folder, count, protocol, |_| Vec::new())
}

/// Members that are told more, each something of its own.
pub fn members_with(
    folder: &Path,
    count: usize,
    protocol: &str,
    more: impl Fn(usize) -> Vec<String>,
) -> Vec<Member> {
    let ports = ports(2 * count);
    let peer = |at: usize| format!("http://127.0.0.1:{}", ports[2 * at]);
    let cluster: Vec<_> = (0..count).map(|at| format!("m{at}={}", peer(at))).collect();
    (0..count)
        .map(|at| {
            let client = format!("http://127.0.0.1:{}", ports[2 * at + 1]);
            let mut arguments = vec![
                format!("--name=m{at}"),
                format!("--consensus={protocol}"),
                format!("--data-dir={}", folder.join(format!("m{at}")).display()),
                format!("--listen-peer-urls={}", peer(at)),
                format!("--initial-advertise-peer-urls={}", peer(at)),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--initial-cluster={}", cluster.join(",")),
            ];
            arguments.extend(more(at));
            let mut member = Member {
                name: format!("m{at}"),
                client,
                arguments,
                folder: folder.to_path_buf(),
                process: None,
            };
            member.start();
            member
        })
        .collect()
}

/// Asks until it succeeds: other processes tell nobody when they are ready.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    while began.elapsed() < STEP_TIMEOUT {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within {STEP_TIMEOUT:?}");
}

pub async fn put(member: &Member, key: &str) {
    until(&format!("put {key} on {}", member.name), || async {
        let mut kv = KvClient::connect(member.client.clone()).await.ok()?;
        let request = PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
        kv.put(request).await.ok()
    })
    .await;
}

pub async fn count(member: &Member) -> i64 {
    count_as(member, false).await
}

pub async fn count_as(member: &Member, serializable: bool) -> i64 {
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
pub async fn leader(members: &[Member], but: Option<usize>) -> usize {
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

/// Waits until the member at this place leads.
pub async fn leads(members: &[Member], at: usize) {
    until(&format!("m{at} to lead"), || async {
        let mut maintenance = MaintenanceClient::connect(members[at].client.clone()).await.ok()?;
        let status = maintenance.status(StatusRequest {}).await.ok()?.into_inner();
        (status.header?.member_id == status.leader).then_some(())
    })
    .await;
}

/// Status line and all that a member answers to GET.
pub async fn get(member: &Member, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(member.client.trim_start_matches("http://")).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: member\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
