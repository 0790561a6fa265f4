//! One operator works at a time: whoever holds a Lease. Two at once are harmless all the same, since every change of the
//! membership and of the record is a compare-and-set.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;

/// A holder that is silent for so long has lost it.
const DURATION: Duration = Duration::from_secs(15);
/// Between renewals.
const RENEW: Duration = Duration::from_secs(4);
/// Between looks of those who wait.
const LOOK: Duration = Duration::from_secs(2);

/// One contender.
#[derive(Debug)]
pub struct Contender {
    leases: Api<Lease>,
    name: String,
    identity: String,
    /// What was seen of the holder, and since when by our own clock: other clocks are not trusted.
    seen: Option<(Option<String>, Instant)>,
}

impl Contender {
    /// For a Lease of this name and namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), identity: identity.to_owned(), seen: None }
    }

    /// Waits until this process holds it.
    pub async fn acquire(&mut self) {
        loop {
            match self.try_hold().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease can't be read or written"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Renews until it is lost.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < DURATION - RENEW {
            tokio::time::sleep(RENEW).await;
            match self.try_hold().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "the lease was not renewed"),
            }
        }
    }

    /// Gives it back, so that the next one need not wait.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(&self.name).await else { return };
        if let Some(spec) =
            lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
        {
            spec.holder_identity = None;
            // Without it the next one waits a little longer.
            let _ = self.leases.replace(&self.name, &PostParams::default(), &lease).await;
        }
    }

    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(0)) };
            return won(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty());
        let version = lease.metadata.resource_version.clone();
        if holder.is_some_and(|holder| holder != self.identity) {
            let since = match &self.seen {
                Some((seen, since)) if *seen == version => *since,
                Some(_) | None => Instant::now(),
            };
            self.seen = Some((version, since));
            if since.elapsed() < DURATION {
                return Ok(false);
            }
        }
        let transitions = spec.lease_transitions.unwrap_or(0);
        let taken = holder != Some(self.identity.as_str());
        lease.spec = Some(self.spec(transitions + i32::from(taken)));
        // The resource version makes it a compare-and-set.
        won(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(15),
            acquire_time: now.clone(),
            renew_time: now,
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

fn won(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
