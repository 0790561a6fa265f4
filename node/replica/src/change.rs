//! Changes of the membership as users ask for them. The leader turns one into a target membership when it arrives there.

use quorate_consensus::id::MemberId;
use quorate_consensus::membership::Member;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A new member, as its role says. Refused if the id or (unless it replaces one) a peer URL is taken.
    Add {
        /// The newcomer.
        member: Member,
        /// The member whose peer URLs it may share: members that share them leave in the step that promotes it.
        replaces: Option<MemberId>,
    },
    /// A member leaves for good.
    Remove(MemberId),
    /// A learner that has caught up becomes a voter.
    Promote(MemberId),
    /// A member's peer URLs.
    UpdatePeerUrls(MemberId, Vec<String>),
    /// A started member tells its name, client URLs, zone and leader priority.
    Publish {
        /// The member.
        id: MemberId,
        /// Its name.
        name: String,
        /// URLs for clients.
        client_urls: Vec<String>,
        /// Its zone; empty if unknown.
        zone: String,
        /// The higher, the rather it leads.
        leader_priority: u32,
    },
}
