//! Multi-Paxos, after Lamport (The Part-Time Parliament, 1998; Paxos Made Simple, 2001) and van Renesse and Altinbuken (Paxos
//! Made Moderately Complex, 2015).
//!
//! | message | from | to | durable before it leaves | source |
//! |---|---|---|---|---|
//! | `Canvass` | would-be proposer | acceptors | nothing | connectivity before ballots: OmniPaxos, EuroSys 2023, 5 |
//! | `CanvassReply` | acceptor | would-be proposer | nothing | as `Canvass`; that a heard leader refuses: Raft's pre-vote, thesis 9.6 |
//! | `Prepare` | proposer | acceptors | its own promise | Paxos Made Simple 2.2, phase 1a; durable first is ours: see below |
//! | `Promise` | acceptor | proposer | the promised ballot | phase 1b |
//! | `Refused` | acceptor | proposer | the promised ballot | 2.2, end: an optimisation |
//! | `Behind` | acceptor | proposer | nothing | ours: a promise can't tell of chosen slots that are in a snapshot only |
//! | snapshot | leader; acceptor behind `Behind` | one that lies before its log | nothing: what is applied is chosen | 2.3: a learner may learn from any other |
//! | `Accept` | leader | everybody else | nothing: its own acceptance counts when durable | phase 2a |
//! | `Accepted` | acceptor | leader | the values with their ballot | phase 2b |
//! | `Beat` | leader | everybody else | nothing | ours: Raft's heartbeat, thesis 3.4; carries the chosen prefix, and a round of reads |
//! | `BeatReply` | acceptor | leader | what it tells of the log | ours: as `Accepted`, and the round of reads that it confirms: thesis 6.4 |
//! | `Read`, `ReadReply` | follower, leader | leader, follower | nothing | ours: Raft's read index, thesis 6.4 |
//! | `TakeOver` | leader | its successor | nothing | ours: Raft's `TimeoutNow`, thesis 3.10; no canvass, since the leader's word stands for it |
//! | `Removed` | any member | one that was removed | the settled membership behind the stop is chosen | ours: a stopped group's acceptors may go then, and nobody else would tell them |
//!
//! A **ballot** is a number that one member owns: an acceptor promises a number to the first who asks and to nobody else, so
//! that at most one gets a quorum for it, and a value's ballot is a number in the log. Each **slot** has its own accepted
//! ballot. A new leader prepares from its first unchosen slot, proposes in each slot the value of the highest ballot that it
//! heard of, a no-op where it heard of none (a hole), and then a barrier that names its ballot. Accepted values are replaced slot
//! by slot and never cut off. Slots are chosen in any order; the chosen prefix is applied.
//!
//! Any member may lead, whatever its log lacks: it needs a quorum that hears no leader (`Canvass`), nothing else. Paxos alone
//! lets a value of a deposed leader come back behind those of its successor; the state machine drops it there by the ballot that
//! it was proposed in (`quorate_state::machine::Entry::proposed`).
//!
//! **Voters change by a stop entry** (Lamport, Malkhi, Zhou: Stoppable Paxos, 2008): a joint membership is the last value that
//! its old voters choose. Nothing is proposed behind it before it is chosen; then the leader prepares the same ballot with the
//! new voters, who have promised nothing yet, and goes on with the settled membership as the first value of their own.
//! Proposals wait meanwhile. An acceptor holds durably that the stop is chosen before it accepts anything behind it, so old voters
//! may leave when the settled membership is chosen, and not before. Whom the old voters elect meanwhile finishes their log, perhaps
//! in a ballot that somebody else leads among the new ones: messages name the sender's last stop, and an acceptor of both goes from
//! the older voters to the newer ones. Ballots behind a stop are never below the one in which it was chosen: whoever accepted it
//! promised that one, and a snapshot, which names no ballot, goes to nobody who has not durably promised its sender's. `Prepare` is
//! durable first for that: an acceptor may answer it with a snapshot.
//!
//! A membership of a deposed leader may come back behind its successor's, as any value may. It is **void** then, chosen and without
//! effect: a membership counts only behind the one that it was made from (`Membership::follows`).
//!
//! **Reads** are served at the chosen prefix once the leader's barrier is chosen and a quorum has confirmed, after the read
//! came, that it promised no higher ballot.

