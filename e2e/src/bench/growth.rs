//! How stores behave as clients, values, keys and members grow.

use anyhow::{Context as _, Result};

use super::load::{self, Workload};
use super::machine::{self, About};
use super::markdown;
use super::results::{Results, Row, Sample};
use super::store::Store;
use super::suite::{Bench, OWN, measure};
use super::svg::{Plot, Scale, Series};

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Clients that put at once.
    Clients,
    /// Bytes of values that are put.
    Values,
    /// Keys in the store, read one by one and listed in pages.
    Keys,
    /// Members that have a copy.
    Members,
}

impl Axis {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Clients, Self::Values, Self::Keys, Self::Members];

    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Values => "values",
            Self::Keys => "keys",
            Self::Members => "members",
        }
    }

    fn steps(self, keys_max: u64) -> Vec<u64> {
        match self {
            Self::Clients => vec![1, 4, 16, 64, 256, 1_000],
            Self::Values => vec![64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20],
            Self::Keys => [10_000, 100_000, 1_000_000].into_iter().filter(|keys| *keys <= keys_max).collect(),
            Self::Members => vec![1, 3, 5],
        }
    }

    /// The loads at one step, in the order they run.
    fn workloads(self, step: u64) -> Vec<Workload> {
        let clients = |clients: u32| Workload::new("put", clients, clients.min(100));
        let named = |words: &str, workload: Workload| Workload { name: words.to_owned(), ..workload };
        match self {
            Self::Clients => {
                let step = u32::try_from(step).unwrap_or(u32::MAX);
                let get = Workload::new("get", step, step.min(100));
                vec![named("put", clients(step)), named("get", get)]
            }
            Self::Values => {
                let value_bytes = usize::try_from(step).unwrap_or(usize::MAX);
                // Few keys, so that the reads' preparation and the disk stay small.
                vec![named("put", Workload { value_bytes, keys: 200, ..clients(16) })]
            }
            Self::Keys => {
                let keyed = |words: &str, clients: u32| {
                    named(words, Workload { keys: step, ..Workload::new(words, clients, clients.min(16)) })
                };
                vec![keyed("get", 64), keyed("put", 64), keyed("range --count=500", 1)]
            }
            Self::Members => vec![named("put", clients(64)), named("get", Workload::new("get", 64, 16))],
        }
    }

    fn members(self, step: u64) -> usize {
        match self {
            Self::Members => usize::try_from(step).unwrap_or(1),
            Self::Clients | Self::Values | Self::Keys => 3,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Values => "bytes of a value",
            Self::Keys => "keys in the store",
            Self::Members => "members",
        }
    }
}

/// The name of a row: the load and the step, so that rows of one load make a line.
fn key(workload: &str, step: u64) -> String {
    format!("{workload} @ {step}")
}

/// Grows along one axis.
///
/// # Errors
/// A store does not start, or a load fails.
pub async fn run(
    bench: &Bench,
    axis: Axis,
    command: &str,
    rounds: usize,
    seconds: f64,
    keys_max: u64,
) -> Result<Results> {
    let about = About::now(command, &bench.binaries, bench.folder())?;
    let mut results = Results { about, ceilings: machine::ceilings(bench.folder())?, rows: Vec::new() };
    for _ in 0..rounds {
        for step in axis.steps(keys_max) {
            for store in [Store::Etcd, Store::Quorate] {
                let shown = format!("{} {step}, {}", axis.unit(), store.name());
                let samples =
                    step_once(bench, axis, step, store, seconds).await.with_context(|| shown.clone())?;
                for (workload, sample) in samples {
                    results.push((axis.members(step), &key(&workload, step), OWN, store.name()), sample);
                }
                eprintln!("{shown}: done");
            }
        }
    }
    Ok(results)
}

async fn step_once(
    bench: &Bench,
    axis: Axis,
    step: u64,
    store: Store,
    seconds: f64,
) -> Result<Vec<(String, Sample)>> {
    let cluster = bench.cluster(store, axis.members(step)).await?;
    let endpoints = cluster.endpoints();
    let mut samples = Vec::new();
    for (at, workload) in axis.workloads(step).into_iter().enumerate() {
        if at == 0 {
            load::prepare(&bench.binaries.quorate, &workload, &endpoints)?;
        }
        let quorate = &bench.binaries.quorate;
        let sample = measure(&cluster, || load::quorate(quorate, &workload, &endpoints, seconds))?;
        samples.push((workload.name, sample));
    }
    cluster.end().await?;
    Ok(samples)
}

