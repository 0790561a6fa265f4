//! Performing one step of a plan.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DeleteParams;
use kube::{Api, Client};

use crate::names::Names;
use crate::plan::{Facts, Step};
use crate::reconcile::ReconcileError;
use crate::store::{Credentials, Store};

/// What a step needs.
#[derive(Clone)]
pub struct Hands<'a> {
    /// Kubernetes.
    pub client: &'a Client,
    /// The cluster.
    pub names: &'a Names,
    /// For members; `None` without TLS.
    pub credentials: Option<&'a Credentials>,
    /// Who leads, and where.
    pub facts: &'a Facts,
}

impl Hands<'_> {
    /// Performs a step. Each can be repeated.
    ///
    /// # Errors
    /// The API server's or the store's.
    pub async fn perform(&self, step: &Step) -> Result<(), ReconcileError> {
        match step {
            // The record is written with the next look at it, by the reconciler.
            Step::RecordBootstrap { .. } => {}
            Step::AddLearner { pod, replaces } => {
                let url = self.names.peer_url(pod);
                self.leader().await?.add_learner(&url, *replaces).await?;
            }
            Step::AddWitness { pod } => {
                self.leader().await?.add_witness(&self.names.peer_url(pod)).await?;
            }
            Step::Promote { id, .. } => self.leader().await?.promote(*id).await?,
            Step::MoveLeader { to, .. } => self.leader().await?.move_leader(*to).await?,
            Step::GiveUpLearner { id, .. } | Step::RemoveMember { id, .. } => {
                self.leader().await?.remove(*id).await?
            }
            Step::DeleteClaim { pod } => {
                let claims: Api<PersistentVolumeClaim> =
                    Api::namespaced(self.client.clone(), &self.names.namespace);
                gone(claims.delete(&self.names.claim(pod), &DeleteParams::default()).await.map(|_| ()))?;
            }
            Step::RestartPod { pod } => {
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.names.namespace);
                gone(pods.delete(pod, &DeleteParams::default()).await.map(|_| ()))?;
            }
        }
        Ok(())
    }

    async fn leader(&self) -> Result<Store, ReconcileError> {
        let leader = self.facts.store.as_ref().and_then(|store| {
            let leader = store.leader?;
            let pod = &store.members.iter().find(|member| member.id == leader)?.pod;
            Some((pod, self.facts.pods.get(pod)?.address?))
        });
        let (pod, address) = leader.ok_or(ReconcileError::NoLeader)?;
        Ok(Store::connect(self.names, pod, address, self.credentials).await?)
    }
}

/// What is gone already needs no deleting.
fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        other => other,
    }
}
