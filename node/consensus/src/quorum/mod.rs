//! Majorities, simple and joint. Knows nothing of any protocol.

use std::collections::BTreeSet;

use crate::id::MemberId;

/// Two sets of voters; a decision needs a majority of each that is not empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    incoming: BTreeSet<MemberId>,
    outgoing: BTreeSet<MemberId>,
}

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A quorum said yes.
    Won,
    /// A quorum can't be had any more.
    Lost,
    /// Votes are missing.
    Open,
}

impl Quorum {
    /// A majority of both sets; an empty `outgoing` decides nothing.
    #[must_use]
    pub fn joint(incoming: BTreeSet<MemberId>, outgoing: BTreeSet<MemberId>) -> Self {
        Self { incoming, outgoing }
    }

    /// Whether this member has a say.
    #[must_use]
    pub fn contains(&self, id: MemberId) -> bool {
        self.incoming.contains(&id) || self.outgoing.contains(&id)
    }

    /// Everybody who has a say.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<MemberId> {
        self.incoming.union(&self.outgoing).copied().collect()
    }

    /// How the vote stands when each voter said yes, no or (`None`) nothing.
    #[must_use]
    pub fn outcome(&self, vote: impl Fn(MemberId) -> Option<bool>) -> Outcome {
        let sides = [&self.incoming, &self.outgoing].map(|side| side_outcome(side, &vote));
        if sides.contains(&Outcome::Lost) {
            Outcome::Lost
        } else if sides.contains(&Outcome::Open) {
            Outcome::Open
        } else {
            Outcome::Won
        }
    }

    /// Whether those for which `yes` holds are a quorum.
    #[must_use]
    pub fn reached(&self, yes: impl Fn(MemberId) -> bool) -> bool {
        self.outcome(|id| Some(yes(id))) == Outcome::Won
    }

    /// The highest value that a quorum has reached; the lowest possible one without voters.
    #[must_use]
    pub fn reached_value<T: Ord + Copy + Default>(&self, value: impl Fn(MemberId) -> T) -> T {
        let sides = [&self.incoming, &self.outgoing].into_iter().filter(|side| !side.is_empty());
        sides.map(|side| side_value(side, &value)).min().unwrap_or_default()
    }
}

fn side_outcome(side: &BTreeSet<MemberId>, vote: &impl Fn(MemberId) -> Option<bool>) -> Outcome {
    let majority = side.len() / 2 + 1;
    let yes = side.iter().filter(|&&id| vote(id) == Some(true)).count();
    let no = side.iter().filter(|&&id| vote(id) == Some(false)).count();
    if side.is_empty() || yes >= majority {
        Outcome::Won
    } else if side.len() - no < majority {
        Outcome::Lost
    } else {
        Outcome::Open
    }
}

fn side_value<T: Ord + Copy>(side: &BTreeSet<MemberId>, value: &impl Fn(MemberId) -> T) -> T {
    let mut values: Vec<T> = side.iter().map(|&id| value(id)).collect();
    values.sort_unstable_by(|left, right| right.cmp(left));
    values[side.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq};

    /// All subsets, the slow and obvious way: some majority of each side lies within those that reached the value.
    fn naive(quorum: &Quorum, values: &[u64], value: u64) -> bool {
        [&quorum.incoming, &quorum.outgoing]
            .into_iter()
            .filter(|side| !side.is_empty())
            .all(|side| 2 * side.iter().filter(|id| values[id.0 as usize] >= value).count() > side.len())
    }

    proptest::proptest! {
        #[test]
        fn the_reached_value_is_the_highest_that_a_majority_of_each_side_has(
            incoming in proptest::collection::btree_set(0u64..7, 1..7),
            outgoing in proptest::collection::btree_set(0u64..7, 0..7),
            values in proptest::collection::vec(0u64..9, 7),
        ) {
            let ids = |set: BTreeSet<u64>| set.into_iter().map(MemberId).collect::<BTreeSet<_>>();
            let quorum = Quorum::joint(ids(incoming), ids(outgoing));
            let reached = quorum.reached_value(|id| values[id.0 as usize]);
            prop_assert!(naive(&quorum, &values, reached));
            prop_assert!(!naive(&quorum, &values, reached + 1));
            prop_assert_eq!(quorum.reached(|id| values[id.0 as usize] >= 4), naive(&quorum, &values, 4));
        }
    }
}
