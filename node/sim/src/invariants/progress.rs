//! Commit and applied index never go back while a member runs, and what is applied was committed (Raft 5.3; etcd 3.5's
//! postmortem: the applied index and the data change together). Over a restart the applied index does not fall behind what was made
//! durable of the state, nor does the commit index, which is no lower; the one that the log stores is a hint.

use std::collections::BTreeMap;
use std::ops::Range;

use quorate_consensus::id::{Index, MemberId};
use quorate_consensus::protocol::Status;

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// By member, commit and applied index.
    seen: BTreeMap<MemberId, (Index, u64)>,
    /// By member, the applied index of the state that is durable.
    durable: BTreeMap<MemberId, u64>,
}

impl Progress {
    /// The indexes that were committed since the last check.
    pub(super) fn check(&mut self, status: &Status, applied: u64) -> Result<Range<Index>, String> {
        let Status { id, commit, .. } = *status;
        let seen = self.seen.entry(id).or_default();
        let (seen_commit, seen_applied) = *seen;
        if commit < seen_commit || applied < seen_applied {
            return Err(format!("member {id} went back from {seen:?} to {commit} and {applied}"));
        }
        if applied > commit.0 {
            return Err(format!("member {id} applied {applied}, but {commit} is committed"));
        }
        *seen = (commit, applied);
        Ok(seen_commit.next()..commit.next())
    }

    /// A member's state became durable as it is.
    pub(super) fn persisted(&mut self, id: MemberId, applied: u64) {
        self.durable.insert(id, applied);
    }

    /// A member starts with a state of this applied index.
    pub(super) fn started(&self, id: MemberId, applied: u64) -> Result<(), String> {
        match self.durable.get(&id) {
            Some(durable) if applied < *durable => {
                Err(format!("member {id} starts at {applied}, but its state was durable at {durable}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn stopped(&mut self, id: MemberId) {
        self.seen.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_behind_the_durable_state_is_found() {
        let mut progress = Progress::default();
        progress.persisted(MemberId(1), 7);
        assert_eq!(progress.started(MemberId(1), 7), Ok(()));
        assert!(progress.started(MemberId(1), 6).is_err());
        assert_eq!(progress.started(MemberId(2), 0), Ok(()), "it had none");
    }
}
