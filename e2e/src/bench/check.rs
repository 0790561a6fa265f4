//! The guard: ratios of today beside those that were recorded.

use anyhow::{Result, bail};

use super::markdown::Ratio;
use super::results::Results;
use super::store::Store;

/// More than this much worse is an error.
const WORSE_MAX: f64 = 0.15;

/// What got worse: the load, which figure, and how the ratio went.
fn worse(recorded: &Results, now: &Results) -> Result<Vec<String>> {
    let ratios = |results: &Results| {
        let quorate = results.rows.iter().filter(|row| row.store == Store::Quorate.name()).cloned();
        let ratio = |row: super::results::Row| {
            let base = results.beside(&row, Store::Etcd.name())?;
            Some((format!("{}, {} members", row.workload, row.members), Ratio::of(&row, base)?))
        };
        quorate.filter_map(ratio).collect::<Vec<_>>()
    };
    let (before, after) = (ratios(recorded), ratios(now));
    if before.is_empty() {
        bail!("the recorded results have no ratios");
    }
    let mut found = Vec::new();
    for (workload, before) in before {
        let Some((_, after)) = after.iter().find(|(name, _)| *name == workload) else {
            bail!("{workload} is recorded and was not measured: record again with `make bench-quick`");
        };
        if after.throughput < before.throughput * (1.0 - WORSE_MAX) {
            found.push(format!(
                "{workload}: throughput was {:.2} times etcd's and is {:.2}",
                before.throughput, after.throughput
            ));
        }
        if after.cpu > before.cpu * (1.0 + WORSE_MAX) {
            found.push(format!("{workload}: CPU was {:.2} times etcd's and is {:.2}", before.cpu, after.cpu));
        }
    }
    Ok(found)
}

/// Compares.
///
/// # Errors
/// A ratio is more than 15 % worse than recorded; the text names the loads.
pub fn check(recorded: &Results, now: &Results) -> Result<()> {
    let found = worse(recorded, now)?;
    if !found.is_empty() {
        bail!("more than {:.0} % worse than recorded:\n  {}", WORSE_MAX * 100.0, found.join("\n  "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::results::{Row, Sample};
    use super::*;

    fn results(quorate_per_second: f64, quorate_cpu_us: f64) -> Results {
        let row = |store: Store, per_second, cpu_us| {
            let sample = Sample {
                per_second,
                p50_us: None,
                p99_us: None,
                p999_us: None,
                cpu_us,
                syncs: 1.0,
                memory_bytes: 1.0,
                disk_bytes: 1.0,
                generator_us: None,
            };
            Row {
                members: 3,
                workload: "put".into(),
                generator: "g".into(),
                store: store.name().into(),
                samples: vec![sample],
            }
        };
        let rows =
            vec![row(Store::Etcd, 100.0, 100.0), row(Store::Quorate, quorate_per_second, quorate_cpu_us)];
        Results { about: super::super::machine::tests::about(), ceilings: Vec::new(), rows }
    }

    #[test]
    fn worse_ratios_are_named_and_better_ones_are_not() {
        let recorded = results(200.0, 50.0);
        assert!(check(&recorded, &results(171.0, 57.0)).is_ok());
        assert!(check(&recorded, &results(400.0, 20.0)).is_ok());
        let slower = check(&recorded, &results(169.0, 50.0)).unwrap_err().to_string();
        assert!(slower.contains("put, 3 members: throughput was 2.00"), "{slower}");
        let dearer = check(&recorded, &results(200.0, 58.0)).unwrap_err().to_string();
        assert!(dearer.contains("CPU was 0.50 times etcd's and is 0.58"), "{dearer}");
    }

    #[test]
    fn a_load_that_was_not_measured_is_no_success() {
        let mut now = results(200.0, 50.0);
        now.rows.clear();
        assert!(check(&results(200.0, 50.0), &now).is_err());
    }
}
