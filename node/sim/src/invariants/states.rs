//! Members that applied the same index hold the same state (state machine replication; etcd's corruption check, done here at
//! every index that was reached by more than one member while both were looked at).

use std::collections::BTreeMap;

use quorate_consensus::id::MemberId;
use quorate_replica::replica::Replica;

/// A state is hashed at every so many indexes: hashing walks the whole state.
const EVERY: u64 = 16;

#[derive(Debug, Default)]
pub(super) struct States {
    hashes: BTreeMap<u64, (MemberId, u32)>,
    looked_at: BTreeMap<MemberId, u64>,
}

impl States {
    pub(super) fn check(&mut self, id: MemberId, replica: &Replica) -> Result<(), String> {
        let (applied, _) = replica.state().applied();
        let last = self.looked_at.insert(id, applied);
        if applied % EVERY != 0 || last == Some(applied) {
            return Ok(());
        }
        let hash = replica.state().reader().hash(0).map_err(|error| format!("unreadable: {error}"))?;
        let (other, expected) = *self.hashes.entry(applied).or_insert((id, hash));
        if hash == expected {
            Ok(())
        } else {
            Err(format!("members {other} and {id} differ after applying {applied}"))
        }
    }

    pub(super) fn stopped(&mut self, id: MemberId) {
        self.looked_at.remove(&id);
    }
}
