//! Generators of load as programs: `quorate bench`, etcd's own benchmark, h2load.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::command;

/// Bytes of keys and values unless a workload says otherwise; those of etcd's documentation are 8 and 256.
pub const KEY_BYTES: usize = 32;
/// See [`KEY_BYTES`].
pub const VALUE_BYTES: usize = 256;
/// How many keys there are unless a workload says otherwise.
pub const KEYS: u64 = 10_000;

/// What clients do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its name in tables.
    pub name: String,
    /// The subcommand of `quorate bench` and what only it takes.
    pub words: Vec<String>,
    /// Clients.
    pub clients: u32,
    /// Connections.
    pub connections: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Keys.
    pub keys: u64,
}

impl Workload {
    /// One with usual keys and values; `words` are `quorate bench`'s.
    #[must_use]
    pub fn new(words: &str, clients: u32, connections: u32) -> Self {
        let clients_shown = if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
        Self {
            name: format!("{}, {clients_shown}", words.replace("--", "")),
            words: words.split_whitespace().map(str::to_owned).collect(),
            clients,
            connections,
            value_bytes: VALUE_BYTES,
            keys: KEYS,
        }
    }

    /// The words after `quorate`.
    #[must_use]
    pub fn arguments(&self, endpoints: &str) -> Vec<String> {
        let mut arguments = vec!["bench".to_owned()];
        arguments.extend(self.words.iter().cloned());
        arguments.extend([
            format!("--endpoints={endpoints}"),
            format!("--clients={}", self.clients),
            format!("--connections={}", self.connections),
            format!("--keys={}", self.keys),
            format!("--key-size={KEY_BYTES}"),
            format!("--value-size={}", self.value_bytes),
        ]);
        arguments
    }
}

/// What a generator says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Said {
    /// Successful operations.
    pub operations: f64,
    /// Successful operations a second.
    pub per_second: f64,
    /// Latencies in microseconds; absent where the generator does not tell.
    pub p50_us: Option<f64>,
    /// See above.
    pub p99_us: Option<f64>,
    /// See above.
    pub p999_us: Option<f64>,
    /// The generator's own processor time for an operation.
    pub generator_us: Option<f64>,
}

/// What `quorate bench -o json` prints, as far as it is used.
#[derive(Deserialize)]
struct Report {
    operations: f64,
    failed: u64,
    per_second: f64,
    generator_cpu_us_per_operation: f64,
    classes: Vec<Class>,
}

#[derive(Deserialize)]
struct Class {
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

/// Runs `quorate bench` for a time.
///
/// # Errors
/// It fails, or an operation did.
pub fn quorate(binary: &Path, workload: &Workload, endpoints: &str, seconds: f64) -> Result<Said> {
    let mut command = Command::new(binary);
    command.args(workload.arguments(endpoints));
    command.args([&format!("--duration={seconds}s"), "--output=json"]);
    parse_report(&command::output(&mut command)?)
}

/// Writes all keys of a workload.
///
/// # Errors
/// A write fails.
pub fn prepare(binary: &Path, workload: &Workload, endpoints: &str) -> Result<()> {
    let put = Workload { words: vec!["put".into()], clients: 256, connections: 16, ..workload.clone() };
    let mut command = Command::new(binary);
    command.args(put.arguments(endpoints));
    command.args([&format!("--total={}", workload.keys), "--distribution=sequential", "--output=json"]);
    parse_report(&command::output(&mut command)?).map(|_| ())
}

fn parse_report(text: &str) -> Result<Said> {
    let report: Report = serde_json::from_str(text)?;
    let [Class { p50_us, p99_us, p999_us }] = report.classes[..] else {
        bail!("one class was expected: {text}")
    };
    if report.failed > 0 {
        bail!("operations failed: {text}");
    }
    Ok(Said {
        operations: report.operations,
        per_second: report.per_second,
        p50_us: Some(p50_us),
        p99_us: Some(p99_us),
        p999_us: Some(p999_us),
        generator_us: Some(report.generator_cpu_us_per_operation),
    })
}

/// Runs etcd's own benchmark: `put`, or `range` of one key.
///
/// # Errors
/// It fails, or prints something else than it did when this was written.
pub fn etcd_benchmark(binary: &Path, kind: Kind, clients: u32, endpoints: &str, total: u64) -> Result<Said> {
    let mut command = Command::new(binary);
    command.args([
        format!("--endpoints={endpoints}"),
        format!("--clients={clients}"),
        format!("--conns={}", clients.min(16)),
        "--precise".to_owned(),
    ]);
    match kind {
        Kind::Put => command.args([
            "put",
            &format!("--key-size={KEY_BYTES}"),
            &format!("--val-size={VALUE_BYTES}"),
            &format!("--key-space-size={KEYS}"),
            &format!("--total={total}"),
        ]),
        Kind::Read => command.args(["range", READ_KEY, &format!("--total={total}")]),
    };
    parse_etcd_benchmark(&command::output(&mut command)?)
}

/// The key that other generators read; it is written before.
pub const READ_KEY: &str = "bench/00000000000000000000000000";

/// What generators other than `quorate bench` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Writes.
    Put,
    /// Linearizable reads of one key.
    Read,
}

