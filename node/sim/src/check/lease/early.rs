//! No lease ends by time before its time to live has passed since the last renewal that was acknowledged.

use quorate_state::error::ApplyError;

use super::{Clock, Lease};
use crate::history::{Moment, Outcome};

pub(super) fn check(lease: &Lease<'_>, clock: &Clock<'_>) -> Result<(), String> {
    if let Some((revision, seen, false)) = lease.end
        && !lease.may_be_revoked(seen)
        && let Some(why) = too_young(lease, seen, seen, clock)
    {
        return Err(format!(
            "lease {} ended early, in revision {revision} at {} ms: {why}",
            lease.id, seen.ms
        ));
    }
    // Whoever is told that it is gone has seen its end, too.
    let not_renewed = lease.keep_alives.iter().filter(|record| record.outcome == Outcome::NotRenewed);
    let unknown = Outcome::Denied(ApplyError::LeaseNotFound);
    let denied = lease.puts.iter().map(|(record, _)| record).chain(&lease.revokes);
    for record in not_renewed.chain(denied.filter(|record| record.outcome == unknown)) {
        let others = lease.revokes.iter().filter(|revoke| revoke.asked != record.asked);
        let revoked = others.clone().any(|revoke| {
            revoke.asked < record.answered && !matches!(revoke.outcome, Outcome::Refused | Outcome::Denied(_))
        });
        if !revoked && let Some(why) = too_young(lease, record.asked, record.answered, clock) {
            return Err(format!("lease {} was gone early, said {record:?}: {why}", lease.id));
        }
    }
    Ok(())
}

/// The renewal, acknowledged before `known`, since which too little time can have passed until `gone`.
fn too_young(lease: &Lease<'_>, known: Moment, gone: Moment, clock: &Clock<'_>) -> Option<String> {
    let last = lease.renewals().filter(|record| record.answered < known).max_by_key(|record| record.asked)?;
    let passed_ms = clock(last.asked.ms, gone.ms);
    let ttl_ms = u64::try_from(lease.ttl_s).unwrap_or(0) * 1000;
    (passed_ms < ttl_ms).then(|| {
        format!("at most {passed_ms} ms of {ttl_ms} had passed since it was renewed at {} ms", last.asked.ms)
    })
}
