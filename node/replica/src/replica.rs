//! One group on one member: the protocol's inputs and effects tied to log, state machine and clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_consensus::effect::{Effect, Refusal, Write};
use quorate_consensus::id::{Epoch, Index, MemberId, ReadId, Time};
use quorate_consensus::input::{Input, Proposal, ProposalId};
use quorate_consensus::log::Layout;
use quorate_consensus::membership::{Membership, Role};
use quorate_consensus::protocol::{Part, Protocol, Status};
use quorate_state::machine::StateMachine;
use quorate_storage::backend::Backend;

use crate::durability::Durability;
use crate::envelope::Envelope;
use crate::error::Fatal;
use crate::event::{Event, GroupId, Request, RequestId};
use crate::host::Retention;
use crate::leases::{LeaseRounds, Leases};
use crate::levels::Levels;
use crate::log::SharedLog;
use crate::mutants::mutant;
use crate::output::{Answer, Failure, Output};
use crate::payload::{self, Origin};
use crate::pending::{Pending, Waiting};
use crate::queue::CommandQueue;
use crate::target::target;

/// A membership change that this leader appended and that is not decided yet.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) index: Index,
    pub(crate) epoch: Epoch,
    pub(crate) origin: Origin,
}

/// A command of this member's clients.
#[derive(Debug)]
pub(crate) struct Asked {
    command: bytes::Bytes,
    /// It was asked more than once: that one copy was refused says nothing about the others.
    again: bool,
    /// It was sent to the leader.
    forwarded: bool,
}

/// One group on one member.
#[derive(Debug)]
pub struct Replica {
    pub(crate) group: GroupId,
    pub(crate) id: MemberId,
    pub(crate) layout: Layout,
    pub(crate) protocol: Box<dyn Protocol>,
    pub(crate) state: StateMachine,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) leases: Leases,
    pub(crate) lease_rounds: LeaseRounds,
    pub(crate) levels: Levels,
    pub(crate) durability: Durability,
    pub(crate) pending: Pending,
    /// Commands of clients and followers since the last flush; kept while no leader is known, and while it has no room.
    pub(crate) commands: CommandQueue,
    /// Reads since the last flush, and those refused for want of a leader.
    pub(crate) read_batch: Vec<RequestId>,
    /// Commands of this member's clients on their way to being applied; sent again to a new leader. Each has an entry in
    /// `pending`, which bounds them.
    pub(crate) asked: BTreeMap<RequestId, Asked>,
    /// Bytes of those that were sent to the leader.
    pub(crate) forwarded_bytes: usize,
    pub(crate) reads: BTreeMap<ReadId, (Time, Vec<RequestId>)>,
    pub(crate) read_retry_at: Time,
    pub(crate) proposed: BTreeMap<ProposalId, Origin>,
    pub(crate) changing: BTreeMap<ProposalId, Origin>,
    pub(crate) changes: Vec<Change>,
    pub(crate) last_proposal: u64,
    pub(crate) last_read: u64,
    pub(crate) commit: Index,
    pub(crate) leader: Option<MemberId>,
    pub(crate) leading: Option<Epoch>,
    pub(crate) persisting: bool,
    pub(crate) retention: Retention,
    pub(crate) told_membership: Membership,
    pub(crate) effects: Vec<Effect>,
    pub(crate) outputs: Vec<Output>,
}

/// How long a read waits for the protocol's answer before it is asked again under a fresh id. Messages of a read may be
/// lost; half a default election timeout keeps the stall short without doubling the traffic.
const READ_RETRY_MS: u64 = 500;
/// Bytes of commands on their way to the leader and back, about at most; the others wait. Acknowledgements and heartbeats travel behind
/// them on the same connection, and a leader that hears none gives up its lead.
const FORWARDED_BYTES_MAX: usize = 4 << 20;

impl Replica {
    /// Takes one event.
    pub(crate) fn step(&mut self, now: Time, event: Event, log: &mut SharedLog) -> Result<(), Fatal> {
        match event {
            Event::Tick => self.tick(now, log),
            Event::Peer { from, payload } => self.peer(now, from, payload, log),
            Event::Request { id, request, deadline } => self.request(now, id, request, deadline, log),
            Event::SnapshotSent { to, ok } => self.input(now, Input::SnapshotSent { to, ok }, log),
            Event::Unreachable { peer, reset } => self.input(now, Input::Unreachable { peer, reset }, log),
        }
    }

