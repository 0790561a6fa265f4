//! Raft, as in Ongaro's thesis (2014), with pre-vote, check-quorum, joint consensus and read index.
//!
//! | message | from | to | durable before it leaves | source |
//! |---|---|---|---|---|
//! | `Vote{pre}` | would-be candidate | voters | nothing | thesis 9.6 |
//! | `Vote` | candidate | voters | its term and its vote for itself | thesis 3.4 |
//! | `VoteReply{pre}` | voter | would-be candidate | nothing | thesis 9.6 |
//! | `VoteReply` | voter | candidate | term and vote | thesis 3.4 |
//! | `Append` | leader | everybody else | nothing: its own copy counts when synced | thesis 3.5, 10.2.1 |
//! | `Appended`, `Rejected` | follower | leader | the entries, the term | thesis 3.5 |
//! | `Heartbeat` | leader | everybody else | nothing | thesis 3.5, 6.4 |
//! | `HeartbeatReply` | follower | leader | the term | thesis 6.4 |
//! | `Read`, `ReadReply` | follower, leader | leader, follower | nothing | thesis 6.4 |
//! | `TimeoutNow` | leader | its successor | nothing | thesis 3.10 |
//! | snapshot | leader | a member that lies before its log | nothing: what is applied is committed | thesis 5 |
//! | `Removed` | any member | one that was removed | the removal is committed | thesis 4.2.3 |
//!
//! Memberships are in force when appended (thesis 4.1), voters change through a joint membership (4.3), and a leader starts
//! no change before an entry of its own term is committed (Ongaro, raft-dev 2015-07-10).

mod change;
mod election;
mod message;
mod reads;
mod replication;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::BTreeMap;

use crate::config::Config;
use crate::disk::Disk;
use crate::effect::{Effect, Refusal};
use crate::entry::{Entry, HardState, SnapshotMark};
use crate::flow::{Backlog, Progress};
use crate::handover::Handover;
use crate::hurry::Hurry;
use crate::id::{Epoch, Index, MemberId, Time};
use crate::input::Input;
use crate::log::{Layout, LogRead};
use crate::membership::{Membership, Stack};
use crate::mutants::mutant;
use crate::outbox::Outbox;
use crate::protocol::{Part, Protocol, Status};
use crate::random::Random;
use crate::rounds::{self, Rounds};
use crate::start::StartError;
use crate::view::View;

pub use message::{Body, Malformed, Message};

use election::Campaign;
use transfer::Transfer;

/// What a leader keeps.
#[derive(Clone, Debug, Hash)]
struct Leading {
    progress: BTreeMap<MemberId, Progress>,
    /// Its first entry of the term; the leader serves when it is committed.
    first: Index,
    heartbeat_at: Time,
    /// Some follower may not know what was decided.
    tell_commit: bool,
    check_quorum_at: Time,
    transfer: Option<Transfer>,
    reads: Rounds,
    backlog: Backlog,
}

#[derive(Clone, Debug, Hash)]
enum PartState {
    Follower,
    Candidate(Campaign),
    Leader(Box<Leading>),
}

/// One member's Raft.
#[derive(Clone, Debug, Hash)]
pub struct Raft {
    config: Config,
    random: Random,
    now: Time,
    term: Epoch,
    vote: Option<MemberId>,
    commit: Index,
    leader: Option<MemberId>,
    part: PartState,
    election_at: Time,
    /// When a leader was last heard; `None` before the first one.
    leader_heard_at: Option<Time>,
    /// Elections that need not wait because the leader's connection was reset.
    hurry: Hurry,
    disk: Disk,
    handover: Handover,
    memberships: Stack,
    outbox: Outbox,
    /// Since a leader was last heard, a candidate whose log is older has asked for this member's vote. Memberships are in force
    /// where they are appended, so the candidate may count this member although its own newest membership does not: one that is
    /// left out by what only it has (thesis 4.2.2), or a learner whose promotion only others have. The candidate can't win without
    /// it, and it can't grant its vote: so it leads itself, until what it has is decided.
    needed: bool,
    removed: bool,
}

