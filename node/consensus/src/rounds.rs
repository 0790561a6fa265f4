//! Linearizable reads in rounds: one round of confirmations serves all reads that came before it. How a member confirms, and
//! which index is read, is each protocol's own rule.

use crate::effect::{Effect, Refusal};
use crate::id::{Index, MemberId, ReadId};

/// A read, and the member that forwarded it.
pub(crate) type Waiting = (Option<MemberId>, ReadId);

/// The reads of a leader. At most one round is under way; what comes meanwhile joins the next one. The limit is one round's, so up to
/// twice as many reads wait: a round that is full can't keep new ones out until it is confirmed. A read is 24 bytes here, and its
/// asker holds more.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Rounds {
    newest: u64,
    under_way: Option<(Index, Vec<Waiting>)>,
    next: Vec<Waiting>,
}

impl Rounds {
    /// Rounds behind `newest`: for a leader of an epoch that it has led before, to which late answers may still come.
    pub(crate) fn after(newest: u64) -> Self {
        Self { newest, ..Self::default() }
    }

    /// The newest round; beats carry it.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// A read joins the next round. `false` if `max` wait for that one already.
    pub(crate) fn join(&mut self, read: Waiting, max: usize) -> bool {
        let room = self.next.len() < max;
        if room {
            self.next.push(read);
        }
        room
    }

    /// Starts a round at `index` if reads wait and none is under way.
    pub(crate) fn start(&mut self, index: Index) -> bool {
        let may = self.under_way.is_none() && !self.next.is_empty();
        if may {
            self.newest += 1;
            self.under_way = Some((index, std::mem::take(&mut self.next)));
        }
        may
    }

    /// The newest round is confirmed: the reads that it serves, and where.
    pub(crate) fn confirmed(&mut self) -> Option<(Index, Vec<Waiting>)> {
        self.under_way.take()
    }

    /// Everything that waits; nobody will answer it.
    pub(crate) fn drain(&mut self) -> Vec<Waiting> {
        let mut waiting = self.under_way.take().map_or_else(Vec::new, |(_, reads)| reads);
        waiting.append(&mut self.next);
        waiting
    }
}

/// The answer to a read of this member. A refusal needs no reason: the replica asks again or gives up.
pub(crate) fn answer(id: ReadId, index: Option<Index>) -> Effect {
    match index {
        Some(index) => Effect::ReadReady { id, index },
        None => Effect::ReadRefused { id, refusal: Refusal::NotLeader { leader: None } },
    }
}
