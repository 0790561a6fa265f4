//! Only proposed values are committed (Paxos Made Simple 2.1; Zab: Integrity): a command stands in the log with the name of who
//! asked, and in an epoch that was a leader's.

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::membership::Membership;

#[derive(Debug)]
pub(super) struct Proposed;

impl Proposed {
    pub(super) fn check(&self, entry: &Entry, witness: bool) -> Result<(), String> {
        let sound = match entry.kind {
            Kind::NoOp => entry.payload.is_empty() || entry.payload.len() == 8,
            Kind::Command => !witness && entry.payload.len() >= 24,
            Kind::Membership => Membership::decode(&entry.payload).is_ok(),
            Kind::Header => witness && entry.payload.is_empty(),
        };
        if sound && entry.epoch.0 > 0 { Ok(()) } else { Err(format!("nobody proposed {entry:?}")) }
    }
}
