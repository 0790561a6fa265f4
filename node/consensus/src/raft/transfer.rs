//! Leadership transfer (thesis 3.10).

use super::{Body, PartState, Raft};
use crate::id::{MemberId, Time};
use crate::log::LogRead;

/// A transfer under way: no proposals are taken until it is over.
#[derive(Debug)]
pub(super) struct Transfer {
    to: MemberId,
    told: bool,
    /// One election timeout after it began the leader goes on leading.
    pub(super) give_up_at: Time,
}

impl Raft {
    pub(super) fn transfer(&mut self, to: Option<MemberId>, log: &dyn LogRead) {
        let own = self.config.id;
        let membership = &self.present().1;
        let PartState::Leader(leading) = &self.part else { return };
        let candidates =
            leading.progress.iter().filter(|(id, _)| **id != own && membership.voters().contains(id));
        let best = candidates.max_by_key(|(id, progress)| {
            let priority = membership.member(**id).map_or(0, |member| member.leader_priority);
            (Some(**id) == to, progress.active_at, priority, progress.matched)
        });
        let Some((&chosen, _)) = best else { return };
        if to.is_some_and(|to| to != chosen) {
            return;
        }
        let give_up_at = self.now.after_ms(self.config.election_timeout_ms);
        if let PartState::Leader(leading) = &mut self.part {
            leading.transfer = Some(Transfer { to: chosen, told: false, give_up_at });
        }
        self.continue_transfer(chosen, log);
    }

    /// The successor may stand as soon as it has everything.
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
            self.send(from, Body::TimeoutNow);
        }
    }
}
