//! Linearizable reads by read index (thesis 6.4): one round of heartbeats confirms all reads that came before it.

use super::{Body, PartState, Raft};
use crate::id::{Index, MemberId, ReadId};
use crate::mutants::mutant;
use crate::rounds;

impl Raft {
    pub(super) fn read_for(&mut self, origin: Option<MemberId>, id: ReadId) {
        match (&mut self.part, self.leader) {
            (PartState::Leader(leading), _) => {
                if leading.reads.join((origin, id), self.config.reads_max) {
                    self.start_round();
                } else {
                    self.answer_read(origin, id, None);
                }
            }
            (PartState::Follower | PartState::Candidate(_), Some(leader)) if origin.is_none() => {
                self.send(leader, Body::Read(id));
            }
            (PartState::Follower | PartState::Candidate(_), _) => self.answer_read(origin, id, None),
        }
    }

    /// Starts a round if reads wait, none is under way, and the commit index is known to be the newest: an entry of this
    /// term is committed (thesis 6.4, step 1).
    pub(super) fn start_round(&mut self) {
        if !self.is_established() && !mutant!(RaftReadBeforeOwnCommit) {
            return;
        }
        let commit = self.commit;
        let PartState::Leader(leading) = &mut self.part else { return };
        if leading.reads.start(commit) {
            self.ask_round();
            self.confirm_reads();
        }
    }

    fn ask_round(&mut self) {
        let quorum = self.present().1.quorum();
        self.beat(|id, _| quorum.contains(id));
    }

    pub(super) fn confirm_reads(&mut self) {
        let (own, quorum) = (self.config.id, self.present().1.quorum());
        let PartState::Leader(leading) = &mut self.part else { return };
        let round = leading.reads.newest();
        let confirmed = quorum.reached(|id| {
            id == own || leading.progress.get(&id).is_some_and(|progress| progress.round >= round)
        });
        if !confirmed && !mutant!(RaftReadWithoutRound) {
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
