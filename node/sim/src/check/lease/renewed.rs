//! No lease is renewed behind its end (etcd #20616: a keep-alive that succeeded on a revoked lease).

use super::Lease;
use crate::history::Outcome;

pub(super) fn check(lease: &Lease<'_>) -> Result<(), String> {
    for record in lease.keep_alives.iter().filter(|record| record.outcome == Outcome::Renewed) {
        let revoked = lease
            .revokes
            .iter()
            .find(|revoke| matches!(revoke.outcome, Outcome::Applied(_)) && revoke.answered < record.asked);
        if let Some(revoke) = revoked {
            return Err(format!(
                "lease {} was renewed though it had been revoked: {record:?} after {revoke:?}",
                lease.id
            ));
        }
        if let Some((revision, seen, _)) = lease.end
            && seen < record.asked
        {
            return Err(format!(
                "lease {} was renewed though it had ended in revision {revision}, seen at {} ms: {record:?}",
                lease.id, seen.ms
            ));
        }
    }
    Ok(())
}
