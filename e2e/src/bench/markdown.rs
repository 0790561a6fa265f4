//! Results as Markdown.

use std::fmt::Write as _;

use super::results::{Results, Row, Spread};
use super::store::Store;
use super::suite::{ECHO, OWN};

/// A latency with three digits.
#[must_use]
pub fn latency(us: f64) -> String {
    match us {
        us if us < 100.0 => format!("{us:.1} us"),
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e4 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A whole number with commas between thousands.
#[must_use]
pub fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digit != '-' {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0}", bytes / f64::from(1 << 20))
}

fn spread(spread: Option<Spread>, show: impl Fn(f64) -> String) -> String {
    spread.map_or_else(
        || "-".to_owned(),
        |Spread { median, low, high }| format!("{} ({} to {})", show(median), show(low), show(high)),
    )
}

fn middle(spread: Option<Spread>, show: impl Fn(f64) -> String) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| show(spread.median))
}

/// Medians of one store over those of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Above 1 is better.
    pub throughput: f64,
    /// Below 1 is better.
    pub cpu: f64,
    /// Below 1 is better; absent where a generator does not tell latencies.
    pub p50: Option<f64>,
}

impl Ratio {
    /// Of a row over another.
    #[must_use]
    pub fn of(row: &Row, base: &Row) -> Option<Self> {
        let known = |row: &Row| row.spread_of_known(|sample| sample.p50_us);
        Some(Self {
            throughput: row.spread(|sample| sample.per_second)?.median
                / base.spread(|sample| sample.per_second)?.median,
            cpu: row.spread(|sample| sample.cpu_us)?.median / base.spread(|sample| sample.cpu_us)?.median,
            p50: known(row).zip(known(base)).map(|(row, base)| row.median / base.median),
        })
    }
}

fn line(row: &Row, out: &mut String) -> std::fmt::Result {
    let known = |figure: fn(&super::results::Sample) -> Option<f64>| row.spread_of_known(figure);
    let echo = row.store == ECHO;
    let kept = |text: String| if echo { "-".to_owned() } else { text };
    writeln!(
        out,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        row.workload,
        row.store,
        spread(row.spread(|sample| sample.per_second), whole),
        middle(known(|sample| sample.p50_us), latency),
        middle(known(|sample| sample.p99_us), latency),
        middle(known(|sample| sample.p999_us), latency),
        spread(row.spread(|sample| sample.cpu_us), |us| format!("{us:.0}")),
        kept(middle(row.spread(|sample| sample.syncs), |syncs| format!("{syncs:.2}"))),
        kept(middle(row.spread(|sample| sample.memory_bytes), mebibytes)),
        kept(middle(row.spread(|sample| sample.disk_bytes), mebibytes)),
    )
}

fn ratio_line(ratio: Ratio, out: &mut String) -> std::fmt::Result {
    let p50 = ratio.p50.map_or_else(|| "-".to_owned(), |p50| format!("**{p50:.2}**"));
    writeln!(
        out,
        "| | *Quorate / etcd* | **{:.2}** | {p50} | | | **{:.2}** | | | |",
        ratio.throughput, ratio.cpu
    )
}

/// Tables of all rows, one for each size of cluster and generator.
#[must_use]
pub fn tables(results: &Results) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write_tables(results, &mut text);
    text
}

fn write_tables(results: &Results, out: &mut String) -> std::fmt::Result {
    let mut tables: Vec<(usize, &str)> = Vec::new();
    for row in &results.rows {
        let table = (row.members, row.generator.as_str());
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    tables.sort_by_key(|(members, generator)| (*members, *generator != OWN));
    for (members, generator) in tables {
        let rows = || {
            results.rows.iter().filter(|row| (row.members, row.generator.as_str()) == (members, generator))
        };
        let rounds = rows().map(|row| row.samples.len()).max().unwrap_or(0);
        let noun = if members == 1 { "member" } else { "members" };
        writeln!(out, "## {members} {noun}, load by {generator}\n")?;
        writeln!(
            out,
            "Medians of {rounds} rounds, with the lowest and the highest; CPU and syncs of all members for one operation.\n"
        )?;
        writeln!(
            out,
            "| load | store | operations/s | p50 | p99 | p99.9 | CPU us | syncs | memory MiB | disk MiB |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|---|---|")?;
        let mut workloads: Vec<&str> = Vec::new();
        for row in rows() {
            if !workloads.contains(&row.workload.as_str()) {
                workloads.push(&row.workload);
            }
        }
        for workload in workloads {
            let find = |store: &str| rows().find(|row| row.workload == workload && row.store == store);
            let (etcd, quorate) = (find(Store::Etcd.name()), find(Store::Quorate.name()));
            for row in [etcd, quorate, find(ECHO)].into_iter().flatten() {
                line(row, out)?;
            }
            if let Some(ratio) = etcd.zip(quorate).and_then(|(etcd, quorate)| Ratio::of(quorate, etcd)) {
                ratio_line(ratio, out)?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The ceilings, and what the echo is.
#[must_use]
pub fn ceilings(results: &Results) -> String {
    let mut text = String::from("| ceiling of this machine | p50 | p99 |\n|---|---|---|\n");
    for ceiling in &results.ceilings {
        let (p50, p99) = (latency(ceiling.p50_us), latency(ceiling.p99_us));
        let _ = writeln!(text, "| {} | {p50} | {p99} |", ceiling.what);
    }
    text.push_str(
        "\nRows named \"empty echo\" are a server of the same gRPC stack that answers at once: what any store behind stock \
         tonic can reach on this machine with this generator.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::super::results::{Ceiling, Sample};
    use super::*;

    fn results() -> Results {
        let about = super::super::machine::tests::about();
        let ceilings = vec![Ceiling { what: "one sync".into(), p50_us: 190.0, p99_us: 1_290.0 }];
        let mut results = Results { about, ceilings, rows: Vec::new() };
        for (store, per_second, cpu_us) in [("etcd", 5_000.0, 300.0), ("Quorate", 7_500.0, 150.0)] {
            for round in [0.9, 1.0, 1.2] {
                let sample = Sample {
                    per_second: per_second * round,
                    p50_us: Some(1_000.0),
                    p99_us: None,
                    p999_us: None,
                    cpu_us,
                    syncs: 0.5,
                    memory_bytes: 1e8,
                    disk_bytes: 2e8,
                    generator_us: None,
                };
                results.push((3, "put, 64 clients", OWN, store), sample);
            }
        }
        results
    }

    #[test]
    fn a_table_has_medians_ranges_and_ratios() {
        let text = tables(&results());
        assert!(text.contains("## 3 members, load by quorate bench"));
        assert!(text.contains("| put, 64 clients | etcd | 5,000 (4,500 to 6,000) | 1.00 ms | - | - | 300 (300 to 300) | 0.50 | 95 | 191 |"), "{text}");
        assert!(text.contains("| | *Quorate / etcd* | **1.50** | **1.00** | | | **0.50** | | | |"), "{text}");
        assert!(ceilings(&results()).contains("| one sync | 190 us | 1.29 ms |"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([7.0, 1_234.4, 1_234_567.0].map(whole), ["7", "1,234", "1,234,567"]);
    }
}
