//! Linearizable reads: at the chosen prefix, once a quorum has confirmed behind the read that it promised no higher ballot.

use super::{Body, PartState, Paxos};
use crate::id::{Index, MemberId, ReadId};
use crate::mutants::mutant;
use crate::rounds;

impl Paxos {
    /// Reads at the chosen prefix, confirmed by a round of the ballot.
    pub(super) fn read_for(&mut self, origin: Option<MemberId>, id: ReadId) {
        match (&mut self.part, self.leader) {
            (PartState::Leader(leading), _) => {
                if leading.reads.join((origin, id), self.config.reads_max) {
                    self.start_round();
                } else {
                    self.answer_read(origin, id, None);
                }
            }
            (_, Some(leader)) if origin.is_none() => self.send(leader, Body::Read(id)),
            (_, _) => self.answer_read(origin, id, None),
        }
    }

    /// Starts a round if reads wait, none is under way, and the chosen prefix is known to be the newest.
    pub(super) fn start_round(&mut self) {
        if !self.is_established() && !mutant!(PaxosReadBeforeBarrier) {
            return;
        }
        let commit = self.commit;
        let PartState::Leader(leading) = &mut self.part else { return };
        if leading.reads.start(commit) {
            self.newest_round = leading.reads.newest();
            self.beat(true);
            self.confirm_reads();
        }
    }

    pub(super) fn confirm_reads(&mut self) {
        let own = self.config.id;
        let PartState::Leader(leading) = &mut self.part else { return };
        let round = leading.reads.newest();
        let confirmed = self.quorum.reached(|id| {
            id == own || leading.progress.get(&id).is_some_and(|progress| progress.round >= round)
        });
        if !confirmed && !mutant!(PaxosReadWithoutRound) {
            return;
        }
        if let Some((index, reads)) = leading.reads.confirmed() {
            for (origin, id) in reads {
                self.answer_read(origin, id, Some(index));
            }
            self.start_round();
        }
    }

    pub(super) fn answer_read(&mut self, origin: Option<MemberId>, id: ReadId, index: Option<Index>) {
        match origin {
            Some(origin) => self.send(origin, Body::ReadReply { id, index }),
            None => self.outbox.push(rounds::answer(id, index)),
        }
    }
}
