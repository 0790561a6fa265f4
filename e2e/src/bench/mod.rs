//! Benchmarks: Quorate and etcd side by side in one run. Binaries and the wire only.
//!
//! | module | what it does |
//! |---|---|
//! | `store`, `usage` | members as processes; what they use |
//! | `load` | generators as programs |
//! | `suite`, `growth`, `failover`, `profile`, `check` | one for each command |
//! | `machine` | where it was measured, and what the machine can do at all |
//! | `results`, `markdown`, `svg`, `flame` | what is kept and shown |

pub mod check;
pub mod failover;
pub mod flame;
pub mod growth;
pub mod load;
pub mod machine;
pub mod markdown;
pub mod profile;
pub mod results;
pub mod store;
pub mod suite;
pub mod svg;
pub mod usage;
