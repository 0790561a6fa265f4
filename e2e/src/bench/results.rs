//! What was measured, as kept in docs/benchmarks.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::machine::About;

/// What a load of a few seconds told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Operations a second.
    pub per_second: f64,
    /// Latencies in microseconds, where the generator tells them.
    pub p50_us: Option<f64>,
    /// See above.
    pub p99_us: Option<f64>,
    /// See above.
    pub p999_us: Option<f64>,
    /// Processor time of all members for an operation.
    pub cpu_us: f64,
    /// Syncs of all members for an operation.
    pub syncs: f64,
    /// Resident memory of all members afterwards.
    pub memory_bytes: f64,
    /// What all members have on disk afterwards.
    pub disk_bytes: f64,
    /// The generator's processor time for an operation, where it tells.
    pub generator_us: Option<f64>,
}

/// One load on one store, measured in several rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// How many members.
    pub members: usize,
    /// What clients did.
    pub workload: String,
    /// Which program made the load.
    pub generator: String,
    /// Which store served it.
    pub store: String,
    /// One for each round.
    pub samples: Vec<Sample>,
}

/// A bound that no store on this machine can pass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ceiling {
    /// What was measured.
    pub what: String,
    /// Its median, in microseconds.
    pub p50_us: f64,
    /// See above.
    pub p99_us: f64,
}

/// All of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// When, where, with what.
    pub about: About,
    /// The disk's and the network's own times.
    pub ceilings: Vec<Ceiling>,
    /// What the stores did.
    pub rows: Vec<Row>,
}

/// The middle of several values, and the ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

impl Spread {
    /// Of at least one value.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, low, high })
    }
}

impl Row {
    /// Of a figure that every sample has.
    #[must_use]
    pub fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(figure))
    }

    /// Of a figure that samples may lack.
    #[must_use]
    pub fn spread_of_known(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(figure))
    }
}

impl Results {
    /// Adds a sample to its row.
    pub fn push(&mut self, key: (usize, &str, &str, &str), sample: Sample) {
        let same = |row: &Row| {
            (row.members, row.workload.as_str(), row.generator.as_str(), row.store.as_str()) == key
        };
        let (members, workload, generator, store) = key;
        match self.rows.iter().position(same) {
            Some(at) => self.rows[at].samples.push(sample),
            None => self.rows.push(Row {
                members,
                workload: workload.to_owned(),
                generator: generator.to_owned(),
                store: store.to_owned(),
                samples: vec![sample],
            }),
        }
    }

    /// The row beside another one: the same load on another store.
    #[must_use]
    pub fn beside(&self, row: &Row, store: &str) -> Option<&Row> {
        self.rows.iter().find(|other| {
            (other.members, &other.workload, &other.generator) == (row.members, &row.workload, &row.generator)
                && other.store == store
        })
    }
}

/// Reads results that were kept.
///
/// # Errors
/// They are not there, or of another form.
pub fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// Keeps results.
///
/// # Errors
/// They can't be written.
pub fn write<T: Serialize>(path: &Path, results: &T) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, serde_json::to_string_pretty(results)? + "\n")
        .with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_the_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
    }
}