    /// Hands the protocol everything that was gathered since the last flush.
    pub(crate) fn finish(&mut self, now: Time, log: &mut SharedLog) -> Result<(), Fatal> {
        self.propose_batch(now, log)?;
        self.read_batch(now, log)?;
        self.lease_batch(now, log)?;
        self.apply(now, log)?;
        // What was applied made room.
        self.propose_batch(now, log)?;
        self.answer_leases(now);
        Ok(())
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn deadline(&self) -> Time {
        let mut deadline = self.protocol.deadline();
        let expiry = self.leases.deadline().filter(|_| self.leading.is_some());
        for other in [self.pending.deadline(), expiry, self.levels_deadline()].into_iter().flatten() {
            deadline = deadline.min(other);
        }
        if !self.reads.is_empty() || !self.read_batch.is_empty() || self.lease_rounds.is_waiting() {
            deadline = deadline.min(self.read_retry_at);
        }
        deadline
    }

    /// The protocol's status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.protocol.status()
    }

    /// The membership in force.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.protocol.membership()
    }

    /// The state machine.
    #[must_use]
    pub fn state(&self) -> &StateMachine {
        &self.state
    }

    pub(crate) fn reply(&mut self, id: RequestId, result: Result<Answer, Failure>) {
        if let Some(asked) = self.asked.remove(&id)
            && asked.forwarded
        {
            self.forwarded_bytes -= asked.command.len();
        }
        self.outputs.push(Output::Reply { id, result });
    }

    fn tick(&mut self, now: Time, log: &mut SharedLog) -> Result<(), Fatal> {
        self.input(now, Input::Tick, log)?;
        for id in self.pending.take_expired(now) {
            self.reply(id, Err(Failure::Timeout));
        }
        if self.leading.is_some() || mutant!(DeposedLeaderRevokes) {
            self.expire_leases(now);
        }
        self.retry_reads(now);
        self.ask_levels(now);
        Ok(())
    }

    fn peer(
        &mut self,
        now: Time,
        from: MemberId,
        payload: bytes::Bytes,
        log: &mut SharedLog,
    ) -> Result<(), Fatal> {
        let Ok(envelope) = Envelope::decode(payload) else {
            tracing::warn!(group = self.group.0, %from, "dropped a malformed peer message");
            return Ok(());
        };
        match envelope {
            Envelope::Protocol(payload) => return self.input(now, Input::Message { from, payload }, log),
            Envelope::Command(payload) => self.forwarded_command(from, payload),
            Envelope::Change(request, change) => {
                return self.change(now, Origin { member: from, request }, &change, log);
            }
            Envelope::Refused(request, failure) => self.refused_elsewhere(request, failure),
            Envelope::Changed(request, index) => self.changed(request, index),
            Envelope::KeepAlive(request, lease) => self.lease(Origin { member: from, request }, lease, true),
            Envelope::TimeToLive(request, lease) => {
                self.lease(Origin { member: from, request }, lease, false)
            }
            Envelope::Lease(request, times) => self.lease_answered(request, times),
            Envelope::Transfer(to) => return self.input(now, Input::Transfer(to), log),
            Envelope::TellLevel => self.send(from, Envelope::Level(self.state.supported_level())),
            Envelope::Level(level) => self.level_told(from, level),
        }
        Ok(())
    }

    fn request(
        &mut self,
        now: Time,
        id: RequestId,
        request: Request,
        deadline: Time,
        log: &mut SharedLog,
    ) -> Result<(), Fatal> {
        if self.pending.is_full() || (self.commands.is_full() && matches!(request, Request::Command(_))) {
            self.reply(id, Err(Failure::Overloaded));
            return Ok(());
        }
        let needs_data = match &request {
            Request::Command(_) | Request::Read | Request::KeepAlive(_) | Request::TimeToLive(_) => true,
            Request::ReadMembership | Request::Change(_) | Request::Transfer(_) => false,
        };
        let refusal = match self.membership().role(self.id) {
            Some(Role::Voter | Role::Learner) => None,
            None if mutant!(NewcomerServes) => None,
            Some(Role::Witness) => Some(Failure::Witness),
            // One that joins reads memberships from before it was added: it may turn out to be a witness.
            None => Some(Failure::NotMember),
        };
        if let Some(refusal) = refusal.filter(|_| needs_data) {
            self.reply(id, Err(refusal));
            return Ok(());
        }
        let origin = Origin { member: self.id, request: id };
        match request {
            Request::Command(command) => {
                self.pending.insert(id, deadline, Waiting::Applied);
                let command = command.to_bytes();
                self.asked.insert(id, Asked { command: command.clone(), again: false, forwarded: false });
                self.commands.push(origin, command);
            }
            Request::Read | Request::ReadMembership => {
                self.pending.insert(id, deadline, Waiting::ReadIndex);
                self.read_batch.push(id);
                if self.read_batch.len() == 1 {
                    self.read_retry_at = now.after_ms(READ_RETRY_MS);
                }
            }
            Request::Change(change) => {
                self.pending.insert(id, deadline, Waiting::Decided);
                return self.change(now, origin, &change, log);
            }
            Request::Transfer(to) => {
                self.pending.insert(
                    id,
                    deadline,
                    Waiting::NewLeader { from: self.leader.unwrap_or_default(), to },
                );
                return self.transfer(now, id, to, log);
            }
            Request::KeepAlive(lease) => {
                self.pending.insert(id, deadline, Waiting::Lease);
                self.lease(origin, lease, true);
            }
            Request::TimeToLive(lease) => {
                self.pending.insert(id, deadline, Waiting::Lease);
                self.lease(origin, lease, false);
            }
        }
        Ok(())
    }

    fn forwarded_command(&mut self, from: MemberId, payload: bytes::Bytes) {
        let Some((origin, _, command)) = payload::split(&payload) else { return };
        let refusal = if self.protocol.status().part != Part::Leader {
            Refusal::NotLeader { leader: self.leader.filter(|&leader| leader != from) }
        } else if self.commands.is_full() {
            Refusal::Overloaded
        } else {
            self.commands.push(origin, command);
            return;
        };
        self.send(from, Envelope::Refused(origin.request, Failure::Refused(refusal)));
    }

    fn propose_batch(&mut self, now: Time, log: &mut SharedLog) -> Result<(), Fatal> {
        if self.commands.is_empty() {
            return Ok(());
        }
        let status = self.protocol.status();
        if status.part == Part::Leader {
            let proposals: Vec<Proposal> = self
                .commands
                .take(self.protocol.room_bytes())
                .into_iter()
                .map(|(origin, command)| {
                    let id = self.name_proposal();
                    self.proposed.insert(id, origin);
                    Proposal { id, payload: payload::join(origin, status.epoch, &command) }
                })
                .collect();
            return self.input(now, Input::Propose(proposals), log);
        }
        if let Some(leader) = self.leader {
            let room_bytes = FORWARDED_BYTES_MAX.saturating_sub(self.forwarded_bytes);
            for (origin, command) in self.commands.take(room_bytes) {
                if origin.member == self.id
                    && let Some(asked) = self.asked.get_mut(&origin.request)
                    && !std::mem::replace(&mut asked.forwarded, true)
                {
                    self.forwarded_bytes += command.len();
                }
                self.send(leader, Envelope::Command(payload::join(origin, Epoch(0), &command)));
            }
        }
        // Without a leader or room they stay: `Pending` bounds their number, and those whose client left are dropped here.
        let pending = &self.pending;
        self.commands.retain(|origin| pending.contains(origin.request));
        Ok(())
    }

    fn name_proposal(&mut self) -> ProposalId {
        self.last_proposal += 1;
        ProposalId(self.last_proposal)
    }

    pub(crate) fn name_read(&mut self) -> ReadId {
        self.last_read = self.last_read.wrapping_add(1);
        ReadId(self.last_read)
    }

    fn read_batch(&mut self, now: Time, log: &mut SharedLog) -> Result<(), Fatal> {
        if self.read_batch.is_empty() || self.leader.is_none() {
            return Ok(());
        }
        let id = self.name_read();
        let requests = std::mem::take(&mut self.read_batch);
        self.reads.insert(id, (now, requests));
        self.input(now, Input::Read(id), log)
    }

    fn retry_reads(&mut self, now: Time) {
        if now < self.read_retry_at {
            return;
        }
        let stale: Vec<ReadId> = self
            .reads
            .iter()
            .filter(|(_, (asked, _))| now.since_ms(*asked) >= READ_RETRY_MS)
            .map(|(&id, _)| id)
            .collect();
        for id in stale {
            if let Some((_, requests)) = self.reads.remove(&id) {
                self.read_batch.extend(requests);
            }
            if mutant!(ReadIdReused) {
                self.last_read = self.last_read.min(id.0.wrapping_sub(1));
            }
        }
        let pending = &self.pending;
        self.read_batch.retain(|&id| pending.contains(id));
        self.lease_rounds.retry(now, READ_RETRY_MS);
        self.read_retry_at = now.after_ms(READ_RETRY_MS);
    }

    fn change(
        &mut self,
        now: Time,
        origin: Origin,
        change: &crate::change::MembershipChange,
        log: &mut SharedLog,
    ) -> Result<(), Fatal> {
        if self.protocol.status().part != Part::Leader {
            match self.leader {
                Some(leader) if origin.member == self.id => {
                    self.send(leader, Envelope::Change(origin.request, change.clone()));
                }
                Some(_) | None => self.refuse(origin, Failure::NoLeader),
            }
            return Ok(());
        }
        match target(self.protocol.membership(), change) {
            Err(failure) => self.refuse(origin, failure),
            Ok(target) if target == *self.protocol.membership() => self.decided(origin, self.state_index()),
            Ok(target) => {
                let id = self.name_proposal();
                self.changing.insert(id, origin);
                self.input(now, Input::ProposeMembership { id, target }, log)?;
            }
        }
        Ok(())
    }

    fn transfer(
        &mut self,
        now: Time,
        id: RequestId,
        to: Option<MemberId>,
        log: &mut SharedLog,
    ) -> Result<(), Fatal> {
        match self.leader {
            Some(leader) if Some(leader) == to => {
                self.pending.remove(id);
                self.reply(id, Ok(Answer::Transferred(leader)));
                Ok(())
            }
            Some(leader) if leader == self.id => self.input(now, Input::Transfer(to), log),
            Some(leader) => {
                self.send(leader, Envelope::Transfer(to));
                Ok(())
            }
            None => {
                self.pending.remove(id);
                self.reply(id, Err(Failure::NoLeader));
                Ok(())
            }
        }
    }

    /// Tells the origin of a membership change that it is decided.
    pub(crate) fn decided(&mut self, origin: Origin, index: Index) {
        if origin.member == self.id {
            self.changed(origin.request, index);
        } else {
            self.send(origin.member, Envelope::Changed(origin.request, index));
        }
    }

    fn changed(&mut self, request: RequestId, index: Index) {
        if index > self.state_index() {
            self.pending.update(request, Waiting::ChangedAt(index));
        } else if self.pending.remove(request).is_some() {
            let membership = self.protocol.membership().clone();
            self.reply(request, Ok(Answer::Changed(membership)));
        }
    }

    /// Tells the origin of a request that it was not taken.
    pub(crate) fn refuse(&mut self, origin: Origin, failure: Failure) {
        let again = self.asked.get(&origin.request).is_some_and(|asked| asked.again);
        if origin.member != self.id {
            self.send(origin.member, Envelope::Refused(origin.request, failure));
        } else if again {
            self.refused_elsewhere(origin.request, failure);
        } else if self.pending.remove(origin.request).is_some() {
            self.reply(origin.request, Err(failure));
        }
    }

    /// Another member did not take a request. Of a command it may have been the second copy, and the first one was taken:
    /// what became of it is not known.
    fn refused_elsewhere(&mut self, request: RequestId, failure: Failure) {
        let failure = match self.pending.remove(request) {
            None => return,
            Some(Waiting::Applied) if !mutant!(RefusedThoughTaken) => Failure::Lost,
            Some(_) => failure,
        };
        self.reply(request, Err(failure));
    }

    pub(crate) fn send(&mut self, to: MemberId, envelope: Envelope) {
        self.outputs.push(Output::Send { group: self.group, to, payload: envelope.encode() });
    }

    /// Steps the protocol and performs what it wants.
    pub(crate) fn input(&mut self, now: Time, input: Input, log: &mut SharedLog) -> Result<(), Fatal> {
        let mut effects = std::mem::take(&mut self.effects);
        self.protocol.step(now, input, &log.group(self.group), &mut effects);
        for effect in effects.drain(..) {
            self.perform(now, effect, log)?;
        }
        self.effects = effects;
        Ok(())
    }

    fn perform(&mut self, now: Time, effect: Effect, log: &mut SharedLog) -> Result<(), Fatal> {
        match effect {
            Effect::Write(write) => return self.write(write, log),
            Effect::Send { to, payload, after } => {
                let payload = Envelope::Protocol(payload).encode();
                if let Some((to, payload)) = self.durability.hold(to, payload, after) {
                    self.outputs.push(Output::Send { group: self.group, to, payload });
                }
            }
            Effect::Commit(index) => self.commit = self.commit.max(index),
            Effect::Accepted { id, index, epoch } => {
                self.proposed.remove(&id);
                if let Some(origin) = self.changing.remove(&id) {
                    self.changes.push(Change { index, epoch, origin });
                }
            }
            Effect::Refuse { id, refusal } => {
                if let Some(origin) = self.proposed.remove(&id).or_else(|| self.changing.remove(&id)) {
                    self.refuse(origin, Failure::Refused(refusal));
                }
            }
            Effect::ReadReady { id, index } => self.read_ready(id, index),
            Effect::ReadRefused { id, refusal: _ } => {
                self.lease_rounds.refused(id);
                if let Some((_, requests)) = self.reads.remove(&id) {
                    self.read_batch.extend(requests);
                    self.read_retry_at = now.after_ms(READ_RETRY_MS);
                }
            }
            Effect::SendSnapshot { to } => self.outputs.push(Output::SendSnapshot {
                group: self.group,
                to,
                snapshot: Box::new(self.snapshot_for(to)),
            }),
            Effect::Leadership { epoch, leader, established } => {
                return self.leadership(now, epoch, leader, established);
            }
            Effect::Removed => self.outputs.push(Output::Removed { group: self.group }),
        }
        Ok(())
    }

    fn write(&mut self, write: Write, log: &mut SharedLog) -> Result<(), Fatal> {
        let Write { id, keep, entries, hard_state } = write;
        let first = keep.map(Index::next).or(entries.first().map(|entry| entry.index));
        log.append(self.group, keep, entries, hard_state)?;
        self.durability.wrote(id, first);
        Ok(())
    }

    fn read_ready(&mut self, id: ReadId, index: Index) {
        self.lease_rounds.confirmed(id, index);
        let Some((_, requests)) = self.reads.remove(&id) else { return };
        for request in requests {
            if index <= self.state_index() || mutant!(ReadIndexNotAwaited) {
                if self.pending.remove(request).is_some() {
                    let reader = self.state.reader();
                    self.reply(request, Ok(Answer::Readable(reader)));
                }
            } else {
                self.pending.update(request, Waiting::ReadAt(index));
            }
        }
    }

    fn leadership(
        &mut self,
        now: Time,
        epoch: Epoch,
        leader: Option<MemberId>,
        established: bool,
    ) -> Result<(), Fatal> {
        if leader.is_some() && leader != self.leader {
            self.ask_again();
        }
        self.leader = leader;
        let leading = established.then_some(epoch);
        if leading != self.leading {
            self.leading = leading;
            self.levels = Levels::default();
            match leading {
                Some(epoch) => self.leases.promote(now, epoch, &self.state)?,
                None => self.refuse_leases(),
            }
        }
        if !established && !mutant!(DeposedLeaderRevokes) {
            self.leases.demote(epoch);
        }
        if let Some(leader) = leader {
            for id in self.pending.take_transfers(leader) {
                self.reply(id, Ok(Answer::Transferred(leader)));
            }
        }
        self.outputs.push(Output::Leadership { group: self.group, epoch, leader, established });
        Ok(())
    }

    /// There is a new leader: what the last one may have lost is asked again. A command that it did not lose is applied once all
    /// the same, by the number of its request; in the order of those numbers, since one that comes behind a later one is dropped.
    fn ask_again(&mut self) {
        let commands = self.asked.iter_mut().map(|(&request, asked)| {
            (asked.again, asked.forwarded) = (true, false);
            (request, &asked.command)
        });
        self.commands.replace(self.id, commands);
        self.forwarded_bytes = 0;
        for (_, (_, requests)) in std::mem::take(&mut self.reads) {
            self.read_batch.extend(requests);
        }
    }

    /// Sync number `sync` is done.
    pub(crate) fn synced(&mut self, now: Time, sync: u64, log: &mut SharedLog) -> Result<(), Fatal> {
        if let Some(write) = self.durability.synced(sync) {
            for (to, payload) in self.durability.released() {
                self.outputs.push(Output::Send { group: self.group, to, payload });
            }
            self.input(now, Input::Persisted(write), log)?;
        }
        Ok(())
    }
}
