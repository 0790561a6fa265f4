//! The one trait behind which Raft, Multi-Paxos and Zab stand.

use crate::effect::Effect;
use crate::id::{Epoch, Index, MemberId, Time};
use crate::input::Input;
use crate::log::LogRead;
use crate::membership::Membership;

/// A protocol's part on one member. `log` is the same member's log with every write so far.
pub trait Protocol: std::fmt::Debug + Send {
    /// Takes one input at `now` and pushes effects, in order. `now` never goes back.
    fn step(&mut self, now: Time, input: Input, log: &dyn LogRead, effects: &mut Vec<Effect>);

    /// When the next [`Input::Tick`] is due at the latest.
    fn deadline(&self) -> Time;

    /// What it knows now.
    fn status(&self) -> Status;

    /// The membership in force.
    fn membership(&self) -> &Membership;

    /// For a leader: bytes of payload that it takes before it refuses more as too many undecided ones.
    fn room_bytes(&self) -> usize;
}

/// A member's part in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Follows, or looks for a leader.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// A protocol's state as others may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: MemberId,
    /// Its part.
    pub part: Part,
    /// The present epoch.
    pub epoch: Epoch,
    /// The leader, if known.
    pub leader: Option<MemberId>,
    /// Whether this member leads and its first entry of the epoch is committed.
    pub established: bool,
    /// The last index known to be committed.
    pub commit: Index,
    /// For a leader: by member, how far each one's log matches. Empty otherwise.
    pub matched: Vec<(MemberId, Index)>,
}
