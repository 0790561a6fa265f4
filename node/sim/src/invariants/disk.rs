//! What was durable on a member is there after its restart, before its first step: the first message that it takes may be a new
//! leader's, which cuts what the leader lacks (Raft: thesis 3.8; Paxos Made Simple 2.5; Zab 2011, section IV: the history is in
//! stable storage). An entry is replaced by one of a later epoch only, and an acceptor's slot never falls to a lower ballot (2.2, P1a).

use std::collections::BTreeMap;

use quorate_consensus::entry::Entry;
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::log::{Layout, LogRead};

use super::logs::{Value, same};

/// What is held, by position.
pub(super) type Held = BTreeMap<Index, (Epoch, Value)>;

#[derive(Debug)]
pub(super) struct Disk {
    layout: Layout,
    /// By member, what was durable and not yet applied.
    durable: BTreeMap<MemberId, Held>,
}

impl Disk {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, durable: BTreeMap::new() }
    }

    /// A member applied everything up to `applied`, so that it was durable.
    pub(super) fn applied(&mut self, id: MemberId, applied: Index) {
        let durable = self.durable.entry(id).or_default();
        *durable = durable.split_off(&applied.next());
    }

    /// What was durable must be held, or replaced by something of a later epoch; then what is durable now is remembered.
    pub(super) fn check(
        &mut self,
        id: MemberId,
        restarted: bool,
        reach: Index,
        held: Held,
    ) -> Result<(), String> {
        let durable = self.durable.entry(id).or_default();
        for (index, (epoch, value)) in durable.iter() {
            match held.get(index) {
                None if restarted => {
                    return Err(format!("{id} lost {index} of epoch {epoch}, which was durable"));
                }
                None if self.layout == Layout::Slots => return Err(format!("{id} cut slot {index} off")),
                None => {}
                Some((now, _)) if now < epoch && self.layout == Layout::Slots => {
                    return Err(format!("{id} replaced {index} of ballot {epoch} by one of ballot {now}"));
                }
                Some((now, found)) if now == epoch && !same(found, value) => {
                    return Err(format!("{id} changed {index} of epoch {epoch}"));
                }
                Some(_) => {}
            }
        }
        *durable = held.into_iter().filter(|(index, _)| *index <= reach).collect();
        Ok(())
    }

    /// Whether an entry that is not applied on a member is durable there.
    pub(super) fn holds(&self, id: MemberId, entry: &Entry) -> bool {
        let found = self.durable.get(&id).and_then(|durable| durable.get(&entry.index));
        found.is_some_and(|(epoch, value)| {
            *epoch == entry.epoch && same(value, &(entry.kind, entry.payload.clone()))
        })
    }

    /// The disk failed in the middle of a step, which nothing has looked at. What a leader cut or replaced in that step may or may
    /// not be on the disk, in any part; what it left alone must be. Slots are never given up before something else is durable.
    pub(super) fn failed(&mut self, id: MemberId, log: &impl LogRead) {
        if let (Layout::Tail, Some(durable)) = (self.layout, self.durable.get_mut(&id)) {
            durable.retain(|index, (epoch, _)| log.epoch(*index) == Ok(*epoch));
        }
    }
}
