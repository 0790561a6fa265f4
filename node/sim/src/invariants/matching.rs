//! One value in an epoch and position, and the same position before it: by induction logs that share an entry are equal up to it
//! (Raft: Log Matching, thesis 3.5; Zab: Total Order). Multi-Paxos: one value in a ballot and slot (Paxos Made Simple 2.2, P2c).
//!
//! So the epoch and position of an entry stand for its value wherever else logs are compared.

use std::collections::BTreeMap;

use quorate_consensus::entry::Kind;
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::log::{Layout, LogRead};

use super::logs::{Look, Value, same};

#[derive(Debug)]
pub(super) struct Matching {
    layout: Layout,
    /// By epoch and position, the value and the epoch of the position before.
    written: BTreeMap<(Epoch, Index), (Value, Option<Epoch>)>,
}

impl Matching {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, written: BTreeMap::new() }
    }

    pub(super) fn check(&mut self, id: MemberId, log: &impl LogRead, look: &Look<'_>) -> Result<(), String> {
        for (&index, (epoch, value)) in look.held {
            let previous = match self.layout {
                Layout::Tail => log.epoch(index.previous()).ok(),
                Layout::Slots => None,
            };
            let known = self.written.entry((*epoch, index)).or_insert((value.clone(), previous));
            if known.0.0 == Kind::Header {
                known.0 = value.clone();
            }
            if !same(&known.0, value) {
                return Err(format!(
                    "{id} holds {value:?} in {index} of epoch {epoch}, and {:?} was there in the same epoch",
                    known.0
                ));
            }
            if known.1.zip(previous).is_some_and(|(known, previous)| known != previous) {
                return Err(format!(
                    "{id} holds {index} of epoch {epoch} behind epoch {previous:?}, others behind {:?}",
                    known.1
                ));
            }
        }
        Ok(())
    }
}
