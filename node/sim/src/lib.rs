//! Whole members in a world made from one seed: network, disks, clocks and machines that fail in every way that [`schedule`]
//! names, members that come and go, clients that use the whole store. [`check`] judges what clients saw. `DESIGN.md` tells how
//! it hangs together.
//!
//! The same seed gives the same run, event by event: [`world::Report::trace`] is equal.

pub mod check;
pub mod crashes;
pub mod directed;
pub mod finding;
pub mod history;
mod invariants;
pub mod keep;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod panics;
pub mod partitions;
pub mod random;
pub mod schedule;
pub mod seed;
pub mod shrink;
pub mod story;
pub mod world;
