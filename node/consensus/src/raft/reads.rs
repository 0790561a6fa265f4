//! Linearizable reads by read index (thesis 6.4): one round of heartbeats confirms all reads that came before it.

use super::message::READ_REFUSED;
use super::{Body, PartState, Raft};
use crate::effect::Effect;
use crate::id::{Index, MemberId, ReadId};

type Waiting = (Option<MemberId>, ReadId);

/// The reads of a leader. At most one round is under way; what comes meanwhile joins the next one.
#[derive(Debug, Default)]
pub(super) struct Reads {
    round: u64,
    under_way: Option<(Index, Vec<Waiting>)>,
    next: Vec<Waiting>,
}

impl Reads {
    /// The newest round; heartbeats carry it.
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    pub(super) fn drain(&mut self) -> Vec<Waiting> {
        let mut waiting = self.under_way.take().map_or_else(Vec::new, |(_, reads)| reads);
        waiting.append(&mut self.next);
        waiting
    }
}

impl Raft {
    pub(super) fn read_for(&mut self, origin: Option<MemberId>, id: ReadId) {
        match (&mut self.part, self.leader) {
            (PartState::Leader(leading), _) => {
                if leading.reads.next.len() >= self.config.reads_max {
                    return self.answer_read(origin, id, None);
                }
                leading.reads.next.push((origin, id));
                self.start_round();
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
        if !self.is_established() {
            return;
        }
        let commit = self.commit;
        let PartState::Leader(leading) = &mut self.part else { return };
        if leading.reads.under_way.is_some() || leading.reads.next.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut leading.reads.next);
        leading.reads.round += 1;
        leading.reads.under_way = Some((commit, waiting));
        self.ask_round();
        self.confirm_reads();
    }

    fn ask_round(&mut self) {
        let PartState::Leader(leading) = &self.part else { return };
        let round = leading.reads.round;
        let quorum = self.present().1.quorum();
        let beats: Vec<(MemberId, Index)> = leading
            .progress
            .iter()
            .filter(|(id, _)| **id != self.config.id && quorum.contains(**id))
            .map(|(&id, progress)| (id, self.commit.min(progress.matched)))
            .collect();
        for (id, commit) in beats {
            self.send(id, Body::Heartbeat { commit, round });
        }
    }

    pub(super) fn confirm_reads(&mut self) {
        let (own, quorum) = (self.config.id, self.present().1.quorum());
        let PartState::Leader(leading) = &mut self.part else { return };
        let round = leading.reads.round;
        let confirmed = quorum.reached(|id| {
            id == own || leading.progress.get(&id).is_some_and(|progress| progress.round >= round)
        });
        if !confirmed {
            return;
        }
        if let Some((index, reads)) = leading.reads.under_way.take() {
            for (origin, id) in reads {
                self.answer_read(origin, id, Some(index));
            }
            self.start_round();
        }
    }

    pub(super) fn answer_read(&mut self, origin: Option<MemberId>, id: ReadId, index: Option<Index>) {
        match origin {
            Some(origin) => self.send(origin, Body::ReadReply { id, index }),
            None => self.read_answered(id, index),
        }
    }

    pub(super) fn read_answered(&mut self, id: ReadId, index: Option<Index>) {
        self.effects.push(match index {
            Some(index) => Effect::ReadReady { id, index },
            None => Effect::ReadRefused { id, refusal: READ_REFUSED },
        });
    }
}
