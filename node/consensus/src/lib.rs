//! Sans-io replicated log: protocols behind one trait.
//!
//! # The caller's contract
//!
//! A [`Protocol`] is a state machine without clock, threads, randomness of its own or I/O. The caller (the replica) owns
//! all of these and drives it:
//!
//! 1. It calls [`Protocol::step`] with the present [`Time`] and one [`Input`]; the protocol pushes [`Effect`]s in order.
//! 2. The caller performs the effects **in order**. A [`Effect::Write`] is handed to the log at once (so that
//!    [`LogRead`] shows it from then on) and becomes durable later: then the caller steps [`Input::Persisted`] with the
//!    write's id. Ids rise by one for each write and persistence is cumulative.
//! 3. A [`Effect::Send`] that names a write leaves only when that write is durable. A crash drops everything that waits.
//! 4. [`Effect::Commit`] says how far entries may be applied. Entries are read from the log, applied in order, once.
//! 5. The caller steps [`Input::Tick`] no later than [`Protocol::deadline`].
//! 6. An error of the log or the disk is never given to the protocol: the member ends.
//!
//! A `step` never fails on input from a peer: what is stale or malformed is dropped, a broken invariant of its own panics.

pub mod config;
#[cfg(test)]
mod conformance;
mod disk;
pub mod effect;
pub mod entry;
mod flow;
mod handover;
mod hurry;
pub mod id;
pub mod input;
pub mod kind;
pub mod log;
pub mod membership;
pub mod mutants;
mod outbox;
pub mod paxos;
pub mod protocol;
pub mod quorum;
pub mod raft;
mod random;
mod rounds;
pub mod start;
mod view;
mod wire;
pub mod zab;
