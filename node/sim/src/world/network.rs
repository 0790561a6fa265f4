//! The links between machines, with what is wrong with them at the moment.

use std::collections::BTreeMap;

use quorate_consensus::id::{MemberId, Time};

use crate::random::Random;

/// A message's way over a healthy link, at most.
const DELAY_MS_MAX: u64 = 12;
/// How far behind later ones a message may fall.
const REORDER_MS_MAX: u64 = 500;
/// How late a message may come: epochs may have passed.
const LATE_MS_MAX: u64 = 4_000;
/// A second copy comes so much later, at most.
const REPEAT_MS_MAX: u64 = 300;

/// One thing that is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    Loss(u64),
    Delay(u64),
    Duplication(u64),
    Reordering(u64),
    Late(u64),
    /// To this one, by at least so many milliseconds.
    Lag(MemberId, u64),
    /// From the first to the second one.
    Cut(MemberId, MemberId),
    /// Between the two, every other so many milliseconds since then.
    Flapping(MemberId, MemberId, u64, Time),
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Arrives { in_ms: u64, again_in_ms: Option<u64> },
}

/// The network.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// By the fault that brought it.
    troubles: BTreeMap<usize, Vec<Trouble>>,
}

impl Network {
    pub(super) fn begin(&mut self, fault: usize, troubles: Vec<Trouble>) {
        self.troubles.insert(fault, troubles);
    }

    pub(super) fn end(&mut self, fault: usize) {
        self.troubles.remove(&fault);
    }

    pub(super) fn heal(&mut self) {
        self.troubles.clear();
    }

    fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.troubles.values().flatten()
    }

    pub(super) fn is_cut(&self, from: MemberId, to: MemberId, now: Time) -> bool {
        self.troubles().any(|trouble| match *trouble {
            Trouble::Cut(left, right) => (left, right) == (from, to),
            Trouble::Flapping(left, right, period_ms, since) => {
                let between = (left, right) == (from, to) || (right, left) == (from, to);
                between && (now.since_ms(since) / period_ms.max(1)).is_multiple_of(2)
            }
            Trouble::Loss(_)
            | Trouble::Delay(_)
            | Trouble::Duplication(_)
            | Trouble::Reordering(_)
            | Trouble::Late(_)
            | Trouble::Lag(..) => false,
        })
    }

    /// What becomes of a message that is sent now.
    pub(super) fn fate(&self, from: MemberId, to: MemberId, now: Time, random: &mut Random) -> Fate {
        let mut in_ms = random.below(DELAY_MS_MAX);
        if self.troubles.is_empty() {
            return Fate::Arrives { in_ms, again_in_ms: None };
        }
        if self.is_cut(from, to, now) {
            return Fate::Lost;
        }
        let mut again_in_ms = None;
        for trouble in self.troubles() {
            match *trouble {
                Trouble::Loss(percent) if random.chance(percent) => return Fate::Lost,
                Trouble::Delay(ms) => in_ms += random.below(ms),
                Trouble::Duplication(percent) if random.chance(percent) => {
                    again_in_ms = Some(random.below(REPEAT_MS_MAX));
                }
                Trouble::Reordering(percent) if random.chance(percent) => {
                    in_ms += random.below(REORDER_MS_MAX)
                }
                Trouble::Late(percent) if random.chance(percent) => in_ms += random.below(LATE_MS_MAX),
                Trouble::Lag(late, ms) if late == to => in_ms = in_ms.max(ms),
                Trouble::Loss(_)
                | Trouble::Duplication(_)
                | Trouble::Reordering(_)
                | Trouble::Late(_)
                | Trouble::Lag(..)
                | Trouble::Cut(..)
                | Trouble::Flapping(..) => {}
            }
        }
        Fate::Arrives { in_ms, again_in_ms: again_in_ms.map(|later| in_ms + later) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_has_one_direction_and_a_flapping_link_comes_back() {
        let mut network = Network::default();
        let (a, b) = (MemberId(1), MemberId(2));
        network.begin(0, vec![Trouble::Cut(a, b)]);
        assert!(network.is_cut(a, b, Time(0)) && !network.is_cut(b, a, Time(0)));
        network.begin(1, vec![Trouble::Flapping(a, b, 100, Time(1_000))]);
        assert!(network.is_cut(b, a, Time(1_050)) && !network.is_cut(b, a, Time(1_150)));
        network.end(0);
        assert_eq!(network.fate(a, b, Time(1_050), &mut Random::new(1)), Fate::Lost);
        network.heal();
        assert_ne!(network.fate(a, b, Time(1_050), &mut Random::new(1)), Fate::Lost);
    }
}
