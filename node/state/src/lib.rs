//! Deterministic state machine: keys by revision, leases, membership. No clock, no randomness, no threads.
//!
//! [`machine::StateMachine::apply`] takes decided entries in order and commits their effects, with the applied index, as
//! one batch of the backend. [`reader::Reader`] reads a consistent state on any thread.

pub mod command;
pub mod error;
pub mod event;
pub mod lease;
pub mod machine;
pub mod mutants;
mod mvcc;
pub mod reader;
mod recent;
pub mod request;
pub mod response;
mod store;
#[cfg(test)]
mod tests;
pub mod watch;
