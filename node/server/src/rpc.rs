//! What is known of each RPC: who serves it, and its series of metrics, which are looked up once.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, IntCounter};
use quorate_consensus::membership::Role;
use tonic::{Code, Status};

use crate::api_error;
use crate::metrics::METRICS;
use crate::node::Node;
use crate::policy::{OnLearner, POLICIES};

/// Services that clients know and this version does not have.
const ABSENT: &[&str] = &["etcdserverpb.Auth", "v3lockpb.Lock", "v3electionpb.Election"];

/// What a witness and a member that joins serve: they know of the members, and have no data.
const WITHOUT_DATA: &[&str] =
    &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote", "MoveLeader", "Status"];

static RPCS: LazyLock<HashMap<&'static str, Rpc>> = LazyLock::new(|| {
    POLICIES.iter().map(|&(path, _, on_learner)| (path, Rpc::new(path, on_learner))).collect()
});

/// Stands for all that are not declared: a client can't make series up.
static UNKNOWN: Rpc =
    Rpc { service: "unknown", method: "unknown", on_learner: None, series: OnceLock::new() };

/// One RPC.
#[derive(Debug)]
pub(crate) struct Rpc {
    service: &'static str,
    method: &'static str,
    /// `None` for one that is not declared.
    on_learner: Option<OnLearner>,
    series: OnceLock<Series>,
}

#[derive(Debug)]
struct Series {
    started: IntCounter,
    seconds: Histogram,
    handled_well: IntCounter,
}

impl Rpc {
    fn new(path: &'static str, on_learner: OnLearner) -> Self {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        Self { service, method, on_learner: Some(on_learner), series: OnceLock::new() }
    }

    /// The one of a path.
    pub(crate) fn of(path: &str) -> &'static Self {
        RPCS.get(path).unwrap_or(&UNKNOWN)
    }

    /// Why this member does not serve it, if it does not.
    pub(crate) fn refusal(&self, node: &Node) -> Option<Status> {
        let on_learner = self.on_learner?;
        if ABSENT.contains(&self.service) {
            return Some(api_error::not_there_yet(&format!("{}/{}", self.service, self.method)));
        }
        let needs_data = !WITHOUT_DATA.contains(&self.method);
        let error = match node.role() {
            Some(Role::Learner) if on_learner == OnLearner::Refuses => api_error::NOT_SUPPORTED_FOR_LEARNER,
            Some(Role::Witness) if needs_data => api_error::NOT_SUPPORTED_FOR_WITNESS,
            None if needs_data => api_error::NOT_A_MEMBER,
            Some(Role::Voter | Role::Learner | Role::Witness) | None => return None,
        };
        Some(error.into())
    }

    fn series(&self) -> &Series {
        let labels = [self.service, self.method];
        self.series.get_or_init(|| Series {
            started: METRICS.grpc_started.with_label_values(&labels),
            seconds: METRICS.grpc_seconds.with_label_values(&labels),
            handled_well: self.handled(Code::Ok),
        })
    }

    fn handled(&self, code: Code) -> IntCounter {
        METRICS.grpc_handled.with_label_values(&[self.service, self.method, &format!("{code:?}")])
    }

    /// Counts a call that begins.
    pub(crate) fn began(&self) {
        self.series().started.inc();
    }

    /// Counts a call whose answer's head is there.
    pub(crate) fn answered(&self, after: Duration, code: Code) {
        let series = self.series();
        series.seconds.observe(after.as_secs_f64());
        match code {
            Code::Ok => series.handled_well.inc(),
            code => self.handled(code).inc(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_rpc() {
        let put = Rpc::of("/etcdserverpb.KV/Put");
        assert_eq!((put.service, put.method), ("etcdserverpb.KV", "Put"));
        assert_eq!(Rpc::of("/etcdserverpb.KV/Made/Up").service, "unknown");
    }
}
