//! Performing one step of a plan.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::names::Names;
use crate::plan::{Facts, Step, Uid};
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
                if let Some(uid) = self.facts.claims.get(pod) {
                    self.delete::<PersistentVolumeClaim>(&self.names.claim(pod), uid).await?;
                }
            }
            Step::RestartPod { pod } => {
                if let Some(facts) = self.facts.pods.get(pod) {
                    self.delete::<Pod>(pod, &facts.uid).await?;
                }
            }
        }
        Ok(())
    }

    /// Deletes the object that was looked at, and no later one of its name: another operator may have acted meanwhile.
    async fn delete<K>(&self, name: &str, uid: &Uid) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.names.namespace);
        let preconditions = Preconditions { uid: Some(uid.0.clone()), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        gone(api.delete(name, &parameters).await.map(|_| ()))
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

/// What is gone already needs no deleting; where another one has its name by now (409), the next look decides.
fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
        other => other,
    }
}
