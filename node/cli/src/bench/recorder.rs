//! What happened, counted: latencies by class of operation, and failures by kind.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::grpc::CallError;

/// Latencies are kept with this many digits.
const DIGITS: u8 = 3;
/// Shorter ones are kept as this, longer ones as the other.
const SHORTEST_NS: u64 = 1_000;
const LONGEST_NS: u64 = 600_000_000_000;
/// Kinds of failures that are told apart; all others are one.
const KINDS_MAX: usize = 32;

/// One class of operations, for instance the reads of a mixed load.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) latency: Histogram<u64>,
    pub(super) failures: BTreeMap<String, u64>,
}

impl Class {
    fn new() -> Self {
        // The bounds are constants that the library takes.
        let latency = Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, DIGITS).expect("sound bounds");
        Self { latency, failures: BTreeMap::new() }
    }

    fn succeed(&mut self, latency: Duration) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(latency_ns.max(SHORTEST_NS));
    }

    /// How many failed.
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    fn fail(&mut self, kind: String, count: u64) {
        let known = self.failures.len() < KINDS_MAX || self.failures.contains_key(&kind);
        *self.failures.entry(if known { kind } else { "other errors".into() }).or_default() += count;
    }

    fn add(&mut self, other: &Self) {
        self.latency += &other.latency;
        for (kind, count) in &other.failures {
            self.fail(kind.clone(), *count);
        }
    }
}

/// Classes by name, and notes: counts of things that are worth to be known and are no failures.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) classes: BTreeMap<&'static str, Class>,
    /// Parts of operations that are timed too, as a list's pages.
    pub(super) parts: BTreeMap<&'static str, Class>,
    pub(super) notes: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn class(&mut self, name: &'static str) -> &mut Class {
        self.classes.entry(name).or_insert_with(Class::new)
    }

    /// Adds what another one counted.
    pub(super) fn add(&mut self, other: &Self) {
        for (name, class) in &other.classes {
            self.class(name).add(class);
        }
        for (name, part) in &other.parts {
            self.parts.entry(name).or_insert_with(Class::new).add(part);
        }
        for (name, count) in &other.notes {
            *self.notes.entry(name).or_default() += count;
        }
    }

    /// How many succeeded.
    pub(super) fn succeeded(&self) -> u64 {
        self.classes.values().map(|class| class.latency.len()).sum()
    }

    /// How many failed.
    pub(super) fn failed(&self) -> u64 {
        self.classes.values().map(Class::failed).sum()
    }
}

/// Shared by the clients of one thread, which never wait for each other here; now and then the progress line looks.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<Totals>);

impl Recorder {
    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation succeeded.
    pub(super) fn success(&self, class: &'static str, latency: Duration) {
        self.totals().class(class).succeed(latency);
    }

    /// A part of an operation succeeded.
    pub(super) fn part(&self, name: &'static str, latency: Duration) {
        self.totals().parts.entry(name).or_insert_with(Class::new).succeed(latency);
    }

    /// An operation failed.
    pub(super) fn failure(&self, class: &'static str, error: &CallError) {
        self.failures(class, error.to_string(), 1);
    }

    /// Operations failed for a reason that no call gave.
    pub(super) fn failures(&self, class: &'static str, kind: String, count: u64) {
        self.totals().class(class).fail(kind, count);
    }

    /// Counts something.
    pub(super) fn note(&self, name: &'static str, count: u64) {
        *self.totals().notes.entry(name).or_default() += count;
    }

    /// How many parts of this name succeeded so far.
    pub(super) fn parts_of(&self, name: &'static str) -> u64 {
        self.totals().parts.get(name).map_or(0, |part| part.latency.len())
    }

    /// What was counted so far.
    pub(super) fn snapshot(&self) -> Totals {
        self.totals().clone()
    }

    /// Successes and failures so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        let totals = self.totals();
        (totals.succeeded(), totals.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_and_kinds_of_failures_are_added_up() {
        let (one, other) = (Recorder::default(), Recorder::default());
        one.success("put", Duration::from_micros(100));
        other.success("put", Duration::from_micros(300));
        one.failure("put", &CallError::Timeout(5));
        other.failure("put", &CallError::Timeout(5));
        other.failure("get", &CallError::Lost("gone".into()));
        one.note("conflicts", 2);
        other.note("conflicts", 1);
        let mut totals = one.snapshot();
        totals.add(&other.snapshot());
        let put = &totals.classes["put"];
        assert_eq!((put.latency.len(), put.failed(), totals.failed()), (2, 2, 3));
        assert_eq!(put.failures["no answer within 5 ms"], 2);
        assert_eq!(totals.notes["conflicts"], 3);
        let high_ns = put.latency.value_at_quantile(1.0);
        assert!((300_000..300_300).contains(&high_ns), "{high_ns}");
        assert_eq!(other.counts(), (1, 2));
    }

    #[test]
    fn kinds_of_failures_have_a_limit() {
        let recorder = Recorder::default();
        for at in 0..100 {
            recorder.failures("put", format!("error {at}"), 1);
        }
        let totals = recorder.snapshot();
        assert_eq!((totals.classes["put"].failures.len(), totals.failed()), (KINDS_MAX + 1, 100));
    }
}
