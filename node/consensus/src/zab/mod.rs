//! Zab, after Junqueira, Reed and Serafini (Zab: High-performance broadcast for primary-backup systems, DSN 2011) and
//! ZooKeeper's fast leader election; reconfiguration after Shraer, Reed, Malkhi and Junqueira (ATC 2012).
//!
//! | message | paper | from | to | durable before it leaves |
//! |---|---|---|---|---|
//! | `Notification` | phase 0 (ZooKeeper's election) | any member | voters | nothing |
//! | `FollowerInfo` | CEPOCH | follower | prospective leader | the accepted epoch |
//! | `LeaderInfo` | NEWEPOCH | prospective leader | followers | nothing: its own acceptance counts when durable |
//! | `AckEpoch` | ACK-E | follower | leader | the accepted epoch, the history that it names |
//! | `Truncate`, `History` | TRUNC; a proposal is missing | leader, follower | follower, leader | what the history names |
//! | (a snapshot) | SNAP | leader | follower | nothing |
//! | `Propose` | PROPOSE, DIFF | leader | followers | nothing: its own copy counts when durable |
//! | `NewLeader` | NEWLEADER | leader | followers | nothing |
//! | `AckNewLeader` | ACK-LD | follower | leader | the history, **then** the current epoch |
//! | `UpToDate` | COMMIT-LD, UPTODATE | leader | followers | nothing |
//! | `Ack` | ACK | follower | leader | the entries |
//! | `Ping`, `Pong` | (ZooKeeper's) | leader, follower | followers, leader | nothing; what it tells of the log |
//! | `Read`, `ReadReply` | Raft's read index (thesis 6.4): `sync` is no quorum operation (ZOOKEEPER-1675) | follower, leader | leader, follower | nothing |
//! | `Abdicate` | ZooKeeper's designated leader (`Leader.getDesignatedLeader`), without a change | leader | synced followers | nothing |
//! | `Removed` | ours: members without the change never hear of it, and would go on looking | any member | one that was removed | the removal is committed |
//!
//! A **zxid** is an epoch and a position in the log; positions go on from epoch to epoch instead of starting over, which keeps
//! the order of the paper's zxids. `acceptedEpoch` and `currentEpoch` are apart: the first is promised in discovery, the second
//! is set only when the leader's whole initial history is on disk (ZOOKEEPER-3023, 4643, 4646, 4685, 4785 are about that
//! order). A leader must have the best history of a quorum (current epoch, then last zxid) and never adopts another's; one that
//! finds a better history in discovery gives up. Entries of earlier epochs are committed all at once, by a quorum that has
//! made the epoch its current one.
//!
//! The paper assumes links without loss, in order. Here the position is the link's sequence number: a follower takes what
//! follows its last entry and says where that is when something is missing (`History`), and the leader sends again what is not
//! acknowledged. Messages of the phases before are repeated until they are answered, and repeating them changes nothing.
//!
//! **Different from ZooKeeper**, and why: (1) a joining member needs only the leader's own word that it leads: a leader without
//! a quorum gives up by itself. (2) A leader that meets a voter with a higher accepted epoch starts a new one instead of
//! locking that voter out. (3) The activation of new voters is an entry of its own behind the change, so that it survives with
//! the log. (4) ZooKeeper's `sync` is not a quorum operation, so a deposed leader may answer it; reads here are confirmed by
//! a quorum of the epoch after they came.

mod change;
mod discovery;
mod election;
mod leader;
mod message;
mod reads;
mod synchronisation;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::disk::Disk;
use crate::effect::Effect;
use crate::entry::{Entry, HardState, SnapshotMark};
use crate::flow::{Backlog, Progress};
use crate::handover::Handover;
use crate::id::{Epoch, Index, MemberId, Time, WriteId};
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

pub use message::{Body, Malformed, Message, Notification, State, Vote, Zxid};

use election::Looking;
use transfer::Transfer;

