//! Counters and gauges under etcd's names, so that dashboards made for etcd show this store.

use std::sync::LazyLock;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::node::Node;
use crate::transport::FEATURE_LEVEL;

/// The process's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Syncs of the log.
    pub wal_fsync: Histogram,
    /// Syncs of the backend.
    pub backend_commit: Histogram,
    /// New leaders.
    pub leader_changes: IntCounter,
    /// Requests waiting for an answer.
    pub pending: IntGauge,
    /// RPCs begun, by service and method.
    pub grpc_started: IntCounterVec,
    /// RPCs ended, by service, method and code.
    pub grpc_handled: IntCounterVec,
    /// Seconds until the answer's head, by service and method.
    pub grpc_seconds: HistogramVec,
    /// Bytes to each peer.
    pub peer_sent_bytes: IntCounterVec,
    /// Bytes from each peer.
    pub peer_received_bytes: IntCounterVec,
    /// Messages dropped, by peer.
    pub peer_send_failures: IntCounterVec,
    has_leader: IntGauge,
    is_leader: IntGauge,
    is_learner: IntGauge,
    is_witness: IntGauge,
    feature_level: IntGauge,
    group_feature_level: IntGauge,
    committed: IntGauge,
    applied: IntGauge,
    quota: IntGauge,
    size: IntGauge,
    size_in_use: IntGauge,
    resident: IntGauge,
}

/// The one set.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        let registry = Registry::new();
        // Names below are literals and unique; the library refuses only malformed or repeated ones.
        let add = |collector: Box<dyn prometheus::core::Collector>| {
            registry.register(collector).expect("unique name")
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("valid name");
            add(Box::new(gauge.clone()));
            gauge
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("valid name");
            add(Box::new(counter.clone()));
            counter
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("valid name");
            add(Box::new(counters.clone()));
            counters
        };
        let buckets = prometheus::exponential_buckets(0.001, 2.0, 14).expect("valid buckets");
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(buckets.clone());
            let histogram = Histogram::with_opts(options).expect("valid name");
            add(Box::new(histogram.clone()));
            histogram
        };
        let rpc = ["grpc_service", "grpc_method"];
        let seconds = HistogramOpts::new("grpc_server_handling_seconds", "Seconds until the answer's head.");
        let grpc_seconds = HistogramVec::new(seconds.buckets(buckets.clone()), &rpc).expect("valid name");
        add(Box::new(grpc_seconds.clone()));
        Self {
            wal_fsync: histogram("etcd_disk_wal_fsync_duration_seconds", "Syncs of the log."),
            backend_commit: histogram("etcd_disk_backend_commit_duration_seconds", "Syncs of the backend."),
            leader_changes: counter("etcd_server_leader_changes_seen_total", "New leaders seen."),
            pending: gauge("etcd_server_proposals_pending", "Requests waiting for an answer."),
            grpc_started: counters("grpc_server_started_total", "RPCs begun.", &rpc),
            grpc_handled: counters(
                "grpc_server_handled_total",
                "RPCs ended.",
                &["grpc_service", "grpc_method", "grpc_code"],
            ),
            grpc_seconds,
            peer_sent_bytes: counters("etcd_network_peer_sent_bytes_total", "Bytes to peers.", &["To"]),
            peer_received_bytes: counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes from peers.",
                &["From"],
            ),
            peer_send_failures: counters(
                "etcd_network_peer_sent_failures_total",
                "Messages dropped.",
                &["To"],
            ),
            has_leader: gauge("etcd_server_has_leader", "1 if a leader is known."),
            is_leader: gauge("etcd_server_is_leader", "1 if this member leads."),
            is_learner: gauge("etcd_server_is_learner", "1 if this member is a learner."),
            is_witness: gauge("quorate_server_is_witness", "1 if this member votes and holds no data."),
            feature_level: gauge(
                "quorate_server_feature_level",
                "The feature level that this member can do.",
            ),
            group_feature_level: gauge(
                "quorate_server_group_feature_level",
                "The feature level that the members agreed on; lower while a member is of an earlier version.",
            ),
            committed: gauge("etcd_server_proposals_committed_total", "The last decided index."),
            applied: gauge("etcd_server_proposals_applied_total", "The last applied index."),
            quota: gauge("etcd_server_quota_backend_bytes", "The quota."),
            size: gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes on disk."),
            size_in_use: gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of live data."),
            resident: gauge("process_resident_memory_bytes", "Memory of the process."),
            registry,
        }
    }

    /// The text for a scraper.
    #[must_use]
    pub fn render(&self, node: &Node) -> Vec<u8> {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let leader = node.shows.leadership.borrow().leader;
        self.has_leader.set(i64::from(leader.is_some()));
        self.is_leader.set(i64::from(leader == Some(node.id)));
        self.is_learner.set(i64::from(node.is_learner()));
        self.is_witness.set(i64::from(node.is_witness()));
        self.feature_level.set(i64::from(FEATURE_LEVEL));
        self.group_feature_level.set(node.local_reader().map_or(0, |reader| i64::from(reader.level())));
        self.committed.set(node.shows.status.borrow().as_ref().map_or(0, |status| whole(status.commit.0)));
        self.applied.set(whole(node.applied().0));
        self.quota.set(whole(node.config.quota_bytes));
        let (size, in_use) = node.backend.size_bytes();
        self.size.set(whole(size));
        self.size_in_use.set(whole(in_use));
        self.resident.set(whole(resident_bytes()));
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(error = &error as &dyn std::error::Error, "metrics can't be rendered");
        }
        text
    }
}

/// Linux tells it in pages of 4 KiB; 0 elsewhere.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .map_or(0, |pages| pages * 4096)
}
