//! One member: a process, and what it says of itself.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use quorate_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_api::etcdserverpb::{StatusRequest, StatusResponse};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Endpoint;

/// On loopback; one that does not answer within this is shown as silent.
const ASK_TIMEOUT: Duration = Duration::from_millis(400);
/// A member that was asked to end hands leadership over first (3 s); then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(8);

/// A member's ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) peer: u16,
}

impl Ports {
    pub(super) fn new(client: u16) -> Self {
        Self { client, peer: client.saturating_add(1) }
    }

    /// One of them that somebody listens on.
    pub(super) fn taken(&self) -> Option<u16> {
        [self.client, self.peer].into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_err())
    }
}

/// What was seen of a member.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) runs: bool,
    pub(super) status: Option<StatusResponse>,
}

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    client: String,
    process: Option<Child>,
}

impl Member {
    /// The member of this number; those after the first `data_members` are witnesses.
    pub(super) fn new(
        number: usize,
        binary: &Path,
        folder: &Path,
        ports: &[Ports],
        data_members: usize,
    ) -> Self {
        let peer = |ports: &Ports| format!("http://127.0.0.1:{}", ports.peer);
        let cluster: Vec<String> =
            ports.iter().zip(1..).map(|(ports, number)| format!("m{number}={}", peer(ports))).collect();
        let witnesses: Vec<String> =
            (data_members + 1..=ports.len()).map(|number| format!("m{number}")).collect();
        let (name, own) = (format!("m{number}"), ports[number - 1]);
        let client = format!("http://127.0.0.1:{}", own.client);
        let arguments = vec![
            format!("--name={name}"),
            format!("--data-dir={}", folder.join(&name).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={}", peer(&own)),
            format!("--initial-advertise-peer-urls={}", peer(&own)),
            format!("--initial-cluster={}", cluster.join(",")),
            format!("--initial-cluster-witnesses={}", witnesses.join(",")),
        ];
        let log = folder.join(format!("{name}.log"));
        Self { name, binary: binary.to_path_buf(), arguments, log, client, process: None }
    }

    pub(super) fn start(&mut self) -> Result<()> {
        if self.runs() {
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        // The kernel ends it if this program is killed.
        let mut command = match Path::new("/usr/bin/setpriv") {
            setpriv if setpriv.exists() => {
                let mut command = Command::new(setpriv);
                command.arg("--pdeathsig=TERM").arg(&self.binary);
                command
            }
            _ => Command::new(&self.binary),
        };
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A Ctrl-C at the terminal is for this program, which ends the members in order.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("{} can't be started", self.name))?;
        self.process = Some(child);
        Ok(())
    }

    pub(super) fn runs(&mut self) -> bool {
        let runs = self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)));
        if !runs {
            self.process = None;
        }
        runs
    }

    fn signal(&mut self, signal: Signal) {
        if self.runs()
            && let Some(process) = &self.process
            && let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw)
        {
            // It is our child and was not waited for: the number is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    pub(super) fn stop(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended; kills it when that takes too long.
    pub(super) async fn wait_end(&mut self) {
        let began = Instant::now();
        while self.runs() {
            if began.elapsed() > END_TIMEOUT {
                self.kill();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn look(&mut self) -> Seen {
        let runs = self.runs();
        let ask = async {
            let channel = Endpoint::from_shared(self.client.clone()).ok()?.connect().await.ok()?;
            Some(MaintenanceClient::new(channel).status(StatusRequest {}).await.ok()?.into_inner())
        };
        let status = if runs { tokio::time::timeout(ASK_TIMEOUT, ask).await.ok().flatten() } else { None };
        Seen { runs, status }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }
}
