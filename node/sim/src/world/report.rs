//! What a world shows.

use std::collections::BTreeMap;

/// What a seed shows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Operations whose outcome was checked.
    pub operations: u64,
    /// Of these, those that succeeded.
    pub acknowledged: u64,
    /// Answers to watches that were checked.
    pub watched: u64,
    /// Histories for whose beginning the search found an order, too.
    pub searched: u64,
    /// Operations in these orders.
    pub searched_operations: u64,
    /// Histories of which the search could not decide even the shortest beginning.
    pub gave_up: u64,
    /// Messages that were lost.
    pub lost: u64,
    /// Faults by class.
    pub faults: BTreeMap<&'static str, u64>,
    /// Faults that were active at once, at most.
    pub overlapping: u64,
    /// Changes of the membership that were decided.
    pub changes: BTreeMap<&'static str, u64>,
    /// Rare states that were reached.
    pub reached: BTreeMap<&'static str, u64>,
    /// A hash over everything that happened: items of the agenda, timers, members' writes and syncs, answers. Equal for equal seeds.
    pub trace: u64,
}

impl Report {
    /// Adds another seed's figures.
    pub fn add(&mut self, other: &Self) {
        self.simulated_ms += other.simulated_ms;
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.watched += other.watched;
        self.searched += other.searched;
        self.searched_operations += other.searched_operations;
        self.gave_up += other.gave_up;
        self.overlapping = self.overlapping.max(other.overlapping);
        let maps = [
            (&mut self.faults, &other.faults),
            (&mut self.changes, &other.changes),
            (&mut self.reached, &other.reached),
        ];
        for (sum, counts) in maps {
            counts.iter().for_each(|(what, count)| *sum.entry(what).or_default() += count);
        }
    }
}