/// How far a follower has come with its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    /// Phase 1: the epoch is not agreed.
    Discovery,
    /// Phase 2: the history is not the leader's, or the epoch not current.
    Synchronisation,
    /// Phase 2, end: NEWLEADER is acknowledged.
    Acknowledged,
    /// Phase 3.
    Broadcast,
}

/// What a follower keeps.
#[derive(Clone, Debug, Hash)]
struct Following {
    leader: MemberId,
    stage: Stage,
    /// The leader's last entry when it sent NEWLEADER.
    new_leader: Option<Zxid>,
    /// The write after which the history up to there is durable.
    history: Option<WriteId>,
    give_up_at: Time,
    ask_again_at: Time,
}

/// How far a leader has come with one follower.
#[derive(Clone, Debug, Hash)]
struct Follower {
    stage: FollowerStage,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FollowerStage {
    /// It was told the epoch.
    Informed,
    /// It accepted the epoch; its history ends there.
    Accepted(Zxid),
    /// It is brought to the leader's history up to this entry, and will be asked to make the epoch current.
    Syncing(Zxid),
    /// The epoch is current there: its acknowledgements count.
    Synced,
}

/// What a leader keeps.
#[derive(Clone, Debug, Hash)]
struct Leading {
    stage: Stage,
    /// CEPOCH: accepted epochs, until a quorum has told.
    infos: BTreeMap<MemberId, Epoch>,
    /// ACK-E of this epoch that count.
    accepted: BTreeSet<MemberId>,
    followers: BTreeMap<MemberId, Follower>,
    /// The write that makes this member's own acceptance, then its own current epoch, durable.
    own_write: Option<WriteId>,
    /// The last entry of the initial history.
    initial: Index,
    establish_by: Time,
    beat_at: Time,
    check_quorum_at: Time,
    transfer: Option<Transfer>,
    reads: Rounds,
    backlog: Backlog,
}

#[derive(Clone, Debug, Hash)]
enum PartState {
    Looking(Looking),
    Following(Following),
    Leading(Box<Leading>),
}

/// One member's Zab.
#[derive(Clone, Debug, Hash)]
pub struct Zab {
    config: Config,
    random: Random,
    now: Time,
    accepted_epoch: Epoch,
    /// The leader whose epoch was accepted: it is acknowledged to nobody else.
    accepted_from: Option<MemberId>,
    current_epoch: Epoch,
    commit: Index,
    leader: Option<MemberId>,
    /// A leader whose connection was reset, and when.
    gone: Option<(MemberId, Time)>,
    disk: Disk,
    handover: Handover,
    part: PartState,
    /// The election's round (ZooKeeper's logical clock).
    round: u64,
    memberships: Stack,
    outbox: Outbox,
    removed: bool,
}

impl Zab {
    /// A member after a start: see [`crate::kind::ProtocolKind::start`].
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
        Ok(Self {
            random: Random::new(config.seed ^ config.id.0.rotate_left(32)),
            part: PartState::Looking(Looking::from_start(now)),
            config,
            now,
            accepted_epoch: hard_state.epoch,
            accepted_from: hard_state.vote,
            current_epoch: hard_state.established,
            commit: hard_state.commit.min(log.last_index()).max(log.snapshot_index()),
            leader: None,
            gone: None,
            disk: Disk::default(),
            handover: Handover::default(),
            round: 0,
            memberships: Stack::load(mark, log)?,
            outbox: Outbox::new(Layout::Tail, hard_state, log),
            removed: false,
        })
    }

    fn present(&self) -> &(Index, Membership) {
        self.memberships.present()
    }

    fn is_voter(&self) -> bool {
        self.present().1.quorum().contains(self.config.id)
    }

    /// Whether it may lead: a witness votes, but has nothing to give to others.
    fn may_lead(&self) -> bool {
        self.is_voter() && (!self.present().1.is_witness(self.config.id) || mutant!(WitnessLeads))
    }