/// Lines of one figure over the steps, one for each load and store.
fn series(results: &Results, workload: &str, figure: impl Fn(&Row) -> Option<f64>) -> Vec<Series> {
    let line = |store: &str| {
        let of_store = results.rows.iter().filter(|row| row.store == store);
        let point = |row: &Row| {
            let (name, step) = row.workload.split_once(" @ ")?;
            (name == workload).then_some(())?;
            Some((step.parse::<f64>().ok()?, figure(row)?))
        };
        Series { name: format!("{store}, {workload}"), points: of_store.filter_map(point).collect() }
    };
    [Store::Etcd.name(), Store::Quorate.name()].into_iter().map(line).collect()
}

/// The names of the loads.
fn workloads(results: &Results) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in &results.rows {
        let name = row.workload.split(" @ ").next().unwrap_or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Plots of throughput, latency and processor time, with the names of their files.
#[must_use]
pub fn plots(axis: Axis, results: &Results) -> Vec<(String, Plot)> {
    type Figure = fn(&Row) -> Option<f64>;
    let figures: [(&str, &str, Figure); 3] = [
        ("throughput", "operations/s", |row| Some(row.spread(|sample| sample.per_second)?.median)),
        ("p99", "p99 in us", |row| Some(row.spread_of_known(|sample| sample.p99_us)?.median)),
        ("cpu", "CPU us of all members for an operation", |row| {
            Some(row.spread(|sample| sample.cpu_us)?.median)
        }),
    ];
    let x = match axis {
        Axis::Members => Scale::Linear,
        Axis::Clients | Axis::Values | Axis::Keys => Scale::Logarithmic,
    };
    let plot = |(file, unit, figure): (&str, &str, Figure)| {
        let plot = Plot {
            title: format!("{unit} by {}", axis.unit()),
            x: (axis.unit().to_owned(), x),
            y: (unit.to_owned(), Scale::Logarithmic),
            series: workloads(results).into_iter().flat_map(|name| series(results, name, figure)).collect(),
        };
        (format!("growth-{}-{file}.svg", axis.name()), plot)
    };
    figures.into_iter().map(plot).collect()
}

/// One axis as Markdown.
#[must_use]
pub fn markdown(axis: Axis, results: &Results) -> String {
    let plots: String =
        plots(axis, results).iter().map(|(file, plot)| format!("![{}]({file})\n", plot.title)).collect();
    format!(
        "# Growth: {}\n\n{}\nA load is named with its step after \"@\".\n\n{plots}\n{}",
        axis.unit(),
        results.about.markdown(),
        markdown::tables(results)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_the_steps_of_one_load_and_store() {
        let sample = |per_second| Sample {
            per_second,
            p50_us: None,
            p99_us: None,
            p999_us: None,
            cpu_us: 1.0,
            syncs: 0.0,
            memory_bytes: 0.0,
            disk_bytes: 0.0,
            generator_us: None,
        };
        let about = machine::tests::about();
        let mut results = Results { about, ceilings: Vec::new(), rows: Vec::new() };
        for (step, per_second) in [(1, 10.0), (64, 500.0)] {
            results.push((3, &key("put", step), OWN, "etcd"), sample(per_second));
            results.push((3, &key("put", step), OWN, "Quorate"), sample(per_second * 2.0));
            results.push((3, &key("get", step), OWN, "etcd"), sample(1.0));
        }
        let plots = plots(Axis::Clients, &results);
        let (file, plot) = &plots[0];
        assert_eq!(file, "growth-clients-throughput.svg");
        let line = plot.series.iter().find(|series| series.name == "Quorate, put").unwrap();
        assert_eq!(line.points, [(1.0, 20.0), (64.0, 1_000.0)]);
        assert_eq!(plot.series.len(), 4);
    }

    #[test]
    fn a_million_keys_can_be_left_out() {
        assert_eq!(Axis::Keys.steps(100_000), [10_000, 100_000]);
        assert_eq!(Axis::Members.steps(0), [1, 3, 5]);
    }
}
