//! Judges of what clients saw. Each looks at one promise, and is tested with histories that were tampered with.
//!
//! | judge | promise |
//! |---|---|
//! | [`linearizability`] | one order of all commands and reads, by the store's own revisions |
//! | [`search`] | the same by trying orders, on short histories |
//! | [`compaction`] | what was compacted is gone, and nothing else |
//! | [`lease`] | none ends early or is renewed too late; its keys vanish together |
//! | [`watch`] | filter, ordered, unique, atomic, genuine, `prev_kv`, reliable, resumable, bookmarkable |
//! | [`durability`] | acknowledged means present at the end |

pub mod compaction;
pub mod durability;
pub mod lease;
pub mod linearizability;
pub mod model;
#[cfg(test)]
mod sample;
pub mod search;
mod unheard;
pub mod watch;
pub mod witness;
