//! Linearizable reads: at the commit index, once a quorum has confirmed behind the read that it still follows in this epoch.

use super::{Body, Follower, FollowerStage, PartState, Zab};
use crate::id::{Index, MemberId, ReadId};
use crate::mutants::mutant;
use crate::rounds;

impl Zab {
    /// Reads at the commit index, confirmed by a round of the epoch.
    pub(super) fn read_for(&mut self, origin: Option<MemberId>, id: ReadId) {
        match (&mut self.part, self.leader) {
            (PartState::Leading(leading), Some(_)) => {
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

    /// Starts a round if reads wait and none is under way. The initial history, in which everything lies that was committed
    /// before, is committed when a leader is established.
    pub(super) fn start_round(&mut self) {
        if !self.is_established() {
            return;
        }
        let commit = self.commit;
        let PartState::Leading(leading) = &mut self.part else { return };
        if leading.reads.start(commit) {
            self.ping(true);
            self.confirm_reads();
        }
    }

    pub(super) fn confirm_reads(&mut self) {
        let (own, quorum) = (self.config.id, self.present().1.quorum());
        let PartState::Leading(leading) = &mut self.part else { return };
        let round = leading.reads.newest();
        let confirmed =
            |follower: &Follower| follower.stage == FollowerStage::Synced && follower.progress.round >= round;
        let reached = quorum.reached(|id| id == own || leading.followers.get(&id).is_some_and(confirmed));
        if !reached && !mutant!(ZabReadWithoutRound) {
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
