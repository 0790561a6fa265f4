//! Epochs never go back on a member, over its restarts too: a term with its vote (Raft, thesis 3.4), a promised ballot (Paxos Made
//! Simple 2.2), the accepted and the current epoch (Zab, phases 1 and 2). A current epoch was accepted before, and a primary has
//! made its epoch current, durably.

use std::collections::BTreeMap;

use quorate_consensus::entry::HardState;
use quorate_consensus::id::MemberId;
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::protocol::Status;

#[derive(Debug)]
pub(super) struct Promises {
    protocol: ProtocolKind,
    durable: BTreeMap<MemberId, HardState>,
}

impl Promises {
    pub(super) fn new(protocol: ProtocolKind) -> Self {
        Self { protocol, durable: BTreeMap::new() }
    }

    /// A member took a step. `idle`: everything that it wrote is durable.
    pub(super) fn check(&mut self, status: &Status, hard: HardState, idle: bool) -> Result<(), String> {
        let id = status.id;
        let durable = self.durable.entry(id).or_default();
        if hard.epoch < durable.epoch || hard.established < durable.established {
            return Err(format!("member {id} went back from {durable:?} to {hard:?}"));
        }
        let voted = self.protocol == ProtocolKind::Raft && durable.vote.is_some();
        if voted && hard.epoch == durable.epoch && hard.vote != durable.vote {
            return Err(format!("member {id} voted twice: {durable:?} and {hard:?}"));
        }
        if idle {
            *durable = hard;
        }
        if self.protocol != ProtocolKind::Zab {
            return Ok(());
        }
        if hard.established > hard.epoch {
            return Err(format!("member {id} made an epoch current that it did not accept: {hard:?}"));
        }
        if status.established && hard.established != status.epoch {
            return Err(format!(
                "member {id} leads in epoch {}, which is not current: {hard:?}",
                status.epoch
            ));
        }
        Ok(())
    }
}
