//! One look at one StoreCluster: observe, plan, act, tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource as _, ResourceExt as _};

use crate::act::objects::Applied;
use crate::act::record::{self, Kept};
use crate::act::secrets;
use crate::act::steps::Hands;
use crate::certificates::CertificateError;
use crate::crd::{Phase, StoreCluster};
use crate::desired::{Basis, access, services, stateful_set::stateful_set};
use crate::metrics::METRICS;
use crate::names::Names;
use crate::observe::{self, kubernetes, members};
use crate::placement::Place;
use crate::plan::{Facts, Plan, Step, plan};
use crate::status::{status, tell_ages};
use crate::store::{Credentials, StoreError};

/// While work is under way.
const BUSY: Duration = Duration::from_secs(1);
/// While nothing is to be done: members tell nobody when they fall ill or another one leads.
const STEADY: Duration = Duration::from_secs(3);
/// Who applies statuses.
const STATUS_MANAGER: &str = "quorate-operator/status";
/// After a failure: doubling between these, per StoreCluster.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server's.
    #[error("Kubernetes: {0}")]
    Kubernetes(#[from] Box<kube::Error>),
    /// A member's.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// Certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A manifest of ours that is none.
    #[error("manifest: {0}")]
    Manifest(#[from] serde_json::Error),
    /// The record was damaged.
    #[error(
        "ConfigMap {0} is not a record of this operator: restore it; a new one might bootstrap a second time"
    )]
    Record(String),
    /// A Secret lacks a key.
    #[error("Secret {0} has no {1}: delete it to have it made anew")]
    Secret(String, String),
    /// The leader left between looking and acting.
    #[error("there is no leader any more")]
    NoLeader,
}

impl From<kube::Error> for ReconcileError {
    fn from(error: kube::Error) -> Self {
        Self::Kubernetes(Box::new(error))
    }
}

/// What looks share.
pub struct Context {
    /// Kubernetes.
    pub client: Client,
    /// For clusters that name none.
    pub node_image: String,
    /// Events.
    pub recorder: Recorder,
    /// What was applied.
    pub applied: Applied,
    /// Failures in a row, by StoreCluster.
    pub attempts: Mutex<BTreeMap<String, u32>>,
}

