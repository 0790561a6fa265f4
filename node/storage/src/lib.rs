//! Disk, write-ahead log, snapshots and the ordered key-value backend. Blocking, no tokio; payloads are opaque.
//!
//! Byte layouts, fsync rules and what is assumed of the medium: `DESIGN.md` of this crate.

pub mod backend;
pub mod disk;
pub mod mutants;
pub mod snapshot;
pub mod wal;
