//! One operator works at a time: whoever holds a Lease. It stops before another one may take over, measured by its own clock. Two at
//! once, as when a process was paused, are harmless all the same: every change of the membership and of the record is a compare-and-set.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, timeout_at};

/// A holder that others have not seen renew it for so long has lost it.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that has not renewed it for so long stops. The rest of `DURATION` is for clocks of another speed and requests on their way.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// A try that takes longer has failed: the API server may have gone without a word, and another connection may lead to the next one.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);
/// Between tries.
const PAUSE: Duration = Duration::from_secs(2);

/// What became of a try to get or renew it.
enum Tried {
    /// It is held.
    Held,
    /// It is another one's.
    Refused,
    /// That is not known.
    Failed,
}

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

    /// Waits until this process holds it, and says since when.
    pub async fn acquire(&mut self) -> Instant {
        loop {
            // The answer may be long on its way, and others count from what they saw meanwhile.
            let asked = Instant::now();
            if let Tried::Held = tried(&Monotonic, asked + TRY_TIMEOUT, self.try_hold()).await {
                return asked;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Renews what was acquired until it is lost, or not surely held any more.
    pub async fn hold(&mut self, since: Instant) {
        keep(&Monotonic, since, async || self.try_hold().await).await;
    }

    /// Gives it back, so that the next one need not wait.
    pub async fn release(&self) {
        // Without it the next one waits a little longer.
        let _ = tokio::time::timeout(TRY_TIMEOUT, self.try_release()).await;
    }

    async fn try_release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        if let Some(spec) =
            lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
        {
            spec.holder_identity = None;
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(0)) };
            return self.leases.create(&PostParams::default(), &lease).await.map(|_| true);
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
        // The resource version makes it a compare-and-set. Who was faster, perhaps a late try of ours, the next look says.
        self.leases.replace(&self.name, &PostParams::default(), &lease).await.map(|_| true)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: now.clone(),
            renew_time: now,
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

/// Time as the process sees it.
trait Clock {
    fn now(&self) -> Instant;

    /// The answer, unless it takes longer than until then.
    async fn within<T>(&self, end: Instant, answer: impl Future<Output = T>) -> Option<T>;
}

struct Monotonic;

impl Clock for Monotonic {
    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn within<T>(&self, end: Instant, answer: impl Future<Output = T>) -> Option<T> {
        timeout_at(end, answer).await.ok()
    }
}

async fn tried(
    clock: &impl Clock,
    end: Instant,
    answer: impl Future<Output = Result<bool, kube::Error>>,
) -> Tried {
    match clock.within(end, answer).await {
        Some(Ok(true)) => return Tried::Held,
        Some(Ok(false)) => return Tried::Refused,
        Some(Err(error)) => tracing::warn!(%error, "the lease can't be read or written"),
        None => tracing::warn!("no answer about the lease"),
    }
    Tried::Failed
}

/// Returns when another one holds it, or `RENEW_DEADLINE` after the start of the last try that renewed it.
async fn keep(clock: &impl Clock, since: Instant, mut renew: impl AsyncFnMut() -> Result<bool, kube::Error>) {
    let mut deadline = since + RENEW_DEADLINE;
    while clock.now() < deadline {
        clock.within(deadline.min(clock.now() + PAUSE), std::future::pending::<()>()).await;
        let asked = clock.now();
        match tried(clock, deadline.min(asked + TRY_TIMEOUT), renew()).await {
            Tried::Held => deadline = asked + RENEW_DEADLINE,
            Tried::Refused => return,
            Tried::Failed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::FutureExt as _;

    use super::*;

    /// Stands still but while somebody waits in vain.
    struct Fake(Cell<Instant>);

    impl Clock for Fake {
        fn now(&self) -> Instant {
            self.0.get()
        }

        async fn within<T>(&self, end: Instant, answer: impl Future<Output = T>) -> Option<T> {
            let answer = answer.now_or_never();
            if answer.is_none() {
                self.0.set(end);
            }
            answer
        }
    }

    /// The API server answers so many times, so late, and is silent then: when the last renewal was asked for, and how long after
    /// that the holder worked on.
    fn cut_off(answers: u32, delay: Duration) -> (Duration, Duration) {
        let since = Instant::now();
        let clock = Fake(Cell::new(since));
        let (mut left, mut renewed) = (answers, since);
        let renew = async || {
            if left == 0 {
                return std::future::pending().await;
            }
            left -= 1;
            renewed = clock.now();
            clock.0.set(renewed + delay);
            Ok(true)
        };
        keep(&clock, since, renew).now_or_never().expect("the clock does not let it wait");
        (renewed - since, clock.now() - renewed)
    }

    #[test]
    fn a_holder_that_is_cut_off_stops_before_another_one_may_take_over() {
        for delay in [0, 3].map(Duration::from_secs) {
            for answers in 0..4 {
                let renewals = (PAUSE + delay) * answers;
                assert_eq!(cut_off(answers, delay), (renewals.saturating_sub(delay), RENEW_DEADLINE));
            }
        }
        assert!(RENEW_DEADLINE + TRY_TIMEOUT < DURATION);
    }

    #[test]
    fn a_try_without_an_answer_is_repeated() {
        let since = Instant::now();
        let clock = Fake(Cell::new(since));
        let mut tries = 0;
        let renew = async || {
            tries += 1;
            match tries {
                1 => std::future::pending().await,
                2..10 => Ok(true),
                _ => Ok(false),
            }
        };
        keep(&clock, since, renew).now_or_never().expect("the clock does not let it wait");
        assert_eq!(
            clock.now() - since,
            TRY_TIMEOUT + 10 * PAUSE,
            "it ends at once when another one holds it"
        );
    }
}
