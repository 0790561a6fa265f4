//! One leader in an epoch (Raft: Election Safety; Paxos: a ballot has one owner; Zab: an epoch has one primary), and epochs that
//! never go back on a member, restarts included (acceptors never regress: Paxos Made Simple 2.2).
//!
//! In Multi-Paxos one who serves: voters on either side of a stop number their ballots alike, and one whom the old voters elect may
//! finish their log while another leads the new ones. It proposes nothing behind the stop, and serves nobody.

use std::collections::BTreeMap;

use quorate_consensus::id::{Epoch, MemberId};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::protocol::{Part, Status};

#[derive(Debug)]
pub(super) struct Epochs {
    protocol: ProtocolKind,
    leaders: BTreeMap<Epoch, MemberId>,
    /// The highest epoch in which a member was seen to lead or to be led: others may be lost unsynced.
    seen: BTreeMap<MemberId, Epoch>,
}

impl Epochs {
    pub(super) fn new(protocol: ProtocolKind) -> Self {
        Self { protocol, leaders: BTreeMap::new(), seen: BTreeMap::new() }
    }

    pub(super) fn check(&mut self, status: &Status) -> Result<(), String> {
        let Status { id, epoch, part, established, .. } = *status;
        if part == Part::Leader {
            let counts = established || self.protocol != ProtocolKind::MultiPaxos;
            let leader = if counts { *self.leaders.entry(epoch).or_insert(id) } else { id };
            if leader != id {
                return Err(format!("members {leader} and {id} lead in epoch {epoch}"));
            }
            let seen = self.seen.entry(id).or_default();
            if epoch < *seen {
                return Err(format!("member {id} led in epoch {seen} and leads in {epoch} now"));
            }
            *seen = epoch;
        }
        Ok(())
    }
}
