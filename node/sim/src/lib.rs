//! Whole members in a world made from one seed: a network that loses, delays, repeats and reorders, disks that forget and
//! tear what was not synced, crashes, partitions. Every client's history is checked for linearizability.
//!
//! The same seed gives the same run, event by event: [`world::Report::trace`] is equal.

pub mod check;
pub mod history;
mod invariants;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod random;
pub mod seed;
pub mod story;
pub mod world;
