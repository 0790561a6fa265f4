//! The playground as a person uses it, without a terminal.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::{PutRequest, RangeRequest};

const TIMEOUT: Duration = Duration::from_secs(60);

/// The server, which another package builds: cargo is asked for it.
fn node_binary() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_quorate")).with_file_name("quorate-node");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let built = cargo
        .args(["build", "--locked", "--quiet", "--workspace", "--bin", "quorate-node"])
        .status()
        .expect("cargo runs");
    assert!(built.success() && beside.is_file(), "quorate-node is built beside quorate");
    beside
}

struct Playground {
    process: std::process::Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Playground {
    fn start() -> Self {
        node_binary();
        let mut process = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["playground", "--base-port=23790"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("quorate runs");
        let (sender, lines) = std::sync::mpsc::channel();
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        let mut all = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(TIMEOUT.saturating_sub(began.elapsed())) {
            if wanted(&line) {
                return line;
            }
            all.push(line);
        }
        panic!("the line did not come: {all:#?}");
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().expect("a pipe"), "{line}").expect("it reads");
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        // Ends the members too: the kernel tells them.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn leads(line: &str) -> bool {
    line.starts_with("leader: m")
}

#[tokio::test]
async fn a_leader_is_killed_and_another_one_serves() {
    let mut playground = Playground::start();
    let hint = playground.line(|line| line.contains("--endpoints="));
    let endpoints = hint.split("--endpoints=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let endpoint = |number: usize| format!("http://{}", endpoints.split(',').nth(number - 1).unwrap());
    let leader = playground.line(leads);
    let number: usize = leader["leader: m".len()..].split(' ').next().unwrap().parse().unwrap();
    let mut kv = KvClient::connect(endpoint(number)).await.unwrap();
    kv.put(PutRequest { key: "hello".into(), value: "world".into(), ..Default::default() }).await.unwrap();

    playground.type_line(&format!("kill {number}"));
    playground.line(|line| leads(line) && *line != *leader);
    let other = if number == 1 { 2 } else { 1 };
    let mut kv = KvClient::connect(endpoint(other)).await.unwrap();
    let got =
        kv.range(RangeRequest { key: "hello".into(), ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(got.kvs[0].value, "world");

    playground.type_line(&format!("start {number}"));
    playground.line(|line| line == format!("m{number} follows"));
    playground.type_line("quit");
    playground.line(|line| line == "ending the members");
    assert!(playground.process.wait().unwrap().success());
    for number in 1..=3 {
        assert!(KvClient::connect(endpoint(number)).await.is_err(), "m{number} has ended");
    }
}
