//! Leaders that are cut off soon after their election, with what they are asked for then.

use quorate_consensus::id::MemberId;
use quorate_consensus::protocol::Part;
use quorate_replica::change::MembershipChange;
use quorate_replica::event::GroupId;

use super::churn::VOTERS_MIN;
use super::clients::CLIENTS;
use super::network::Trouble;
use super::{Happening, World};

/// The number of an ambush's cuts among the faults.
const AMBUSH: usize = usize::MAX;
/// An ambush lasts up to this much longer than a moment: an election ends within.
const AMBUSH_MS_MAX: u64 = 3_000;
/// A leader's first own value is decided within about this time.
const ESTABLISHED_MS: u64 = 20;
/// It has led for up to this much longer.
const LED_MS_MAX: u64 = 300;
/// So many clients come, one in a millisecond; a leader of four gets a quarter of them.
const FLOOD: u64 = 40;

/// When leaders are ambushed, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambush {
    /// At once, when nothing of their epoch is committed: asked to remove somebody (Ongaro, raft-dev, July 2015).
    Elected,
    /// A moment later, when Multi-Paxos lets them change the membership, too: in turn with values that nobody else hears of,
    /// and with the removal of somebody, of which one other hears. A later leader may find that below its own values.
    Established,
}

impl World {
    pub(super) fn plan_ambush(&mut self, ambush: Ambush, leader: MemberId) {
        let after_ms = match ambush {
            Ambush::Elected => 0,
            Ambush::Established => ESTABLISHED_MS + self.random.below(LED_MS_MAX),
        };
        self.plan(after_ms, Happening::Ambush { leader });
    }

    /// A leader is cut off with one other voter or none, and what is under way to the rest is lost.
    pub(super) fn ambush(&mut self, leader: MemberId) {
        let host = self.machines.get(&leader).and_then(|machine| machine.host.as_ref());
        let Some(replica) = host.and_then(|host| host.replica(GroupId::DEFAULT)) else { return };
        if replica.status().part != Part::Leader {
            return;
        }
        let mut others: Vec<MemberId> = replica.membership().voters().into_iter().collect();
        others.retain(|id| *id != leader);
        let Some(ambush) = self.ambush else { return };
        if others.len() < VOTERS_MIN || !self.atlas.is_sound() || !self.random.chance(70) {
            return;
        }
        self.ambushes += 1;
        let any = |world: &mut Self| others[world.random.below(others.len() as u64) as usize];
        let (leaving, with) = (any(self), any(self));
        let floods = ambush == Ambush::Established && !self.ambushes.is_multiple_of(2);
        let hears = match ambush {
            Ambush::Elected => self.random.chance(50),
            Ambush::Established => !floods,
        };
        self.surround(leader, Some(with).filter(|_| hears));
        let for_ms = 200 + self.random.below(AMBUSH_MS_MAX);
        self.plan(for_ms, Happening::AmbushEnds { number: self.ambushes });
        if floods {
            (0..FLOOD).for_each(|at_ms| self.plan(at_ms, Happening::Ask { client: CLIENTS }));
        } else {
            self.ask_change(leader, "member removed", MembershipChange::Remove(leaving));
        }
    }

    fn surround(&mut self, leader: MemberId, with: Option<MemberId>) {
        let inside = |id: MemberId| id == leader || Some(id) == with;
        let ids = || self.machines.keys().copied();
        let across = ids().flat_map(|one| ids().map(move |other| (one, other)));
        let cuts = across.filter(|(one, other)| inside(*one) != inside(*other));
        self.network.begin(AMBUSH, cuts.map(|(one, other)| Trouble::Cut(one, other)).collect());
        let lost = |it: &Happening| matches!(it, Happening::Message { from, to, .. } if inside(*from) != inside(*to));
        self.agenda.retain(|_, happening| !lost(happening));
    }

    /// Unless another one has begun since.
    pub(super) fn ambush_ends(&mut self, number: u64) {
        if self.ambushes == number {
            self.network.end(AMBUSH);
        }
    }
}
