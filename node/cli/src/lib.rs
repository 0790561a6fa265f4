//! The `quorate` command line.

pub mod bench;
pub mod playground;
pub mod snapshot;
