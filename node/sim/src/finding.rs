//! What a judge or an invariant finds: a sentence, and what kind of promise it says is broken. A planted bug is caught by a finding
//! of a kind that it leads to, not by whatever goes wrong while it is there.

use std::fmt;

/// The promises, by what looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One value at each index (`invariants/agreement.rs`).
    Agreement,
    /// Committed is durable on a quorum (`invariants/durable.rs`, `chosen.rs`).
    Durable,
    /// A leader has what was committed before it (`invariants/durable.rs`).
    Complete,
    /// One leader in an epoch (`invariants/epochs.rs`).
    Epochs,
    /// Votes, ballots and epochs never go back (`invariants/promises.rs`).
    Promises,
    /// Nobody can be elected without what is committed (`invariants/electable.rs`).
    Electable,
    /// A leader's quorum has durably promised its epoch (`invariants/mandate.rs`).
    Mandate,
    /// One value in an epoch and place of a log (`invariants/matching.rs`).
    Matching,
    /// What was durable on a member is there after its restart (`invariants/disk.rs`).
    Disk,
    /// An acceptor never takes back what it accepted (`invariants/accepted.rs`).
    Accepted,
    /// Commit and applied index never go back (`invariants/progress.rs`).
    Progress,
    /// Only proposed values (`invariants/proposed.rs`, `chosen.rs`).
    Proposed,
    /// Equal states at equal indexes, and equal events at equal revisions (`invariants/states.rs`, `check/witness.rs`).
    States,
    /// Who may do what in the membership, and that it is stored (`invariants/memberships.rs`, `witness.rs`).
    Roles,
    /// Nobody meets a feature level that it did not tell to understand (`world/upgrades.rs`).
    Levels,
    /// A member ended by itself, though its disk works.
    Ended,
    /// A member does not start, though its disk is sound.
    Start,
    /// A healed cluster does not go on.
    Stuck,
    /// What was acknowledged is there at the end (`check/durability.rs`).
    Kept,
    /// One order of everything that clients did and saw (`check/linearizability.rs`, `search.rs`).
    Order,
    /// Compaction takes away what it should, and nothing else (`check/compaction.rs`).
    Compaction,
    /// Leases (`check/lease`).
    Leases,
    /// Watches (`check/watch`).
    Watches,
    /// What recovery of a log alone finds (`crashes.rs`).
    Recovery,
    /// An assertion of the code itself.
    Assertion,
}

impl Kind {
    /// Makes a finding of this kind from its sentence, as an argument of `map_err`.
    pub fn found(self) -> impl FnOnce(String) -> Finding {
        move |what| Finding { kind: self, what }
    }
}

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of promise is broken.
    pub kind: Kind,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
