//! Versions of keys on the backend's tables. The layout is in this crate's DESIGN.md.

pub(crate) mod changes;
pub(crate) mod compaction;
pub(crate) mod counts;
pub(crate) mod layout;
pub(crate) mod range;
pub(crate) mod since;
pub(crate) mod versions;
pub(crate) mod write;
