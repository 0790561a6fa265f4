//! The `quorate` command line.

pub mod playground;
pub mod snapshot;