    fn view<'a>(&'a self, log: &'a dyn LogRead) -> View<'a> {
        self.outbox.view(log)
    }

    /// The last entry.
    fn last(&self, log: &dyn LogRead) -> Zxid {
        let view = self.view(log);
        Zxid { epoch: view.last_epoch(), index: view.last_index() }
    }

    /// The newest entry of this log that is not newer than `zxid`.
    fn newest_until(&self, zxid: Zxid, log: &dyn LogRead) -> Zxid {
        let view = self.view(log);
        let mut index = zxid.index.min(view.last_index()).max(view.snapshot_index());
        loop {
            let epoch = view.epoch(index).unwrap_or_default();
            if epoch <= zxid.epoch || index <= view.snapshot_index() {
                return Zxid { epoch, index };
            }
            index = index.previous();
        }
    }

    fn send(&mut self, to: MemberId, body: Body) {
        let durable = match body {
            Body::AckEpoch { .. } if mutant!(AckEpochBeforeSync) => false,
            Body::AckNewLeader { .. } if mutant!(Zookeeper3911, Zookeeper4646) => false,
            Body::Ack { .. } if mutant!(Zookeeper4785) && self.awaits_up_to_date() => false,
            Body::FollowerInfo
            | Body::AckEpoch { .. }
            | Body::History { .. }
            | Body::AckNewLeader { .. }
            | Body::Ack { .. }
            | Body::Pong { .. } => true,
            Body::Notification(_)
            | Body::LeaderInfo
            | Body::Truncate { .. }
            | Body::Propose { .. }
            | Body::NewLeader { .. }
            | Body::UpToDate { .. }
            | Body::Ping { .. }
            | Body::Read(_)
            | Body::ReadReply { .. }
            | Body::Abdicate { .. }
            | Body::Removed => false,
        };
        let message = Message { epoch: self.accepted_epoch, body };
        self.outbox.send(to, message.encode(), durable);
    }

    /// Whether the accepted epoch is current: the log is then a part of its leader's, and only grows in this epoch.
    fn is_current(&self) -> bool {
        self.current_epoch == self.accepted_epoch
    }

    /// Adds an entry behind the log's end.
    fn write_entry(&mut self, entry: Entry) {
        self.memberships.note(&entry);
        self.outbox.append(entry);
    }

    fn commit_to(&mut self, index: Index) {
        if index <= self.commit {
            return;
        }
        self.commit = index;
        self.memberships.committed(index);
        self.outbox.push(Effect::Commit(index));
    }

    fn persisted(&mut self, id: WriteId, log: &dyn LogRead) {
        self.outbox.persisted(id);
        self.disk.persisted(id, self.now, &self.config);
        match self.part {
            PartState::Looking(_) => {}
            PartState::Following(_) => self.try_make_current(log),
            PartState::Leading(_) => {
                self.own_write_persisted(log);
                self.own_log_persisted(log);
            }
        }
    }

    fn installed(&mut self, mark: SnapshotMark, log: &dyn LogRead) {
        let index = mark.index;
        self.memberships.installed(mark);
        self.outbox.installed(index);
        self.commit = self.commit.max(index);
        let last = self.last(log);
        if let PartState::Following(Following { leader, stage: Stage::Synchronisation, .. }) = self.part {
            self.send(leader, Body::History { last });
        }
    }

