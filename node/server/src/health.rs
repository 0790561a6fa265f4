//! etcd's health endpoints (`server/etcdserver/api/etcdhttp/health.go`): the same checks, texts and codes.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use tonic::body::Body;

use quorate_api::etcdserverpb::AlarmType;
use quorate_replica::event::Request;

use crate::http::reply;
use crate::node::Node;

/// A health check's linearizable read takes no longer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const TEXT: &str = "text/plain; charset=utf-8";

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// No CORRUPT alarm.
    DataCorruption,
    /// The state can be read here.
    SerializableRead,
    /// The cluster confirms a read.
    LinearizableRead,
    /// This member votes.
    NonLearner,
}

impl Check {
    /// Whether the process works.
    pub const LIVE: &[Self] = &[Self::SerializableRead];
    /// Whether clients may come.
    pub const READY: &[Self] =
        &[Self::DataCorruption, Self::SerializableRead, Self::LinearizableRead, Self::NonLearner];

    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, node: &Arc<Node>) -> Result<(), String> {
        match self {
            Self::DataCorruption if node.has_alarm(AlarmType::Corrupt) => {
                Err("alarm activated: CORRUPT".into())
            }
            Self::DataCorruption => Ok(()),
            // A witness has nothing to read: it does its part while it is known and follows a leader.
            Self::SerializableRead if node.is_witness() => Ok(()),
            Self::LinearizableRead if node.is_witness() => match (node.has_leader(), node.is_known()) {
                (false, _) => Err("the witness follows no leader".into()),
                (true, false) => Err("the members don't know the witness as it is configured yet".into()),
                (true, true) => Ok(()),
            },
            Self::SerializableRead => match node.local_reader() {
                Some(_) => Ok(()),
                None => Err("range error: nothing was read yet".into()),
            },
            Self::LinearizableRead => match node.ask_within(Request::Read, READ_TIMEOUT).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("range error: {}", error.text)),
            },
            Self::NonLearner if node.is_learner() => Err("not supported for learner".into()),
            Self::NonLearner => Ok(()),
        }
    }
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// `/livez` or `/readyz`.
pub async fn checks(node: &Arc<Node>, name: &str, checks: &[Check], query: &str) -> Response<Body> {
    let excluded: Vec<&str> =
        parameters(query).filter(|(key, _)| *key == "exclude").map(|(_, value)| value).collect();
    let verbose = parameters(query).any(|(key, _)| key == "verbose");
    let (mut text, mut failed) = (String::new(), false);
    for check in checks {
        if excluded.contains(&check.name()) {
            text.push_str(&format!("[+]{} excluded: ok\n", check.name()));
            continue;
        }
        match check.run(node).await {
            Ok(()) => text.push_str(&format!("[+]{} ok\n", check.name())),
            Err(why) => {
                failed = true;
                text.push_str(&format!("[-]{} failed: {why}\n", check.name()));
            }
        }
    }
    if failed {
        return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{text}{name} check failed\n"));
    }
    if verbose {
        reply(StatusCode::OK, TEXT, format!("{text}{name} check passed\n"))
    } else {
        reply(StatusCode::OK, TEXT, "ok\n")
    }
}

/// `/livez/<check>` or `/readyz/<check>`.
pub async fn one(node: &Arc<Node>, checks: &[Check], name: &str) -> Response<Body> {
    let Some(check) = checks.iter().find(|check| check.name() == name) else {
        return reply(StatusCode::NOT_FOUND, TEXT, "404 page not found\n");
    };
    match check.run(node).await {
        Ok(()) => reply(StatusCode::OK, TEXT, "ok\n"),
        Err(why) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("internal server error: {why}\n")),
    }
}

/// `/health`.
pub async fn health(node: &Arc<Node>, query: &str) -> Response<Body> {
    let serializable = parameters(query).any(|(key, value)| key == "serializable" && value == "true");
    let exclude_full = parameters(query).any(|(key, value)| key == "exclude" && value == "NOSPACE");
    let reason = if node.has_alarm(AlarmType::Nospace) && !exclude_full {
        Some("ALARM NOSPACE".to_owned())
    } else if node.has_alarm(AlarmType::Corrupt) {
        Some("ALARM CORRUPT".to_owned())
    } else if !serializable && !node.has_leader() {
        Some("RAFT NO LEADER".to_owned())
    } else {
        let check = if serializable { Check::SerializableRead } else { Check::LinearizableRead };
        check.run(node).await.err().map(|why| why.replacen("range error: ", "RANGE ERROR:", 1))
    };
    let (status, healthy) =
        if reason.is_some() { (StatusCode::SERVICE_UNAVAILABLE, "false") } else { (StatusCode::OK, "true") };
    let body = serde_json::json!({"health": healthy, "reason": reason.unwrap_or_default()});
    reply(status, "application/json", body.to_string())
}