mod acceptor;
mod election;
mod leader;
mod message;
mod reads;
mod reconfiguration;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::disk::Disk;
use crate::effect::{Effect, Refusal};
use crate::entry::{Entry, HardState, SnapshotMark};
use crate::flow::{Backlog, Progress};
use crate::handover::Handover;
use crate::hurry::Hurry;
use crate::id::{Epoch, Index, MemberId, Time, WriteId};
use crate::input::{Input, Proposal};
use crate::log::{Layout, LogRead, Missing};
use crate::membership::Membership;
use crate::mutants::mutant;
use crate::outbox::Outbox;
use crate::protocol::{Part, Protocol, Status};
use crate::quorum::Quorum;
use crate::random::Random;
use crate::rounds::{self, Rounds};
use crate::start::StartError;
use crate::view::View;

pub use message::{Body, Malformed, Message};

use election::Preparing;
use reconfiguration::Stop;
use transfer::Transfer;

/// What a leader keeps.
#[derive(Clone, Debug, Hash)]
struct Leading {
    progress: BTreeMap<MemberId, Progress>,
    /// By member, slots behind its gapless prefix that it accepted.
    ahead: BTreeMap<MemberId, BTreeSet<Index>>,
    /// Where the voters came in that elected it. They may change while it leads, and others lead the new ones.
    stop: Index,
    /// The last slot that it proposed a value in. Its log may hold more behind a stop, of lower ballots.
    end: Index,
    /// The slot of its barrier; the leader serves when it is chosen. `None` if it must stop its voters' log first.
    barrier: Option<Index>,
    beat_at: Time,
    check_quorum_at: Time,
    transfer: Option<Transfer>,
    reads: Rounds,
    backlog: Backlog,
}

#[derive(Clone, Debug, Hash)]
enum PartState {
    Acceptor,
    /// Asks whether anybody hears a leader.
    Canvassing(BTreeMap<MemberId, bool>),
    Preparing(Box<Preparing>),
    Leader(Box<Leading>),
}

/// One member's Multi-Paxos.
#[derive(Clone, Debug, Hash)]
pub struct Paxos {
    config: Config,
    random: Random,
    now: Time,
    promised: Epoch,
    owner: Option<MemberId>,
    /// Where the voters came in that the owner asked for the ballot.
    owner_stop: Index,
    /// Every slot up to here is chosen, and this member holds its value.
    commit: Index,
    /// Every slot up to here is chosen or accepted in the promised ballot.
    prefix: Index,
    leader: Option<MemberId>,
    leader_heard_at: Option<Time>,
    /// Elections that need not wait because the leader's connection was reset.
    hurry: Hurry,
    disk: Disk,
    handover: Handover,
    part: PartState,
    /// The newest round of reads that this member began since its start. A ballot is led twice when its voters change, and answers
    /// to the first time's rounds must not confirm the second's.
    newest_round: u64,
    election_at: Time,
    /// The membership that was chosen last.
    membership: Membership,
    quorum: Quorum,
    /// Memberships that were accepted behind the chosen prefix.
    accepted_memberships: BTreeMap<Index, Membership>,
    stop: Stop,
    /// Proposals that wait until the voters have changed.
    held: Vec<Proposal>,
    held_bytes: usize,
    /// Members that a snapshot is on its way to because their prepare came from before this log's start.
    helping: BTreeSet<MemberId>,
    outbox: Outbox,
    removed: bool,
}

