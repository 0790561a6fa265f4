//! What the operator counts.

use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// The metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Looks at StoreClusters.
    pub reconciles: IntCounter,
    /// Looks that failed.
    pub failures: IntCounter,
    /// How long looks take.
    pub duration: Histogram,
    /// Steps performed, by kind.
    pub steps: IntCounterVec,
    /// 1 while this process leads.
    pub leading: IntGauge,
}

/// The process's metrics.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

#[expect(clippy::expect_used, reason = "names are constants, registered once")]
impl Metrics {
    fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("a valid name");
        let metrics = Self {
            reconciles: counter("quorate_operator_reconciles_total", "Looks at StoreClusters"),
            failures: counter("quorate_operator_reconcile_failures_total", "Looks that failed"),
            duration: Histogram::with_opts(HistogramOpts::new(
                "quorate_operator_reconcile_duration_seconds",
                "How long looks take",
            ))
            .expect("a valid name"),
            steps: IntCounterVec::new(
                Opts::new("quorate_operator_steps_total", "Steps performed"),
                &["step"],
            )
            .expect("a valid name"),
            leading: IntGauge::new("quorate_operator_leading", "1 while this process leads")
                .expect("a valid name"),
            registry,
        };
        let all: [Box<dyn prometheus::core::Collector>; 5] = [
            Box::new(metrics.reconciles.clone()),
            Box::new(metrics.failures.clone()),
            Box::new(metrics.duration.clone()),
            Box::new(metrics.steps.clone()),
            Box::new(metrics.leading.clone()),
        ];
        for one in all {
            metrics.registry.register(one).expect("registered once");
        }
        metrics
    }

    /// As Prometheus reads it.
    #[must_use]
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}
