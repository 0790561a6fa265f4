//! Members of Quorate or etcd as processes on loopback, started and ended by their ids.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_api::etcdserverpb::{PutRequest, StatusRequest, StatusResponse};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tonic::transport::Endpoint;

/// One question, on loopback.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// A start with an election, on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Ending with leadership handed over; then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two questions whether something has happened.
const PAUSE: Duration = Duration::from_millis(20);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// etcd, as it comes.
    Etcd,
    /// Quorate whose members agree by Raft, its default.
    Quorate,
    /// Quorate by Multi-Paxos.
    QuorateMultiPaxos,
    /// Quorate by Zab.
    QuorateZab,
}

impl Store {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Quorate => "Quorate",
            Self::QuorateMultiPaxos => "Quorate, Multi-Paxos",
            Self::QuorateZab => "Quorate, Zab",
        }
    }

    /// A flag that only this one takes. All else is left at its default.
    fn own_flag(self) -> Option<&'static str> {
        match self {
            Self::Etcd => None,
            Self::Quorate => Some("--consensus=Raft"),
            Self::QuorateMultiPaxos => Some("--consensus=MultiPaxos"),
            Self::QuorateZab => Some("--consensus=Zab"),
        }
    }
}

/// The programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// etcd's server.
    pub etcd: PathBuf,
    /// Quorate's.
    pub node: PathBuf,
    /// The generator.
    pub quorate: PathBuf,
}

impl Binaries {
    fn server(&self, store: Store) -> &Path {
        match store {
            Store::Etcd => &self.etcd,
            Store::Quorate | Store::QuorateMultiPaxos | Store::QuorateZab => &self.node,
        }
    }
}

/// One member.
#[derive(Debug)]
pub struct Member {
    /// Its client URL.
    pub url: String,
    binary: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

/// Members of one store.
#[derive(Debug)]
pub struct Cluster {
    /// They, in the order of their names.
    pub members: Vec<Member>,
    folder: PathBuf,
}

/// Ports that were free a moment ago.
fn ports(count: usize) -> Result<Vec<u16>> {
    let bound: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    bound.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

impl Cluster {
    /// Starts members with empty data folders below `folder`, and waits until a write succeeds.
    ///
    /// # Errors
    /// A program can't be started, or is not ready in time; the text has the end of its log.
    pub async fn start(store: Store, binaries: &Binaries, count: usize, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let ports = ports(2 * count)?;
        let url = |at: usize| format!("http://127.0.0.1:{}", ports[at]);
        let names: Vec<String> = (0..count).map(|at| format!("m{at}={}", url(at))).collect();
        let mut cluster = Self { members: Vec::new(), folder: folder.to_path_buf() };
        for at in 0..count {
            let (peer, client) = (url(at), url(count + at));
            let mut arguments = vec![
                format!("--name=m{at}"),
                format!("--data-dir={}", folder.join(format!("m{at}")).display()),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--initial-cluster={}", names.join(",")),
            ];
            arguments.extend(store.own_flag().map(str::to_owned));
            let log = folder.join(format!("m{at}.log"));
            let binary = binaries.server(store).to_path_buf();
            let mut member = Member { url: client, binary, arguments, log, process: None };
            member.start()?;
            cluster.members.push(member);
        }
        for member in &cluster.members {
            member.wait_writable().await?;
        }
        Ok(cluster)
    }

    /// Client URLs, joined by commas.
    #[must_use]
    pub fn endpoints(&self) -> String {
        self.members.iter().map(|member| member.url.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Where the data lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The leader's place.
    ///
    /// # Errors
    /// There is none for longer than an election may take.
    pub async fn leader(&self) -> Result<usize> {
        let began = std::time::Instant::now();
        while began.elapsed() < READY_TIMEOUT {
            for (at, member) in self.members.iter().enumerate() {
                let leads = |status: &StatusResponse| {
                    status.header.as_ref().is_some_and(|header| header.member_id == status.leader)
                };
                if member.status().await.is_ok_and(|status| leads(&status)) {
                    return Ok(at);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!("no leader within {} s", READY_TIMEOUT.as_secs())
    }

    /// Asks all to end, waits, and removes their data.
    ///
    /// # Errors
    /// The data can't be removed.
    pub async fn end(mut self) -> Result<()> {
        for member in &self.members {
            let _ = member.signal(Signal::TERM);
        }
        for member in &mut self.members {
            member.wait_end().await;
        }
        std::fs::remove_dir_all(&self.folder).context("data can't be removed")
    }
}

impl Member {
    /// Starts it, with the data it has.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn start(&mut self) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        // The kernel ends it if this program is killed.
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL").arg(&self.binary).args(&self.arguments);
        // A Ctrl-C at the terminal is for this program.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("can't start {}", self.binary.display()))?;
        self.process = Some(child);
        Ok(())
    }

    /// Its process.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        self.process.as_ref().map(Child::id).context("the member does not run")
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // A child that was not waited for: the number is still its own.
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    async fn wait_end(&mut self) {
        let began = std::time::Instant::now();
        while self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None))) {
            if began.elapsed() > END_TIMEOUT {
                return self.kill();
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.process = None;
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self) -> Result<StatusResponse> {
        let ask = async {
            let channel = Endpoint::from_shared(self.url.clone())?.connect().await?;
            Ok(MaintenanceClient::new(channel).status(StatusRequest {}).await?.into_inner())
        };
        tokio::time::timeout(ASK_TIMEOUT, ask).await?
    }

    /// Waits until a write to it succeeds.
    ///
    /// # Errors
    /// Not in time; the text has the end of its log.
    pub async fn wait_writable(&self) -> Result<()> {
        let began = std::time::Instant::now();
        while began.elapsed() < READY_TIMEOUT {
            let put = PutRequest { key: "ready".into(), value: "yes".into(), ..Default::default() };
            let ask = async {
                let channel = Endpoint::from_shared(self.url.clone())?.connect().await?;
                anyhow::Ok(KvClient::new(channel).put(put).await?)
            };
            if let Ok(Ok(_)) = tokio::time::timeout(ASK_TIMEOUT, ask).await {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(5)..].join("\n");
        bail!("{} is not ready within {} s: {end}", self.url, READY_TIMEOUT.as_secs())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // A stopped process takes SIGKILL too.
        self.kill();
    }
}
