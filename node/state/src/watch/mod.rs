//! Watches: what each one hears, in what order, and what may be said about its progress.
//!
//! What is published goes into one [`ring::Ring`] for all. The watches of one client's stream are cursors of a [`stream::Stream`], which
//! asks for revisions to be read, from the ring or where that has forgotten them from history, and deals out their events. Nothing in
//! here waits, sends or reads: the server does that, and the simulator in its place.

pub mod ring;
pub mod stream;
pub mod wanted;