impl Raft {
    /// A member after a start: `hard_state` and `log` as recovered, all of it durable, `mark` the checkpoint in the
    /// state machine. At the first boot the mark has index 0 and the initial membership.
    ///
    /// # Errors
    /// `log` has a membership entry that can't be decoded, or can't be read.
    pub fn new(
        config: Config,
        hard_state: HardState,
        mark: SnapshotMark,
        log: &dyn LogRead,
        now: Time,
    ) -> Result<Self, StartError> {
        let mut raft = Self {
            random: Random::new(config.seed ^ config.id.0.rotate_left(32)),
            config,
            now,
            term: hard_state.epoch,
            vote: hard_state.vote,
            commit: hard_state.commit.min(log.last_index()).max(log.snapshot_index()),
            leader: None,
            part: PartState::Follower,
            election_at: now,
            leader_heard_at: None,
            hurry: Hurry::default(),
            disk: Disk::default(),
            handover: Handover::default(),
            memberships: Stack::load(mark, log)?,
            outbox: Outbox::new(Layout::Tail, hard_state, log),
            needed: false,
            removed: false,
        };
        raft.reset_election_timer();
        if raft.is_only_voter() {
            raft.election_at = now;
        }
        Ok(raft)
    }

    fn present(&self) -> &(Index, Membership) {
        self.memberships.present()
    }

    fn is_voter(&self) -> bool {
        self.present().1.quorum().contains(self.config.id)
    }

    /// Whether it may lead: a witness votes, but has nothing to give to others. One that its newest membership does not count may if
    /// it is needed.
    fn may_lead(&self) -> bool {
        let witness = self.present().1.is_witness(self.config.id) && !mutant!(WitnessLeads);
        (self.is_voter() || self.needed) && !witness && !self.removed
    }

    fn is_only_voter(&self) -> bool {
        self.present().1.quorum().voters().into_iter().eq([self.config.id])
    }

    fn view<'a>(&'a self, log: &'a dyn LogRead) -> View<'a> {
        self.outbox.view(log)
    }

    fn reset_election_timer(&mut self) {
        let wait_ms = self.hurry.wait_ms(&self.config, &mut self.random);
        self.election_at = self.now.after_ms(wait_ms);
    }

    fn leader_is_alive(&self) -> bool {
        matches!(self.part, PartState::Leader(_))
            || self.leader.is_some()
                && self
                    .leader_heard_at
                    .is_some_and(|at| self.now.since_ms(at) < self.config.election_timeout_ms)
    }

    fn send(&mut self, to: MemberId, body: Body) {
        self.send_in(self.term, to, body);
    }

    /// Sends in the name of a term that may not be reached yet.
    fn send_in(&mut self, term: Epoch, to: MemberId, body: Body) {
        let durable = match body {
            Body::VoteReply { .. } if mutant!(VoteBeforeSync) => false,
            Body::Vote { pre, .. } | Body::VoteReply { pre, .. } => !pre,
            Body::Appended { .. } if mutant!(AppendedBeforeSync) => false,
            Body::Appended { .. } | Body::Rejected { .. } | Body::HeartbeatReply { .. } => true,
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Read(_)
            | Body::ReadReply { .. }
            | Body::TimeoutNow
            | Body::Removed => false,
        };
        self.outbox.send(to, Message { term, body }.encode(), durable);
    }

    /// Adds an entry to this step's write. The first one of a step may lie inside the log.
    fn write_entry(&mut self, entry: Entry) {
        self.memberships.replaced_from(entry.index);
        self.memberships.note(&entry);
        self.outbox.append(entry);
    }

    fn persisted(&mut self, id: crate::id::WriteId, log: &dyn LogRead) {
        self.outbox.persisted(id);
        self.disk.persisted(id, self.now, &self.config);
        self.own_vote_persisted(log);
        self.own_log_persisted(log);
    }

    fn is_established(&self) -> bool {
        match &self.part {
            PartState::Leader(leading) => self.commit >= leading.first,
            PartState::Follower | PartState::Candidate(_) => false,
        }
    }