    fn message(&mut self, from: MemberId, message: Message, log: &dyn LogRead) {
        let (at, membership) = self.present();
        // Not before the joint membership is left: until then its acknowledgement may be needed, and it may lead.
        if *at <= self.commit && membership.is_gone(from) {
            return self.send(from, Body::Removed);
        }
        let Message { epoch, body } = message;
        match body {
            Body::Removed => self.told_removed(from),
            Body::Notification(notification) => self.notified(from, notification, log),
            Body::FollowerInfo => self.follower_came(from, epoch, log),
            Body::LeaderInfo => self.epoch_told(from, epoch, log),
            Body::Read(id) => self.read_for(Some(from), id),
            Body::ReadReply { id, index } => self.outbox.push(rounds::answer(id, index)),
            Body::Truncate { .. }
            | Body::Propose { .. }
            | Body::NewLeader { .. }
            | Body::UpToDate { .. }
            | Body::Ping { .. }
            | Body::Abdicate { .. } => {
                if self.hears(from, epoch) {
                    self.leader_said(from, body, log);
                }
            }
            Body::AckEpoch { .. }
            | Body::History { .. }
            | Body::AckNewLeader { .. }
            | Body::Ack { .. }
            | Body::Pong { .. } => {
                if epoch == self.accepted_epoch && self.note_active(from) {
                    self.follower_said(from, body, log);
                }
            }
        }
    }

    /// Whether `from` is the leader that this member follows, in the epoch that it accepted.
    fn hears(&mut self, from: MemberId, epoch: Epoch) -> bool {
        let give_up_at = self.now.after_ms(self.config.election_timeout_ms);
        match &mut self.part {
            PartState::Following(following)
                if following.leader == from
                    && following.stage > Stage::Discovery
                    && epoch == self.accepted_epoch =>
            {
                following.give_up_at = give_up_at;
                true
            }
            PartState::Looking(_) | PartState::Following(_) | PartState::Leading(_) => false,
        }
    }

    fn leader_said(&mut self, from: MemberId, body: Body, log: &dyn LogRead) {
        match body {
            Body::Truncate { to } => self.truncate(from, to, log),
            Body::Propose { previous, entries, commit } => {
                self.proposed(from, previous, entries, commit, log);
            }
            Body::NewLeader { last } => self.new_leader(last, log),
            Body::UpToDate { commit } => self.up_to_date(commit, log),
            Body::Ping { commit, round } => {
                self.up_to_date(commit, log);
                let matched = if self.is_current() { self.view(log).last_index() } else { Index(0) };
                self.send(from, Body::Pong { round, matched });
            }
            Body::Abdicate { successor } => self.look(successor == self.config.id, log),
            Body::Notification(_)
            | Body::FollowerInfo
            | Body::LeaderInfo
            | Body::AckEpoch { .. }
            | Body::History { .. }
            | Body::AckNewLeader { .. }
            | Body::Ack { .. }
            | Body::Pong { .. }
            | Body::Read(_)
            | Body::ReadReply { .. }
            | Body::Removed => {}
        }
    }

    fn follower_said(&mut self, from: MemberId, body: Body, log: &dyn LogRead) {
        match body {
            Body::AckEpoch { current, last, counts } => self.epoch_accepted(from, current, last, counts, log),
            Body::History { last } => self.history_told(from, last, log),
            Body::AckNewLeader { matched } => self.new_leader_acknowledged(from, matched, log),
            Body::Ack { matched, current } => self.acknowledged(from, matched, current, log),
            Body::Pong { round, matched } => self.pinged(from, round, matched, log),
            Body::Notification(_)
            | Body::FollowerInfo
            | Body::LeaderInfo
            | Body::Truncate { .. }
            | Body::Propose { .. }
            | Body::NewLeader { .. }
            | Body::UpToDate { .. }
            | Body::Ping { .. }
            | Body::Read(_)
            | Body::ReadReply { .. }
            | Body::Abdicate { .. }
            | Body::Removed => {}
        }
    }

    /// What waits for this leader is refused, so that nobody waits for ever.
    fn stop_leading(&mut self) {
        if let PartState::Leading(leading) = &mut self.part {
            for (origin, id) in leading.reads.drain() {
                self.answer_read(origin, id, None);
            }
        }
    }

    fn told_removed(&mut self, from: MemberId) {
        if self.present().1.member(from).is_some() && !self.removed {
            self.leave();
        }
    }

