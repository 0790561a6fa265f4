//! What clients do.

pub(super) mod client;
pub(super) mod lease;
pub(super) mod mix;
pub(super) mod watch;
