//! The conformance suite: what every protocol must hold and do. Each test runs over [`crate::kind::ProtocolKind::ALL`].

mod chaos;
mod elections;
mod explore;
mod flow;
mod handover;
pub(crate) mod log;
mod membership;
mod script;
mod snapshots;
mod witnesses;
pub(crate) mod world;
