//! Keys hang only on leases that are there: granted by somebody, once, and not ended yet.

use super::Lease;
use crate::history::{Outcome, Record};
use quorate_state::error::ApplyError;

pub(super) fn check(lease: &Lease<'_>) -> Result<(), String> {
    if let Some(twice) =
        lease.grants.iter().find(|record| record.outcome == Outcome::Denied(ApplyError::LeaseExists))
    {
        return Err(format!(
            "lease {} was granted twice, though its id is one client's: {twice:?}",
            lease.id
        ));
    }
    for (record, revision) in &lease.puts {
        let Some(revision) = *revision else { continue };
        let granted = |grant: &&Record| {
            grant.asked < record.answered && !matches!(grant.outcome, Outcome::Refused | Outcome::Denied(_))
        };
        if !lease.grants.iter().any(granted) {
            return Err(format!(
                "revision {revision} hangs on lease {}, which nobody granted: {record:?}",
                lease.id
            ));
        }
        let ended = |end: i64, what: &str| {
            Err(format!("revision {revision} lies behind the lease's end in {end} ({what}): {record:?}"))
        };
        if let Some((end, ..)) = lease.end
            && revision > end
        {
            return ended(end, "its keys vanished");
        }
        let revoked = lease.revokes.iter().filter_map(|revoke| match &revoke.outcome {
            Outcome::Applied(response) => Some(response.revision),
            Outcome::Unknown
            | Outcome::Refused
            | Outcome::Denied(_)
            | Outcome::Read(..)
            | Outcome::Renewed
            | Outcome::NotRenewed => None,
        });
        if let Some(end) = revoked.min().filter(|end| revision > *end) {
            return ended(end, "it was revoked");
        }
    }
    Ok(())
}
