//! Who made the deletions of which no client heard. Several commands may have made one, and a command may have made several: any
//! choice that leaves none unexplained proves an order, so an earlier one gives way when a later deletion has nobody else
//! (augmenting paths in a bipartite graph: Kuhn 1955).

use std::collections::{BTreeMap, BTreeSet};

/// What may have made one revision.
#[derive(Debug)]
struct Deletion {
    /// Commands without an answer that would have made just this.
    fits: Vec<usize>,
    /// The lease on which all its keys hung.
    lease: Option<i64>,
}

/// The choice so far: each command made one revision at most.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    deletions: BTreeMap<i64, Deletion>,
    /// By command, the revision that it is taken to have made.
    taken: BTreeMap<usize, i64>,
}

impl Unheard {
    /// Explains one more revision by one of `fits`, or as the end of `lease`; `false` if no choice explains all.
    pub(super) fn explain(&mut self, revision: i64, fits: Vec<usize>, lease: Option<i64>) -> bool {
        let free = fits.iter().copied().find(|at| !self.taken.contains_key(at));
        self.deletions.insert(revision, Deletion { fits, lease });
        if let Some(at) = free {
            self.taken.insert(at, revision);
        }
        free.is_some() || lease.is_some() || self.gets(revision, &mut BTreeSet::new())
    }

    /// Finds a command for a revision, if need be one that another revision can do without.
    fn gets(&mut self, revision: i64, tried: &mut BTreeSet<usize>) -> bool {
        let fits = self.deletions.get(&revision).map_or_else(Vec::new, |deletion| deletion.fits.clone());
        fits.into_iter().any(|at| {
            let given = tried.insert(at)
                && self.taken.get(&at).copied().is_none_or(|other| self.yields(other, tried));
            if given {
                self.taken.insert(at, revision);
            }
            given
        })
    }

    /// Whether a revision is explained without the command that it has.
    fn yields(&mut self, revision: i64, tried: &mut BTreeSet<usize>) -> bool {
        let ends_lease = self.deletions.get(&revision).is_some_and(|deletion| deletion.lease.is_some());
        ends_lease || self.gets(revision, tried)
    }

    /// By revision, the command that made it.
    pub(super) fn writers(&self) -> impl Iterator<Item = (i64, usize)> + '_ {
        self.taken.iter().map(|(&at, &revision)| (revision, at))
    }

    /// By revision, the lease whose end made it, as no command is taken to have.
    pub(super) fn lease_ends(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let commands: BTreeSet<i64> = self.taken.values().copied().collect();
        let by_time = self.deletions.iter().filter(move |(revision, _)| !commands.contains(revision));
        by_time.filter_map(|(&revision, deletion)| Some((revision, deletion.lease?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_choice_gives_way() {
        let mut unheard = Unheard::default();
        assert!(unheard.explain(65, vec![187, 190], None));
        assert!(unheard.explain(69, vec![187], None));
        assert_eq!(unheard.writers().collect::<Vec<_>>(), [(69, 187), (65, 190)]);
        assert!(!unheard.explain(70, vec![187, 190], None), "two commands, three deletions");
    }

    #[test]
    fn a_lease_may_have_ended_instead() {
        let mut unheard = Unheard::default();
        assert!(unheard.explain(5, vec![1], Some(7)));
        assert!(unheard.explain(6, vec![1], None));
        assert_eq!(unheard.lease_ends().collect::<Vec<_>>(), [(5, 7)]);
        assert!(unheard.explain(8, vec![], Some(9)) && !unheard.explain(9, vec![], None));
    }
}
