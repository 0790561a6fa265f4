//! Handing leadership over.

use super::{Body, PartState, Paxos};
use crate::handover::{Due, Field};
use crate::id::{MemberId, Time};
use crate::log::LogRead;

/// A hand-over under way: no proposals are taken until it is over.
#[derive(Clone, Debug, Hash)]
pub(super) struct Transfer {
    to: MemberId,
    /// This leader's disk fails it: if the successor does not come, it stops leading all the same.
    pub(super) must: bool,
    told: bool,
    /// Then the leader goes on leading: an election timeout after it began, or half of one if it must go.
    pub(super) give_up_at: Time,
}

impl Paxos {
    pub(super) fn transfer(&mut self, to: Option<MemberId>, log: &dyn LogRead) {
        self.begin_transfer(to, false, log);
    }

    fn begin_transfer(&mut self, to: Option<MemberId>, must: bool, log: &dyn LogRead) {
        // Nothing is proposed behind a stop, so the successor would wait for a change of voters.
        let Some(field) = self.field(log).filter(|_| !self.is_stopping()) else { return };
        let Some(to) = field.successor(to, self.now, &self.config) else { return };
        let patience_ms = self.config.election_timeout_ms / if must { 2 } else { 1 };
        let give_up_at = self.now.after_ms(patience_ms);
        if let PartState::Leader(leading) = &mut self.part {
            leading.transfer = Some(Transfer { to, must, told: false, give_up_at });
        }
        self.continue_transfer(to, log);
    }

    fn field(&self, log: &dyn LogRead) -> Option<Field<'_>> {
        let PartState::Leader(leading) = &self.part else { return None };
        let progress = leading.progress.iter().map(|(&id, progress)| (id, progress)).collect();
        let (own, membership) = (self.config.id, &self.membership);
        Some(Field { own, membership, last: self.view(log).last_index(), progress })
    }

    /// Gives leadership away because of this disk, or to a voter of a higher priority.
    pub(super) fn hand_over_if_due(&mut self, log: &dyn LogRead) {
        let mut handover = std::mem::take(&mut self.handover);
        let busy = matches!(&self.part, PartState::Leader(leading) if leading.transfer.is_some());
        let field = self.field(log).filter(|_| !busy && self.is_established());
        let due = field.and_then(|field| handover.due(&field, &self.disk, self.now, &self.config));
        self.handover = handover;
        match due {
            Some(Due::Disk) => {
                self.disk.gave_up(self.now);
                self.begin_transfer(None, true, log);
            }
            Some(Due::Priority(to)) => self.begin_transfer(Some(to), false, log),
            None => {}
        }
    }

    /// The successor may prepare as soon as it has everything; before, it would have to be told by others.
    pub(super) fn continue_transfer(&mut self, from: MemberId, log: &dyn LogRead) {
        let last = self.view(log).last_index();
        let PartState::Leader(leading) = &mut self.part else { return };
        let caught_up = leading.progress.get(&from).is_some_and(|progress| progress.matched == last);
        if let Some(transfer) = &mut leading.transfer
            && transfer.to == from
            && !transfer.told
            && caught_up
        {
            transfer.told = true;
            self.send(from, Body::TakeOver);
        }
    }
}