    /// This member is no part of the group any more.
    fn leave(&mut self) {
        self.removed = true;
        self.stop_leading();
        self.leader = None;
        self.part = PartState::Looking(Looking::from_start(Time(u64::MAX)));
        self.outbox.push(Effect::Removed);
    }

    fn tick(&mut self, log: &dyn LogRead) {
        match &self.part {
            PartState::Looking(_) => self.tick_looking(log),
            PartState::Following(following) => {
                if self.now >= following.give_up_at {
                    self.look(false, log);
                } else if self.now >= following.ask_again_at {
                    self.ask_leader();
                }
            }
            PartState::Leading(_) => self.tick_leader(log),
        }
    }

    /// What must hold after every step; cheap enough for release builds.
    fn validate(&self, log: &dyn LogRead) {
        let last = self.view(log).last_index();
        assert!(self.commit <= last, "committed {} behind the log's end {last}", self.commit);
        assert!(self.current_epoch <= self.accepted_epoch, "an epoch is current that was not accepted");
        if let PartState::Leading(leading) = &self.part {
            let all = leading.followers.values().map(|follower| &follower.progress);
            assert!(all.into_iter().all(|progress| progress.matched < progress.next));
        }
    }
}

impl Protocol for Zab {
    fn step(&mut self, now: Time, input: Input, log: &dyn LogRead, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.tick(log),
            Input::Message { from, payload } => {
                if let Ok(message) = Message::decode(payload)
                    && !self.removed
                {
                    self.message(from, message, log);
                }
            }
            Input::Persisted(id) => self.persisted(id, log),
            Input::Propose(proposals) => self.propose(proposals, log),
            Input::ProposeMembership { id, target } => self.propose_membership(id, target, log),
            Input::Read(id) => self.read_for(None, id),
            Input::Transfer(to) => self.transfer(to, log),
            Input::SnapshotInstalled(mark) => self.installed(mark, log),
            Input::SnapshotSent { to, ok } => self.snapshot_sent(to, ok),
            Input::Unreachable { peer, reset } => self.unreachable(peer, reset, log),
        }
        self.validate(log);
        let hard_state = HardState {
            epoch: self.accepted_epoch,
            vote: self.accepted_from,
            established: self.current_epoch,
            commit: self.commit,
        };
        self.outbox.flush(hard_state, (self.accepted_epoch, self.leader, self.is_established()), effects);
        let led = match &self.part {
            PartState::Looking(_) => false,
            PartState::Following(following) => following.stage == Stage::Broadcast,
            PartState::Leading(leading) => leading.stage == Stage::Broadcast,
        };
        self.disk.after_step(self.outbox.last_write(), led, self.now, &self.config);
    }

    fn deadline(&self) -> Time {
        match &self.part {
            PartState::Looking(looking) => looking.deadline(),
            PartState::Following(following) => following.give_up_at.min(following.ask_again_at),
            PartState::Leading(leading) => {
                let mut deadline = leading.beat_at.min(leading.check_quorum_at);
                if leading.stage < Stage::Broadcast {
                    deadline = deadline.min(leading.establish_by);
                }
                leading.transfer.as_ref().map_or(deadline, |transfer| deadline.min(transfer.give_up_at))
            }
        }
    }

    fn status(&self) -> Status {
        let (part, matched) = match &self.part {
            PartState::Looking(_) => (Part::Candidate, Vec::new()),
            PartState::Following(_) => (Part::Follower, Vec::new()),
            PartState::Leading(leading) => {
                let part = if self.is_established() { Part::Leader } else { Part::Candidate };
                let followers = leading.followers.iter();
                let matched = followers.map(|(&id, follower)| (id, follower.progress.matched));
                (part, matched.chain([(self.config.id, self.outbox.durable())]).collect())
            }
        };
        Status {
            id: self.config.id,
            part,
            epoch: self.accepted_epoch,
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
        self.room()
    }
}