impl Paxos {
    /// A member after a start: see [`crate::kind::ProtocolKind::start`].
    ///
    /// # Errors
    /// `log` can't be read or has a membership that can't be decoded.
    pub fn new(
        config: Config,
        hard_state: HardState,
        mark: SnapshotMark,
        log: &dyn LogRead,
        now: Time,
    ) -> Result<Self, StartError> {
        // Chosen prefixes that are durable here: `established` is stored when the voters change, `commit` with every write.
        // Without the latter an acceptor would prepare slots that others, who know them to be chosen, hold no more.
        let stored = hard_state.commit.max(Index(hard_state.established.0)).min(log.last_index());
        let chosen = mark.index.max(stored).max(log.snapshot_index());
        let mut paxos = Self {
            random: Random::new(config.seed ^ config.id.0.rotate_left(32)),
            config,
            now,
            promised: hard_state.epoch,
            owner: hard_state.vote,
            owner_stop: hard_state.vote.map_or(Index(0), |_| acceptor::UNKNOWN_STOP),
            commit: mark.index,
            prefix: mark.index,
            leader: None,
            leader_heard_at: None,
            hurry: Hurry::default(),
            disk: Disk::default(),
            handover: Handover::default(),
            part: PartState::Acceptor,
            newest_round: 0,
            election_at: now,
            quorum: mark.membership.settled().quorum(),
            membership: mark.membership.settled(),
            accepted_memberships: BTreeMap::new(),
            stop: Stop::after_start(&mark, Index(hard_state.established.0)),
            held: Vec::new(),
            held_bytes: 0,
            helping: BTreeSet::new(),
            outbox: Outbox::new(Layout::Slots, hard_state, log),
            removed: false,
        };
        paxos.load(log)?;
        paxos.commit_to(chosen);
        paxos.reset_election_timer();
        if paxos.is_only_voter() {
            paxos.election_at = now;
        }
        Ok(paxos)
    }

    /// Goes through the accepted slots: their memberships, and ballots whose promise was not durable when the value was.
    fn load(&mut self, log: &dyn LogRead) -> Result<(), StartError> {
        let mut slot = self.commit.next();
        while slot <= log.last_index() {
            let found = match log.entries(slot, log.last_index().next(), self.config.append_bytes_max) {
                Ok(found) => found,
                Err(Missing::Beyond | Missing::Compacted) => Vec::new(),
                Err(missing @ Missing::Faulty) => {
                    return Err(StartError::Unreadable { index: slot, missing });
                }
            };
            for entry in &found {
                StartError::membership(entry)?;
                self.note_membership(entry);
                // Whose ballot it was is lost: nobody is promised it again.
                if entry.epoch > self.promised {
                    (self.promised, self.owner, self.owner_stop) = (Epoch(entry.epoch.0 + 1), None, Index(0));
                }
            }
            slot = found.last().map_or(slot, |entry| entry.index).next();
        }
        Ok(())
    }

    fn note_membership(&mut self, entry: &Entry) {
        self.accepted_memberships.remove(&entry.index);
        if let Some(membership) = Membership::of(entry).expect("a leader proposes well-formed memberships") {
            self.accepted_memberships.insert(entry.index, membership);
        }
    }

    fn is_voter(&self) -> bool {
        self.quorum.contains(self.config.id)
    }

    /// Whether a member holds headers only, now or by a change under way.
    fn is_witness(&self, id: MemberId) -> bool {
        self.membership.is_witness(id) || self.accepted_memberships.values().any(|it| it.is_witness(id))
    }

    /// Whether it may lead: a witness votes, but has no values to propose again.
    fn may_lead(&self) -> bool {
        let witness = self.is_witness(self.config.id) && !mutant!(WitnessLeads);
        self.is_voter() && !witness && !self.removed
    }

    fn is_only_voter(&self) -> bool {
        self.quorum.voters().into_iter().eq([self.config.id])
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
        self.send_in(self.promised, to, body);
    }

    /// Sends in the name of a ballot that is not promised here.
    fn send_in(&mut self, ballot: Epoch, to: MemberId, body: Body) {
        let durable = match body {
            Body::Promise { .. } if mutant!(PromiseBeforeSync) => false,
            Body::Accepted { .. } if mutant!(AcceptedBeforeSync) => false,
            Body::Prepare { .. }
            | Body::Promise { .. }
            | Body::Refused
            | Body::Accepted { .. }
            | Body::BeatReply { .. } => true,
            Body::Canvass
            | Body::CanvassReply { .. }
            | Body::Behind
            | Body::Accept { .. }
            | Body::Beat { .. }
            | Body::Read(_)
            | Body::ReadReply { .. }
            | Body::TakeOver
            | Body::Removed => false,
        };
        self.outbox.send(to, Message { ballot, body }.encode(), durable);
    }

    fn is_established(&self) -> bool {
        match &self.part {
            PartState::Leader(leading) => leading.barrier.is_some_and(|barrier| self.commit >= barrier),
            PartState::Acceptor | PartState::Canvassing(_) | PartState::Preparing(_) => false,
        }
    }

