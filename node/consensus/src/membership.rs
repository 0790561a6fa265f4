//! Who belongs to the group. Replicated data: a new value is an entry of the log, in force when appended.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::MemberId;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Votes and holds data.
    Voter,
    /// Holds data, does not vote.
    Learner,
    /// Votes and keeps log headers, holds no data.
    Witness,
}

/// One member as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started (as in etcd).
    pub name: String,
    /// URLs at which peers reach it.
    pub peer_urls: Vec<String>,
    /// URLs that clients may use; empty until it has started.
    pub client_urls: Vec<String>,
    /// What it may do.
    pub role: Role,
    /// The zone it runs in; empty if unknown.
    pub zone: String,
    /// The higher, the rather it leads. 0 is ordinary.
    pub leader_priority: u32,
}

/// The members, and during a joint change the voters that are on their way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// Every member by id.
    pub members: BTreeMap<MemberId, Member>,
    /// The old configuration's voters while a joint change is under way (Raft section 6), else `None`.
    pub outgoing: Option<BTreeSet<MemberId>>,
    /// Ids that were members once and never will be again.
    pub removed: BTreeSet<MemberId>,
}
