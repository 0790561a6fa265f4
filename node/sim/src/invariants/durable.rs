//! Committed is durable on a quorum of the membership in force where it is decided (Raft: QuorumLog, CommittedIsDurable of
//! `etcdraft.tla`; Zab: Agreement), leaders have what was committed in earlier epochs (Raft: Leader Completeness, thesis 3.6.3; Zab:
//! Primary Integrity), and no state outruns its own log.
//!
//! Multi-Paxos, where any member may lead and slots become durable in any order, has its own judge: `chosen.rs`.

use std::collections::{BTreeMap, BTreeSet};

use quorate_consensus::entry::Entry;
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::log::LogRead;
use quorate_consensus::membership::Membership;
use quorate_consensus::protocol::Status;

use super::logs::Logs;

#[derive(Debug)]
pub(super) struct Durable {
    protocol: ProtocolKind,
    /// By position, the entry's epoch and the one in which it was first known to be committed.
    committed: BTreeMap<Index, (Epoch, Epoch)>,
    /// Epochs whose leader was looked at.
    complete: BTreeSet<Epoch>,
}

impl Durable {
    pub(super) fn new(protocol: ProtocolKind) -> Self {
        Self { protocol, committed: BTreeMap::new(), complete: BTreeSet::new() }
    }

    /// A member committed `entry`.
    pub(super) fn committed(
        &mut self,
        status: &Status,
        membership: &Membership,
        entry: &Entry,
        logs: &Logs,
    ) -> Result<(), String> {
        if self.protocol == ProtocolKind::MultiPaxos || self.committed.contains_key(&entry.index) {
            return Ok(());
        }
        self.committed.insert(entry.index, (entry.epoch, status.epoch));
        let quorum = membership.quorum();
        if quorum.reached(|id| logs.holds(id, entry)) {
            return Ok(());
        }
        let holders: Vec<_> = quorum.voters().into_iter().filter(|id| logs.holds(*id, entry)).collect();
        Err(format!("member {} committed {entry:?}, which is durable on {holders:?} only", status.id))
    }

    /// The state of member `id` holds what its own log, durable up to `durable` and complete behind `snapshot`, can't lose.
    pub(super) fn applied(
        id: MemberId,
        applied: Index,
        (snapshot, durable): (Index, Index),
    ) -> Result<(), String> {
        if applied <= durable || applied <= snapshot {
            return Ok(());
        }
        Err(format!("member {id} applied {applied}, but its log is durable up to {durable} only"))
    }

    /// A member took a step. `begins`: it begins to lead in its epoch. Zab's primary has everything from then on, Raft's leader too.
    pub(super) fn leads(&mut self, status: &Status, begins: bool, log: &impl LogRead) -> Result<(), String> {
        if !(begins || status.established)
            || self.protocol == ProtocolKind::MultiPaxos
            || !self.complete.insert(status.epoch)
        {
            return Ok(());
        }
        for (index, (epoch, committed_in)) in self.committed.range(log.snapshot_index()..) {
            if *committed_in < status.epoch && log.epoch(*index) != Ok(*epoch) {
                return Err(format!(
                    "member {} leads in epoch {} without {index} of epoch {epoch}, committed in {committed_in}",
                    status.id, status.epoch
                ));
            }
        }
        Ok(())
    }
}