    /// The chosen prefix grew.
    fn commit_to(&mut self, index: Index) {
        if index <= self.commit {
            return;
        }
        self.commit = index;
        self.prefix = self.prefix.max(index);
        self.outbox.push(Effect::Commit(index));
        while let Some(accepted) = self.accepted_memberships.first_entry().filter(|it| *it.key() <= index) {
            let (at, membership) = accepted.remove_entry();
            self.chosen(at, membership);
        }
    }

    fn persisted(&mut self, id: WriteId, log: &dyn LogRead) {
        self.outbox.persisted(id);
        self.disk.persisted(id, self.now, &self.config);
        self.stop.persisted(id);
        self.promise_persisted(log);
        self.own_values_persisted(log);
    }

    fn installed(&mut self, mark: SnapshotMark) {
        self.commit = self.commit.max(mark.index);
        self.prefix = self.prefix.max(mark.index);
        self.accepted_memberships.retain(|at, _| *at > mark.index);
        self.stop.installed(&mark);
        if mutant!(SnapshotWithoutBallots) {
            (self.promised, self.owner) = (Epoch(0), None);
        }
        self.membership = mark.membership.settled();
        self.quorum = self.membership.quorum();
        match (&self.part, self.leader) {
            (PartState::Acceptor, Some(leader)) => self.tell_prefix(leader),
            (PartState::Acceptor, None) => {}
            // What it prepared, or leads, began before slots that are chosen now; voters may have changed in them.
            (PartState::Canvassing(_) | PartState::Preparing(_) | PartState::Leader(_), _) => {
                self.become_acceptor(self.promised, None, None);
            }
        }
    }

    fn message(&mut self, from: MemberId, message: Message, log: &dyn LogRead) {
        let Message { ballot, body } = message;
        if self.is_gone(from) {
            return self.send(from, Body::Removed);
        }
        match &body {
            Body::Removed => return self.told_removed(from),
            Body::Canvass => return self.canvassed(from, ballot),
            Body::CanvassReply { granted } => {
                self.canvass_answered(from, ballot, *granted);
                return self.count_canvass(log);
            }
            Body::Prepare { from: slot, stop } => {
                return self.prepare_asked(from, ballot, (*slot, *stop), log);
            }
            Body::Read(id) => return self.read_for(Some(from), *id),
            Body::ReadReply { id, index } => return self.outbox.push(rounds::answer(*id, *index)),
            Body::Behind => return self.told_behind(from),
            Body::Accept { stop, .. } | Body::Beat { stop, .. } if ballot >= self.promised => {
                if ballot == self.promised && self.is_of_another(from, *stop) {
                    return self.refuse_leader(from, &body);
                }
                self.follow(from, ballot, *stop);
            }
            Body::Accept { .. } if mutant!(AcceptLowerBallot) => {}
            Body::Accept { .. } | Body::Beat { .. } => return self.send(from, Body::Refused),
            // Somebody promised a higher ballot: this member's own, if it has one, is over.
            Body::Refused | Body::Promise { .. } | Body::Accepted { .. } | Body::BeatReply { .. }
                if ballot > self.promised =>
            {
                return self.become_acceptor(ballot, None, None);
            }
            Body::Refused
            | Body::Promise { .. }
            | Body::Accepted { .. }
            | Body::BeatReply { .. }
            | Body::TakeOver => {}
        }
        if ballot == self.promised || mutant!(AcceptLowerBallot) && matches!(body, Body::Accept { .. }) {
            self.in_ballot(from, body, log);
        }
    }

    /// A message of the promised ballot.
    fn in_ballot(&mut self, from: MemberId, body: Body, log: &dyn LogRead) {
        match body {
            Body::Promise { from: slot, entries, next, last } => {
                self.promised_by(from, slot, entries, next, last, log);
            }
            Body::Accept { entries, commit, stop } => self.accept(from, entries, commit, stop, log),
            Body::Accepted { prefix, first, last } => self.accepted_by(from, prefix, (first, last), log),
            Body::Beat { commit, round, .. } => {
                self.advance_prefix(log);
                self.commit_to(commit.min(self.prefix));
                if mutant!(CommitWithoutOwnPrefix) {
                    self.commit_to(commit.min(self.held_prefix(log)));
                }
                let prefix = self.prefix;
                self.send(from, Body::BeatReply { prefix, round });
            }
            Body::BeatReply { prefix, round } => self.beat_answered(from, prefix, round, log),
            Body::TakeOver => self.told_to_take_over(from, log),
            Body::Refused => self.refused_while_leading(from, log),
            // Taken before, whatever their ballot.
            Body::Removed
            | Body::Canvass
            | Body::CanvassReply { .. }
            | Body::Prepare { .. }
            | Body::Behind
            | Body::Read(_)
            | Body::ReadReply { .. } => {}
        }
    }