impl Context {
    fn failed(&self, cluster: &StoreCluster) -> u32 {
        let mut attempts = self.attempts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = attempts.entry(cluster.uid().unwrap_or_default()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    fn succeeded(&self, cluster: &StoreCluster) {
        let mut attempts = self.attempts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        attempts.remove(&cluster.uid().unwrap_or_default());
    }

    async fn tell(&self, cluster: &StoreCluster, kind: EventType, reason: &str, note: String) {
        let event = Event {
            type_: kind,
            reason: reason.into(),
            note: Some(note),
            action: reason.into(),
            secondary: None,
        };
        // Events are for people; the work goes on without.
        if let Err(error) = self.recorder.publish(&event, &cluster.object_ref(&())).await {
            tracing::debug!(%error, "an event was not published");
        }
    }
}

/// Looks at a StoreCluster.
///
/// # Errors
/// What went wrong; [`retry`] says when to look again.
pub async fn reconcile(cluster: Arc<StoreCluster>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    METRICS.reconciles.inc();
    let timer = METRICS.duration.start_timer();
    let result = look(&cluster, &context).await;
    timer.observe_duration();
    let action = result?;
    context.succeeded(&cluster);
    Ok(action)
}

/// When to look again after a failure.
#[must_use]
pub fn retry(cluster: Arc<StoreCluster>, error: &ReconcileError, context: Arc<Context>) -> Action {
    METRICS.failures.inc();
    let attempt = context.failed(&cluster);
    tracing::warn!(cluster = cluster.name_any(), attempt, %error, "a look failed");
    Action::requeue((RETRY_MIN * 2_u32.pow(attempt.min(6) - 1)).min(RETRY_MAX))
}

async fn look(cluster: &StoreCluster, context: &Context) -> Result<Action, ReconcileError> {
    if cluster.metadata.deletion_timestamp.is_some() {
        // Owned objects go by themselves; claims as the reclaim policy says.
        return Ok(Action::await_change());
    }
    let client = &context.client;
    let basis = Basis::new(cluster, &context.node_image);
    let credentials = secrets::ensure(client, &basis).await?;
    let credentials = basis.spec.tls.client.then_some(&credentials);
    let mut kept = record::open(client, &basis).await?;
    let mut facts = observe(client, &basis, &kept, credentials).await?;
    if let (Some(store), Some(before)) = (&mut facts.store, &cluster.status) {
        tell_ages(store, before, Timestamp::now());
    }
    let plan = plan(&facts);
    // Told before acting, so that a step that fails is seen to be the one under way.
    let told = tell(cluster, context, &basis.names, &kept, &facts, &plan).await?;
    if let Some(Step::RecordBootstrap { cluster_id }) = plan.step {
        kept.record.cluster_id = Some(cluster_id);
    }
    act(context, &basis, &kept, &facts, &plan).await?;
    if let Some(step) = &plan.step {
        tracing::info!(cluster = basis.names.cluster, %step, "step");
        METRICS.steps.with_label_values(&[kind(step)]).inc();
        context.tell(cluster, step_event(step), kind(step), step.to_string()).await;
        let hands = Hands { client, names: &basis.names, credentials, facts: &facts };
        if let Err(error) = hands.perform(step).await {
            context.tell(cluster, EventType::Warning, "StepFailed", format!("{step}: {error}")).await;
            return Err(error);
        }
    }
    if told {
        let (kind, note) = phase_event(&plan);
        context.tell(cluster, kind, &format!("{:?}", plan.phase), note).await;
    }
    Ok(Action::requeue(if plan.phase == Phase::Ready { STEADY } else { BUSY }))
}

fn phase_event(plan: &Plan) -> (EventType, String) {
    let kind = match plan.phase {
        Phase::Degraded | Phase::Unavailable => EventType::Warning,
        Phase::Pending | Phase::Bootstrapping | Phase::Ready | Phase::Changing => EventType::Normal,
    };
    (
        kind,
        plan.waiting_for
            .clone()
            .map_or_else(|| format!("phase {:?}", plan.phase), |why| format!("waiting for {why}")),
    )
}

/// A step that people should know of is a warning.
fn step_event(step: &Step) -> EventType {
    match step {
        Step::GiveUpLearner { .. } => EventType::Warning,
        Step::RecordBootstrap { .. }
        | Step::AddLearner { .. }
        | Step::AddWitness { .. }
        | Step::Promote { .. }
        | Step::MoveLeader { .. }
        | Step::RemoveMember { .. }
        | Step::DeleteClaim { .. }
        | Step::RestartPod { .. } => EventType::Normal,
    }
}

fn kind(step: &Step) -> &'static str {
    match step {
        Step::RecordBootstrap { .. } => "RecordBootstrap",
        Step::AddLearner { replaces: None, .. } => "AddLearner",
        Step::AddLearner { replaces: Some(_), .. } => "ReplaceMember",
        Step::AddWitness { .. } => "AddWitness",
        Step::Promote { .. } => "Promote",
        Step::MoveLeader { .. } => "MoveLeader",
        Step::GiveUpLearner { .. } => "GiveUpLearner",
        Step::RemoveMember { .. } => "RemoveMember",
        Step::DeleteClaim { .. } => "DeleteClaim",
        Step::RestartPod { .. } => "RestartPod",
    }
}

async fn observe(
    client: &Client,
    basis: &Basis<'_>,
    kept: &Kept,
    credentials: Option<&Credentials>,
) -> Result<Facts, ReconcileError> {
    let seen = kubernetes::look(client, &basis.names).await?;
    let store = members::ask(&basis.names, &seen.pods, credentials).await;
    Ok(observe::facts(&basis.names, basis.spec, &kept.record, seen, store))
}

async fn act(
    context: &Context,
    basis: &Basis<'_>,
    kept: &Kept,
    facts: &Facts,
    plan: &Plan,
) -> Result<(), ReconcileError> {
    let client = &context.client;
    let members = known_places(facts);
    record::keep(client, basis, kept, &members).await?;
    let voters = facts.store.iter().flat_map(|store| &store.members).filter(|member| !member.learner).count();
    let mut manifests = vec![
        access::account(basis),
        services::peers(basis),
        services::client(basis),
        access::disruption_budget(basis, voters),
        access::network_policy(basis),
    ];
    let zones: BTreeSet<&String> = plan.replicas.keys().chain(facts.replicas.keys()).collect();
    for zone in zones {
        let replicas = plan.replicas.get(zone).copied().unwrap_or(0);
        manifests.push(stateful_set(basis, zone, replicas));
    }
    for manifest in manifests {
        context.applied.apply(client, manifest).await?;
    }
    Ok(())
}

/// Whom a newcomer may ask: every place that has or shall have a member.
fn known_places(facts: &Facts) -> Vec<Place> {
    let members = facts.store.iter().flat_map(|store| &store.members);
    let places = members.filter_map(|member| facts.places.get(&member.pod)).chain(&facts.wanted);
    places.map(|place| (place.pod.clone(), place.clone())).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Writes the status if it changed. Whether the phase did.
async fn tell(
    cluster: &StoreCluster,
    context: &Context,
    names: &Names,
    kept: &Kept,
    facts: &Facts,
    plan: &Plan,
) -> Result<bool, ReconcileError> {
    let next = status(cluster, names, kept.record.cluster_id, facts, plan, Timestamp::now());
    if cluster.status.as_ref() == Some(&next) {
        return Ok(false);
    }
    let changed = cluster.status.as_ref().is_none_or(|before| before.phase != next.phase);
    let clusters: Api<StoreCluster> = Api::namespaced(context.client.clone(), &names.namespace);
    // Applied, so that fields which are not told any more go.
    let patch = Patch::Apply(serde_json::json!({
        "apiVersion": "quorate.io/v1alpha1",
        "kind": "StoreCluster",
        "status": next,
    }));
    let parameters = PatchParams::apply(STATUS_MANAGER).force();
    clusters.patch_status(&names.cluster, &parameters, &patch).await?;
    Ok(changed)
}
