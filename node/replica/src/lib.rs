//! Consensus, storage and state of one member, synchronous: what the server drives and the simulator runs.
//!
//! A [`host::Host`] holds every [`replica::Replica`] (one for each group) of a process and the log they share. It takes
//! [`event::Event`]s at a given time and gives [`output::Output`]s: messages to send, a sync to run, replies. It never
//! blocks but for reads and unsynced writes of the disk, knows no clock and starts no thread.
//!
//! The caller's loop: step every event at hand, [`host::Host::flush`] once, perform the outputs, wait for the next event
//! or [`host::Host::deadline`].

mod apply;
pub mod change;
mod durability;
pub mod envelope;
pub mod error;
pub mod event;
pub mod host;
mod leases;
mod levels;
mod log;
pub mod mutants;
pub mod output;
mod payload;
mod pending;
mod queue;
pub mod replica;
pub mod snapshot;
mod target;
