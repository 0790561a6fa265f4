//! What can be asked for on the command line.

use std::time::Duration;

use anyhow::{Result, bail};

use super::keys::Distribution;
use super::schedule::Plan;
use super::target::TargetOptions;

/// Without --total and --duration.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// For programs; latencies in microseconds
    Json,
}

/// What every load takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Load {
    #[command(flatten)]
    pub(super) target: TargetOptions,
    /// Operations under way at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) clients: u32,
    /// TCP connections that the clients share
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) connections: u32,
    /// Threads of the generator; one makes about a hundred thousand operations a second
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) threads: u32,
    /// Open loop: operations a second, each measured from when it was due
    #[arg(long, value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// End after so many operations
    #[arg(long)]
    pub(super) total: Option<u64>,
    /// End after this time (10s without --total)
    #[arg(long, value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// How many keys there are
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) keys: u64,
    /// Bytes of a key
    #[arg(long, default_value_t = 32)]
    pub(super) key_size: usize,
    /// Bytes of a value; they don't compress
    #[arg(long, default_value_t = 256)]
    pub(super) value_size: usize,
    /// How keys are chosen
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub(super) distribution: Distribution,
    /// What all keys begin with
    #[arg(long, default_value = "bench/")]
    pub(super) prefix: String,
    /// Write all keys first (not measured)
    #[arg(long)]
    pub(super) prepare: bool,
    /// The same seed chooses the same keys
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How results are shown
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
    /// A line each second on stderr, on a terminal or not
    #[arg(long)]
    pub(super) progress: bool,
}

impl Load {
    /// When to begin and to end.
    pub(super) fn plan(&self) -> Plan {
        let duration = self.duration.or(self.total.is_none().then_some(DURATION_DEFAULT));
        Plan { duration, total: self.total, rate: self.rate }
    }
}

/// Reads 1.5s, 300ms, 2m, 1h.
pub(super) fn duration(text: &str) -> Result<Duration> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit_s = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" => bail!("a unit is missing, as in {text}s"),
        other => bail!("{other} is none of us, ms, s, m, h"),
    };
    match number.parse::<f64>().map(|number| Duration::try_from_secs_f64(number * unit_s)) {
        Ok(Ok(duration)) if !duration.is_zero() => Ok(duration),
        _ => bail!("{number:?} is no positive number"),
    }
}

fn rate(text: &str) -> Result<f64> {
    /// Beyond it the interval is below the clock's steps.
    const RATE_MAX: f64 = 1e7;
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= RATE_MAX => Ok(rate),
        _ => bail!("{text:?} is no number of operations a second from above 0 to {RATE_MAX}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1_500));
        assert_eq!(duration("300ms").unwrap(), Duration::from_millis(300));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        for wrong in ["10", "s", "-1s", "0s", "1d", "nans", "1e30h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_positive() {
        assert_eq!(rate("0.5").unwrap(), 0.5);
        for wrong in ["0", "-1", "x", "1e9", "NaN"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