    /// Raises the commit index and forgets memberships that can't be rolled back to any more.
    fn commit_to(&mut self, index: Index) {
        if index <= self.commit {
            return;
        }
        self.commit = index;
        self.memberships.committed(index);
        self.outbox.push(Effect::Commit(index));
    }

    fn installed(&mut self, mark: SnapshotMark) {
        let index = mark.index;
        self.memberships.installed(mark);
        self.outbox.installed(index);
        self.commit = self.commit.max(index);
        if let (Some(leader), PartState::Follower) = (self.leader, &self.part) {
            self.send(leader, Body::Appended { matched: index });
        }
    }

    fn message(&mut self, from: MemberId, message: Message, log: &dyn LogRead) {
        let Message { term, body } = message;
        if self.disturbs(from) {
            self.send(from, Body::Removed);
            return;
        }
        if body == Body::Removed {
            return self.told_removed(from);
        }
        match &body {
            // Questions about a term that nobody has reached; the answers decide.
            Body::Vote { pre: true, .. } | Body::VoteReply { pre: true, granted: true } => {}
            // Leader stickiness: a member that still hears the leader lets nobody depose it (thesis 4.2.3).
            Body::Vote { forced: false, .. } if term > self.term && self.leader_is_alive() => return,
            Body::Append { .. } | Body::Heartbeat { .. } if term > self.term => {
                self.become_follower(term, Some(from));
            }
            Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::Append { .. }
            | Body::Appended { .. }
            | Body::Rejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::Read(_)
            | Body::ReadReply { .. }
            | Body::TimeoutNow
            | Body::Removed => {
                if term > self.term {
                    self.become_follower(term, None);
                }
            }
        }
        if term < self.term {
            self.answer_from_the_past(from, &body);
            return;
        }
        self.dispatch(from, term, body, log);
    }

    fn dispatch(&mut self, from: MemberId, term: Epoch, body: Body, log: &dyn LogRead) {
        match body {
            Body::Vote { pre, forced: _, last_index, last_term } => {
                self.asked_for_vote(from, term, pre, (last_term, last_index), log);
            }
            Body::VoteReply { pre, granted } => self.vote_came(from, term, pre, granted, log),
            Body::Append { previous, previous_term, entries, commit } => {
                self.heard_leader(from);
                self.append(from, (previous, previous_term), entries, commit, log);
            }
            Body::Appended { matched } => self.appended(from, matched, log),
            Body::Rejected { previous, hint, hint_term } => {
                self.rejected(from, previous, hint, hint_term, log);
            }
            Body::Heartbeat { commit, round } => {
                self.heard_leader(from);
                let known = self.view(log).last_index();
                self.commit_to(commit.min(known));
                self.send(from, Body::HeartbeatReply { round });
            }
            Body::HeartbeatReply { round } => self.heartbeat_answered(from, round, log),
            Body::Read(id) => self.read_for(Some(from), id),
            Body::ReadReply { id, index } => self.outbox.push(rounds::answer(id, index)),
            Body::TimeoutNow => self.told_to_stand(from, log),
            // Told apart from its term, above.
            Body::Removed => {}
        }
    }

    /// A deposed leader learns the new term from a rejection; a pre-candidate from a refusal.
    fn answer_from_the_past(&mut self, from: MemberId, body: &Body) {
        match body {
            Body::Append { previous, .. } => {
                let rejected = Body::Rejected { previous: *previous, hint: Index(0), hint_term: Epoch(0) };
                self.send(from, rejected);
            }
            Body::Heartbeat { .. } => self.send(from, Body::HeartbeatReply { round: 0 }),
            Body::Vote { pre, .. } => self.send(from, Body::VoteReply { pre: *pre, granted: false }),
            Body::VoteReply { .. }
            | Body::Appended { .. }
            | Body::Rejected { .. }
            | Body::HeartbeatReply { .. }
            | Body::Read(_)
            | Body::ReadReply { .. }
            | Body::TimeoutNow
            | Body::Removed => {}
        }
    }

