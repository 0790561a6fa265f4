//! What can be set, and the limits.

use crate::id::MemberId;

/// Settings of one member. All members of a group should agree on the times.
#[derive(Clone, Debug, Hash)]
pub struct Config {
    /// This member.
    pub id: MemberId,
    /// Feeds the randomised election timeouts; different on each member.
    pub seed: u64,
    /// A follower that hears nothing for this long, up to twice it, stands for election.
    pub election_timeout_ms: u64,
    /// A leader says this often that it lives.
    pub heartbeat_interval_ms: u64,
    /// Payload of one append message, at most; one larger entry still travels alone.
    pub append_bytes_max: usize,
    /// Append messages on their way to one member, at most; then its acknowledgements are awaited.
    pub inflight_appends_max: usize,
    /// Payload on its way to one member, at most.
    pub inflight_bytes_max: usize,
    /// Payload appended but not committed, at most; then proposals are refused as overloaded.
    pub uncommitted_bytes_max: usize,
    /// Reads of followers and clients that wait for one round, at most; then they are refused. As many may be in the round under way.
    pub reads_max: usize,
    /// A learner may be promoted when it lacks at most this many entries.
    pub promotion_lag_max: u64,
}

impl Config {
    /// etcd's times (`server/embed/config.go`). What is under way is bounded lower than there: all of it may be one write to the log
    /// and stand before a heartbeat in a connection, and both have to be short beside the election timeout on a slow disk.
    #[must_use]
    pub fn new(id: MemberId, seed: u64) -> Self {
        Self {
            id,
            seed,
            election_timeout_ms: 1_000,
            heartbeat_interval_ms: 100,
            append_bytes_max: 1 << 20,
            inflight_appends_max: 512,
            inflight_bytes_max: 4 << 20,
            uncommitted_bytes_max: 8 << 20,
            reads_max: 10_000,
            promotion_lag_max: 1_000,
        }
    }
}