fn parse_etcd_benchmark(text: &str) -> Result<Said> {
    if let Some(errors) = text.split("Error distribution:").nth(1) {
        bail!("etcd's benchmark had errors: {}", errors.trim());
    }
    let number = |before: &str| {
        let rest = text.split(before).nth(1).with_context(|| format!("no {before:?} in {text}"))?;
        let word = rest.split_whitespace().next().unwrap_or_default();
        word.trim_end_matches('.')
            .parse::<f64>()
            .with_context(|| format!("{before:?} is followed by {word:?}"))
    };
    let (total_s, per_second) = (number("Total:")?, number("Requests/sec:")?);
    Ok(Said {
        operations: total_s * per_second,
        per_second,
        p50_us: Some(number("50% in")? * 1e6),
        p99_us: Some(number("99% in")? * 1e6),
        p999_us: Some(number("99.9% in")? * 1e6),
        generator_us: None,
    })
}

/// Runs h2load with the same request again and again, prepared in `body`.
///
/// # Errors
/// It is not installed, fails, or a request does.
pub fn h2load(kind: Kind, clients: u32, url: &str, body: &Path, total: u64) -> Result<Said> {
    let path = match kind {
        Kind::Put => "/etcdserverpb.KV/Put",
        Kind::Read => "/etcdserverpb.KV/Range",
    };
    let connections = clients.min(16);
    let mut command = Command::new("h2load");
    command.args([
        format!("--clients={connections}"),
        format!("--max-concurrent-streams={}", clients / connections),
        format!("--requests={total}"),
        format!("--data={}", body.display()),
        "--header=content-type: application/grpc".to_owned(),
        "--header=te: trailers".to_owned(),
        format!("{url}{path}"),
    ]);
    let text = command::output(&mut command)
        .context("h2load is in Debian's nghttp2-client: apt-get install nghttp2-client")?;
    parse_h2load(&text)
}

/// A gRPC frame for h2load's body.
///
/// # Errors
/// The file can't be written.
pub fn write_body(kind: Kind, path: &Path) -> Result<()> {
    use prost::Message as _;
    use quorate_api::etcdserverpb::{PutRequest, RangeRequest};
    let key = READ_KEY.as_bytes().to_vec().into();
    let message = match kind {
        Kind::Put => {
            PutRequest { key, value: vec![b'v'; VALUE_BYTES].into(), ..Default::default() }.encode_to_vec()
        }
        Kind::Read => RangeRequest { key, ..Default::default() }.encode_to_vec(),
    };
    let length = u32::try_from(message.len())?.to_be_bytes();
    std::fs::write(path, [&[0], &length[..], &message[..]].concat())?;
    Ok(())
}

fn parse_h2load(text: &str) -> Result<Said> {
    let line = |start: &str| {
        text.lines().find(|line| line.starts_with(start)).with_context(|| format!("no {start:?} in {text}"))
    };
    // finished in 1.23s, 8130.08 req/s, 1.02MB/s
    let per_second = line("finished in")?
        .split(", ")
        .find_map(|part| part.strip_suffix(" req/s")?.parse::<f64>().ok())
        .context("no requests a second")?;
    // requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, 0 errored, 0 timeout
    let requests = line("requests:")?;
    let count = |what: &str| {
        requests
            .split([',', ':'])
            .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<f64>().ok())
            .with_context(|| format!("no {what} in {requests}"))
    };
    let (total, succeeded) = (count("total")?, count("succeeded")?);
    if total > succeeded {
        bail!("{} requests failed: {requests}", total - succeeded);
    }
    Ok(Said { operations: succeeded, per_second, ..Said::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_words_and_a_name() {
        let workload = Workload::new("get --serializable", 64, 16);
        assert_eq!(workload.name, "get serializable, 64 clients");
        let arguments = workload.arguments("http://a:1");
        assert_eq!(arguments[..4], ["bench", "get", "--serializable", "--endpoints=http://a:1"]);
        assert!(arguments.contains(&"--clients=64".to_owned()));
    }

    #[test]
    fn etcds_benchmark_is_understood() {
        let text = "\nSummary:\n  Total:\t2.0000 secs.\n  Slowest:\t0.0310 secs.\n  Requests/sec:\t5200.5000\n\n\
                    Latency distribution:\n  10% in 0.0050 secs.\n  50% in 0.0110 secs.\n  99% in 0.0270 secs.\n  \
                    99.9% in 0.0300 secs.\n";
        let said = parse_etcd_benchmark(text).unwrap();
        assert_eq!((said.operations, said.per_second), (10_401.0, 5_200.5));
        assert_eq!((said.p50_us, said.p999_us), (Some(11_000.0), Some(30_000.0)));
        let failed = format!("{text}\nError distribution:\n  [3]\tetcdserver: too many requests\n");
        assert!(parse_etcd_benchmark(&failed).unwrap_err().to_string().contains("too many"));
    }

    #[test]
    fn h2load_is_understood() {
        let text = "finished in 1.23s, 8130.08 req/s, 1.02MB/s\n\
                    requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed, 0 errored, 0 timeout\n";
        assert_eq!(parse_h2load(text).unwrap().per_second, 8_130.08);
        assert!(parse_h2load(&text.replace("10 succeeded", "9 succeeded")).is_err());
    }

    #[test]
    fn the_generators_report_is_understood() {
        let class = r#"{"class":"put","p50_us":1.5,"p99_us":2.5,"p999_us":3.5}"#;
        let text = format!(
            r#"{{"operations":10,"failed":0,"per_second":5.0,"generator_cpu_us_per_operation":7.5,"classes":[{class}]}}"#
        );
        let said = parse_report(&text).unwrap();
        assert_eq!((said.p999_us, said.generator_us), (Some(3.5), Some(7.5)));
        assert!(parse_report(&text.replace("\"failed\":0", "\"failed\":1")).is_err());
    }
}