    fn become_follower(&mut self, term: Epoch, leader: Option<MemberId>) {
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.hurry.forget();
        }
        self.stop_leading();
        self.part = PartState::Follower;
        self.leader = leader;
        self.reset_election_timer();
    }

    /// What waits for this leader is refused, so that nobody waits for ever.
    fn stop_leading(&mut self) {
        if let PartState::Leader(leading) = &mut self.part {
            let waiting = leading.reads.drain();
            for (origin, id) in waiting {
                self.answer_read(origin, id, None);
            }
        }
    }

    fn heard_leader(&mut self, from: MemberId) {
        assert!(!matches!(self.part, PartState::Leader(_)), "two leaders in one term");
        self.part = PartState::Follower;
        self.leader = Some(from);
        self.needed = false;
        if self.hurry.leader_heard(self.now, &self.config) {
            self.leader_heard_at = Some(self.now);
            self.reset_election_timer();
        }
    }

    fn tick(&mut self, log: &dyn LogRead) {
        match self.part {
            PartState::Leader(_) => self.tick_leader(log),
            PartState::Follower | PartState::Candidate(_) => {
                if self.now >= self.election_at {
                    self.stand(log);
                }
            }
        }
    }

    /// What must hold after every step; cheap enough for release builds.
    fn validate(&self, log: &dyn LogRead) {
        let last = self.view(log).last_index();
        assert!(self.commit <= last, "committed {} behind the log's end {last}", self.commit);
        let durable = self.outbox.durable();
        assert!(durable <= last, "durable {durable} behind the log's end {last}");
        if let PartState::Leader(leading) = &self.part {
            assert!(leading.progress.values().all(|progress| progress.matched < progress.next));
        }
    }
}

impl Protocol for Raft {
    fn step(&mut self, now: Time, input: Input, log: &dyn LogRead, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.tick(log),
            Input::Message { from, payload } => {
                if let Ok(message) = Message::decode(payload) {
                    self.message(from, message, log);
                }
            }
            Input::Persisted(id) => self.persisted(id, log),
            Input::Propose(proposals) => self.propose(proposals, log),
            Input::ProposeMembership { id, target } => self.propose_membership(id, target, log),
            Input::Read(id) => self.read_for(None, id),
            Input::Transfer(to) => self.transfer(to, log),
            Input::SnapshotInstalled(mark) => self.installed(mark),
            Input::SnapshotSent { to, ok } => self.snapshot_sent(to, ok, log),
            Input::Unreachable { peer, reset } => self.unreachable(peer, reset),
        }
        self.validate(log);
        let hard_state =
            HardState { epoch: self.term, vote: self.vote, established: Epoch(0), commit: self.commit };
        self.outbox.flush(hard_state, (self.term, self.leader, self.is_established()), effects);
        self.disk.after_step(self.outbox.last_write(), self.leader.is_some(), self.now, &self.config);
    }

    fn deadline(&self) -> Time {
        match &self.part {
            PartState::Follower | PartState::Candidate(_) => self.election_at,
            PartState::Leader(leading) if leading.tell_commit => self.now,
            PartState::Leader(leading) => {
                let deadline = leading.heartbeat_at.min(leading.check_quorum_at);
                leading.transfer.as_ref().map_or(deadline, |transfer| deadline.min(transfer.give_up_at))
            }
        }
    }

    fn status(&self) -> Status {
        let (part, matched) = match &self.part {
            PartState::Follower => (Part::Follower, Vec::new()),
            PartState::Candidate(_) => (Part::Candidate, Vec::new()),
            PartState::Leader(leading) => {
                let matched = leading.progress.iter().map(|(&id, progress)| (id, progress.matched));
                (Part::Leader, matched.collect())
            }
        };
        Status {
            id: self.config.id,
            part,
            epoch: self.term,
            leader: self.leader,
            established: self.is_established(),
            commit: self.commit,
            matched,
        }
    }

    fn membership(&self) -> &Membership {
        &self.present().1
    }

    fn room_bytes(&self) -> usize {
        match &self.part {
            PartState::Leader(leading) => leading.backlog.room_bytes(&self.config),
            PartState::Follower | PartState::Candidate(_) => 0,
        }
    }
}

/// The refusal of one who does not lead.
fn not_leader(raft: &Raft) -> Refusal {
    Refusal::NotLeader { leader: raft.leader }
}