    /// Promises `ballot` to `owner` if it is new, and stops whatever this member did in a lower one.
    fn become_acceptor(&mut self, ballot: Epoch, owner: Option<MemberId>, leader: Option<MemberId>) {
        if ballot > self.promised {
            (self.promised, self.owner, self.owner_stop) = (ballot, owner, Index(0));
            self.prefix = self.commit;
        }
        self.stop_leading();
        self.refuse_held();
        self.part = PartState::Acceptor;
        self.leader = leader;
        self.reset_election_timer();
    }

    /// What waits for this leader is refused, so that nobody waits for ever.
    fn stop_leading(&mut self) {
        if let PartState::Leader(leading) = &mut self.part {
            for (origin, id) in leading.reads.drain() {
                self.answer_read(origin, id, None);
            }
        }
    }

    fn refuse_held(&mut self) {
        self.held_bytes = 0;
        for Proposal { id, .. } in std::mem::take(&mut self.held) {
            self.outbox.push(Effect::Refuse { id, refusal: Refusal::NotLeader { leader: None } });
        }
    }

    fn tick(&mut self, log: &dyn LogRead) {
        match &self.part {
            PartState::Leader(_) => self.tick_leader(log),
            PartState::Preparing(preparing) if self.now < self.election_at => {
                if self.now >= preparing.ask_again_at {
                    self.ask_promises();
                }
            }
            PartState::Acceptor | PartState::Canvassing(_) | PartState::Preparing(_) => {
                if self.now >= self.election_at {
                    self.stand(log);
                }
            }
        }
    }

    /// What must hold after every step; cheap enough for release builds.
    fn validate(&self, log: &dyn LogRead) {
        let last = self.view(log).last_index();
        assert!(self.commit <= last, "chosen {} behind the log's end {last}", self.commit);
        assert!(self.commit <= self.prefix, "the chosen prefix is a part of the accepted one");
        if let PartState::Leader(leading) = &self.part {
            assert!(leading.progress.values().all(|progress| progress.matched < progress.next));
        }
    }
}

impl Protocol for Paxos {
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
        let hard_state = HardState {
            epoch: self.promised,
            vote: self.owner,
            established: Epoch(self.stop.saved().0),
            commit: self.commit,
        };
        self.outbox.flush(hard_state, (self.promised, self.leader, self.is_established()), effects);
        self.disk.after_step(self.outbox.last_write(), self.leader.is_some(), self.now, &self.config);
    }

    fn deadline(&self) -> Time {
        match &self.part {
            PartState::Acceptor | PartState::Canvassing(_) => self.election_at,
            PartState::Preparing(preparing) => self.election_at.min(preparing.ask_again_at),
            PartState::Leader(leading) => {
                let deadline = leading.beat_at.min(leading.check_quorum_at);
                leading.transfer.as_ref().map_or(deadline, |transfer| deadline.min(transfer.give_up_at))
            }
        }
    }

    fn status(&self) -> Status {
        let (part, matched) = match &self.part {
            PartState::Acceptor => (Part::Follower, Vec::new()),
            PartState::Canvassing(_) | PartState::Preparing(_) => (Part::Candidate, Vec::new()),
            PartState::Leader(leading) => {
                let matched = leading.progress.iter().map(|(&id, progress)| (id, progress.matched));
                (Part::Leader, matched.collect())
            }
        };
        Status {
            id: self.config.id,
            part,
            epoch: self.promised,
            leader: self.leader,
            established: self.is_established(),
            commit: self.commit,
            matched,
        }
    }

    fn membership(&self) -> &Membership {
        &self.membership
    }

    fn room_bytes(&self) -> usize {
        match &self.part {
            PartState::Leader(leading) => {
                leading.backlog.room_bytes(&self.config).saturating_sub(self.held_bytes)
            }
            PartState::Acceptor | PartState::Canvassing(_) | PartState::Preparing(_) => 0,
        }
    }
}
