//! Results as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::options::{Load, Output};
use super::recorder::Class;
use super::run::Outcome;

/// One class of operations. The field names are the JSON's.
#[derive(Clone, Debug, Serialize)]
struct Row {
    class: String,
    operations: u64,
    per_second: f64,
    mean_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    failed: u64,
    failures: BTreeMap<String, u64>,
}

impl Row {
    fn new(name: &str, class: &Class, elapsed_s: f64) -> Self {
        let at = |quantile| class.latency.value_at_quantile(quantile) as f64 / 1e3;
        let operations = class.latency.len();
        Self {
            class: name.to_owned(),
            operations,
            per_second: operations as f64 / elapsed_s,
            mean_us: class.latency.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: class.latency.max() as f64 / 1e3,
            failed: class.failed(),
            failures: class.failures.clone(),
        }
    }
}

/// All of a run. The field names are the JSON's.
#[derive(Clone, Debug, Serialize)]
struct Report {
    workload: &'static str,
    endpoints: Vec<String>,
    clients: u32,
    connections: u32,
    threads: u32,
    loop_kind: &'static str,
    rate: Option<f64>,
    keys: u64,
    key_bytes: usize,
    value_bytes: usize,
    elapsed_s: f64,
    operations: u64,
    failed: u64,
    per_second: f64,
    generator_cpu_us_per_operation: f64,
    not_begun: u64,
    classes: Vec<Row>,
    parts: Vec<Row>,
    notes: BTreeMap<&'static str, u64>,
}

impl Report {
    fn new(outcome: &Outcome) -> Self {
        let Outcome { workload, load, totals, elapsed, cpu, not_begun, ended_early: _ } = outcome;
        let Load { target, clients, connections, threads, rate, keys, key_size, value_size, .. } = load;
        let elapsed_s = elapsed.as_secs_f64();
        let rows = |classes: &BTreeMap<&'static str, Class>| {
            classes.iter().map(|(name, class)| Row::new(name, class, elapsed_s)).collect()
        };
        let (operations, failed) = (totals.succeeded(), totals.failed());
        Self {
            workload,
            endpoints: target.endpoints.clone(),
            clients: *clients,
            connections: *connections.min(clients),
            threads: *threads.min(clients),
            loop_kind: if rate.is_some() { "open" } else { "closed" },
            rate: *rate,
            keys: *keys,
            key_bytes: *key_size,
            value_bytes: *value_size,
            elapsed_s,
            operations,
            failed,
            per_second: operations as f64 / elapsed_s,
            generator_cpu_us_per_operation: cpu.as_secs_f64() * 1e6 / (operations + failed).max(1) as f64,
            not_begun: *not_begun,
            classes: rows(&totals.classes),
            parts: rows(&totals.parts),
            notes: totals.notes.clone(),
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { clients, connections, endpoints, .. } = self;
        let kind = match self.rate {
            Some(rate) => format!("open loop at {rate}/s, latency from when an operation was due"),
            None => "closed loop".to_owned(),
        };
        writeln!(text, "{} on {}", self.workload, endpoints.join(","))?;
        writeln!(
            text,
            "{clients} clients, {connections} connections, {kind}; {} keys of {} bytes, values of {} bytes",
            self.keys, self.key_bytes, self.value_bytes
        )?;
        writeln!(text)?;
        writeln!(
            text,
            "{:<12}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "", "operations", "per second", "p50", "p90", "p99", "p99.9", "max", "failed"
        )?;
        for row in self.classes.iter().chain(&self.parts) {
            let [p50, p90, p99, p999, max] =
                [row.p50_us, row.p90_us, row.p99_us, row.p999_us, row.max_us].map(latency);
            writeln!(
                text,
                "{:<12}{:>12}{:>12.0}{p50:>10}{p90:>10}{p99:>10}{p999:>10}{max:>10}{:>10}",
                row.class, row.operations, row.per_second, row.failed
            )?;
        }
        writeln!(text)?;
        writeln!(
            text,
            "{:.1} s; the generator itself used {:.1} us of CPU an operation",
            self.elapsed_s, self.generator_cpu_us_per_operation
        )?;
        for (name, count) in &self.notes {
            writeln!(text, "{name}: {count} ({:.0}/s)", *count as f64 / self.elapsed_s)?;
        }
        if self.not_begun > 0 {
            writeln!(
                text,
                "{} operations were due and not begun: the server, or these clients, can't keep this rate",
                self.not_begun
            )?;
        }
        for row in &self.classes {
            for (kind, count) in &row.failures {
                writeln!(text, "failed: {count} x {}: {kind}", row.class)?;
            }
        }
        Ok(())
    }
}

/// A latency with three digits.
fn latency(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e4 => format!("{:.2} ms", us / 1e3),
        us if us < 1e5 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// The text to print.
///
/// # Errors
/// Never: the fields have names that JSON takes.
pub(super) fn render(outcome: &Outcome, output: Output) -> Result<String> {
    let report = Report::new(outcome);
    Ok(match output {
        Output::Table => report.table(),
        Output::Json => serde_json::to_string_pretty(&report)? + "\n",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_three_digits() {
        let shown = [0.4, 87.0, 1_234.0, 12_340.0, 123_400.0, 1_234_000.0].map(latency);
        assert_eq!(shown, ["0 us", "87 us", "1.23 ms", "12.3 ms", "123 ms", "1.23 s"]);
    }
}
