//! `quorate bench` as a person uses it, on one real member.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A start, on a busy machine.
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

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

struct Member {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Member {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (url, peer) =
            (format!("http://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
        let process = Command::new(node_binary())
            .args([
                "--name=m0".to_owned(),
                format!("--data-dir={}", folder.path().join("data").display()),
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=m0={peer}"),
            ])
            .stderr(Stdio::null())
            .spawn()
            .expect("the member starts");
        let member = Self { process, url, _folder: folder };
        let began = Instant::now();
        while !member.bench(&["put", "--total=1"]).status.success() {
            assert!(began.elapsed() < TIMEOUT, "the member does not serve");
            std::thread::sleep(Duration::from_millis(50));
        }
        member
    }

    fn bench(&self, words: &[&str]) -> Output {
        bench(&self.url, words)
    }

    /// The JSON of a run that succeeds.
    fn report(&self, words: &[&str]) -> serde_json::Value {
        let output = self.bench(&[words, &["--output=json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn bench(url: &str, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("bench")
        .args(words)
        .args([&format!("--endpoints={url}"), "--clients=4", "--connections=2", "--keys=20"])
        .output()
        .expect("quorate runs")
}

#[test]
fn every_workload_runs_on_a_real_member() {
    let member = Member::start();
    let put = member.report(&["put", "--duration=1s"]);
    assert!(put["operations"].as_u64().unwrap() > 10 && put["failed"] == 0, "{put}");
    assert!(put["generator_cpu_us_per_operation"].as_f64().unwrap() > 0.0);
    let class = &put["classes"][0];
    assert!(class["p50_us"].as_f64() <= class["p999_us"].as_f64());

    let get = member.report(&["get", "--total=100", "--prepare", "--threads=2"]);
    // All keys are there: no note of one that is not.
    assert_eq!((&get["operations"], &get["notes"]), (&100.into(), &serde_json::json!({})));
    let range = member.report(&["range", "--count=5", "--total=10", "--distribution=sequential"]);
    assert_eq!(range["operations"], 10);
    let list = member.report(&["list", "--page=7", "--total=2"]);
    // Twenty keys are three pages of seven.
    assert_eq!((&list["notes"]["keys read"], &list["parts"][0]["operations"]), (&40.into(), &6.into()));
    let txn = member.report(&["txn", "--total=200"]);
    let conflicts = txn["notes"]["lost comparisons"].as_u64().unwrap_or(0);
    // All keys are there, which clients learn by their first comparison.
    assert!(txn["operations"] == 200 && (1..200).contains(&conflicts), "{txn}");
    let watch = member.report(&["watch", "--watchers=6", "--streams=4", "--total=10"]);
    assert_eq!((&watch["operations"], &watch["parts"][0]["operations"]), (&10.into(), &60.into()));
    assert_eq!(member.report(&["lease", "--leases=5", "--total=20"])["operations"], 20);
    let mix = member.report(&["mix", "--ratio=put=1,get=3", "--total=200", "--rate=2000"]);
    assert_eq!((&mix["operations"], mix["classes"].as_array().unwrap().len()), (&200.into(), 2));
    let table = String::from_utf8(member.bench(&["get", "--total=10", "--serializable"]).stdout).unwrap();
    assert!(table.contains("p99.9") && table.contains("us of CPU an operation"), "{table}");
}

#[test]
fn what_is_wrong_is_said() {
    let error = |output: Output| {
        assert!(!output.status.success());
        String::from_utf8(output.stderr).expect("text")
    };
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let said = error(bench(&nobody, &["put", "--total=1"]));
    assert!(said.contains(&format!("can't connect to {nobody}")), "{said}");

    let mut member = Member::start();
    let said = error(member.bench(&["put", "--user=root:secret"]));
    assert!(said.contains("has no users and passwords"), "{said}");
    let said = error(member.bench(&["put", "--key-size=3"]));
    assert!(said.contains("--key-size"), "{said}");

    // It dies under load: results until then, what failed, and why it ended.
    let url = member.url.clone();
    let load = std::thread::spawn(move || bench(&url, &["put", "--duration=60s", "--timeout=500ms"]));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(50));
    }
    member.process.kill().expect("it runs");
    let output = load.join().expect("it ends");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("connection lost"), "{table}");
    let said = error(output);
    assert!(said.contains("no endpoint answers") && said.contains("ended early"), "{said}");
}
