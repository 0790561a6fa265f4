//! One value per epoch and position of a log, and the same position before it: by induction logs that share an entry are equal up to
//! it (Raft: Log Matching, thesis 3.5; Zab: Total Order). Multi-Paxos: one value per ballot and slot (Paxos Made Simple 2.2, P2c).

use std::collections::BTreeMap;

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::id::{Epoch, Index, MemberId};

use super::logs::{Value, same};

#[derive(Debug, Default)]
pub(super) struct Matching {
    /// By epoch and position, the value and the epoch of the position before.
    written: BTreeMap<(Epoch, Index), (Value, Option<Epoch>)>,
}

impl Matching {
    /// Member `id` holds `entry` behind one of epoch `previous`, where positions have an order.
    pub(super) fn holds(
        &mut self,
        id: MemberId,
        entry: &Entry,
        previous: Option<Epoch>,
    ) -> Result<(), String> {
        let value = (entry.kind, entry.payload.clone());
        let known = self.written.entry((entry.epoch, entry.index)).or_insert((value.clone(), previous));
        if known.0.0 == Kind::Header {
            known.0 = value.clone();
        }
        if !same(&known.0, &value) {
            return Err(format!("{id} holds {entry:?}, and {known:?} was there in the same epoch"));
        }
        if known.1.zip(previous).is_some_and(|(known, previous)| known != previous) {
            let others = known.1;
            return Err(format!("{id} holds {entry:?} behind epoch {previous:?}, others behind {others:?}"));
        }
        Ok(())
    }

    /// What any member held at a position in an epoch.
    pub(super) fn value(&self, epoch: Epoch, index: Index) -> Option<&Value> {
        self.written.get(&(epoch, index)).map(|(value, _)| value)
    }
}
