//! The leader's leases: renewals, times, and what is over.
//!
//! A leader that was deposed and does not know it yet must not renew: its successor gave the lease its whole time when it
//! took over, and may have ended it (etcd #15247, #20616). One that has just taken over may not have applied an end that is
//! decided. So a renewal waits, as a linearizable read does, for a round that confirms the leader, and for what was decided
//! before it to be applied.

use std::collections::BTreeMap;

use quorate_consensus::id::{Epoch, Index, ReadId, Time};
use quorate_consensus::input::Input;
use quorate_state::lease::LeaseKeeper;
use quorate_state::machine::{LeaseChange, StateMachine};

use crate::envelope::{Envelope, LeaseTimes};
use crate::error::Fatal;
use crate::event::RequestId;
use crate::log::SharedLog;
use crate::mutants::mutant;
use crate::output::{Answer, Failure};
use crate::payload::Origin;
use crate::pending::Pending;
use crate::replica::Replica;

/// Leases whose end one tick proposes, at most: etcd revokes at most 1,000 a second.
const EXPIRED_MAX: usize = 100;

/// The leader's clock over leases; empty on others.
///
/// It belongs to an epoch. A leader of Multi-Paxos that waits for new voters goes on leading in the same ballot afterwards: with its
/// old clock, or an end that it proposed before, and that is decided only then, would meet a lease that was renewed.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    keeper: LeaseKeeper,
    measured_in: Option<Epoch>,
}

impl Leases {
    /// This member leads in an epoch: every lease has its whole time, unless it led in that epoch before.
    pub(crate) fn promote(&mut self, now: Time, epoch: Epoch, state: &StateMachine) -> Result<(), Fatal> {
        if self.measured_in != Some(epoch) {
            self.keeper.promote(now.0, &state.leases()?);
            self.measured_in = Some(epoch);
        }
        Ok(())
    }

    /// It does not lead now, in this epoch.
    pub(crate) fn demote(&mut self, epoch: Epoch) {
        if self.measured_in != Some(epoch) {
            self.keeper.demote();
            self.measured_in = None;
        }
    }

    pub(crate) fn changed(&mut self, now: Time, change: LeaseChange) {
        match change {
            LeaseChange::Granted(id, ttl_s) if self.measured_in.is_some() => {
                self.keeper.granted(now.0, id, ttl_s)
            }
            LeaseChange::Revoked(id) => self.keeper.revoked(id),
            LeaseChange::Granted(..) => {}
        }
    }

    pub(crate) fn times(&mut self, now: Time, id: i64, renew: bool) -> LeaseTimes {
        let renewed = !renew || self.keeper.renew(now.0, id).is_some();
        match self.keeper.times(now.0, id).filter(|_| renewed) {
            Some((ttl_s, granted_s)) => LeaseTimes { ttl_s, granted_s },
            None => LeaseTimes { ttl_s: -1, granted_s: 0 },
        }
    }

    pub(crate) fn expired(&mut self, now: Time) -> Vec<i64> {
        self.keeper.expired(now.0, EXPIRED_MAX)
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.keeper.deadline_ms().map(Time)
    }
}

/// Somebody asks the leader how long a lease lives.
#[derive(Clone, Copy, Debug)]
struct Question {
    origin: Origin,
    lease: i64,
    renew: bool,
}

/// Questions about leases on their way through a round that confirms the leader.
#[derive(Debug, Default)]
pub(crate) struct LeaseRounds {
    /// Since the last flush.
    batch: Vec<Question>,
    /// With the time when the round was asked for.
    rounds: BTreeMap<ReadId, (Time, Vec<Question>)>,
    /// Confirmed; answered once this index is applied.
    confirmed: Vec<(Index, Vec<Question>)>,
}

impl LeaseRounds {
    /// As many may be asked on one member as requests may wait there.
    const QUESTIONS_MAX: usize = Pending::REQUESTS_MAX;

    fn len(&self) -> usize {
        let rounds = self.rounds.values().map(|(_, questions)| questions.len());
        let confirmed = self.confirmed.iter().map(|(_, questions)| questions.len());
        self.batch.len() + rounds.chain(confirmed).sum::<usize>()
    }

    /// Whether a round may have to be asked for again.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.rounds.is_empty()
    }

    pub(crate) fn confirmed(&mut self, id: ReadId, index: Index) {
        self.confirmed.extend(self.rounds.remove(&id).map(|(_, questions)| (index, questions)));
    }

    pub(crate) fn refused(&mut self, id: ReadId) {
        self.batch.extend(self.rounds.remove(&id).into_iter().flat_map(|(_, questions)| questions));
    }

    /// Rounds that got no answer for so long are asked for again, under a fresh id.
    pub(crate) fn retry(&mut self, now: Time, after_ms: u64) {
        let stale = self.rounds.extract_if(.., |_, (asked, _)| now.since_ms(*asked) >= after_ms);
        self.batch.extend(stale.flat_map(|(_, (_, questions))| questions));
    }

    fn take_applied(&mut self, applied: Index) -> Vec<Question> {
        self.confirmed
            .extract_if(.., |(index, _)| *index <= applied)
            .flat_map(|(_, questions)| questions)
            .collect()
    }

    fn take_all(&mut self) -> Vec<Question> {
        let Self { batch, rounds, confirmed } = std::mem::take(self);
        let rounds = rounds.into_values().flat_map(|(_, questions)| questions);
        batch
            .into_iter()
            .chain(rounds)
            .chain(confirmed.into_iter().flat_map(|(_, questions)| questions))
            .collect()
    }
}

impl Replica {
    /// A client of this member, or of another one, asks about a lease.
    pub(crate) fn lease(&mut self, origin: Origin, lease: i64, renew: bool) {
        if self.leading.is_some() {
            if self.lease_rounds.len() >= LeaseRounds::QUESTIONS_MAX {
                self.refuse(origin, Failure::Overloaded);
            } else {
                self.lease_rounds.batch.push(Question { origin, lease, renew });
            }
            return;
        }
        match self.leader {
            Some(leader) if origin.member == self.id && leader != self.id => {
                let envelope = if renew {
                    Envelope::KeepAlive(origin.request, lease)
                } else {
                    Envelope::TimeToLive(origin.request, lease)
                };
                self.send(leader, envelope);
            }
            Some(_) | None => self.refuse(origin, Failure::NoLeader),
        }
    }

    /// Asks for one round for all questions since the last flush.
    pub(crate) fn lease_batch(&mut self, now: Time, log: &mut SharedLog) -> Result<(), Fatal> {
        if self.lease_rounds.batch.is_empty() {
            return Ok(());
        }
        if mutant!(RenewedWithoutRound) {
            let questions = std::mem::take(&mut self.lease_rounds.batch);
            self.lease_rounds.confirmed.push((self.state_index(), questions));
            return Ok(());
        }
        let id = self.name_read();
        let questions = std::mem::take(&mut self.lease_rounds.batch);
        self.lease_rounds.rounds.insert(id, (now, questions));
        self.input(now, Input::Read(id), log)
    }

    /// Answers the questions whose round is done, as far as what was decided before them is applied.
    pub(crate) fn answer_leases(&mut self, now: Time) {
        for Question { origin, lease, renew } in self.lease_rounds.take_applied(self.state_index()) {
            let times = self.leases.times(now, lease, renew);
            if origin.member == self.id {
                self.lease_answered(origin.request, times);
            } else {
                self.send(origin.member, Envelope::Lease(origin.request, times));
            }
        }
    }

    /// This member leads no more: it can't tell.
    pub(crate) fn refuse_leases(&mut self) {
        for question in self.lease_rounds.take_all() {
            self.refuse(question.origin, Failure::NoLeader);
        }
    }

    pub(crate) fn lease_answered(&mut self, request: RequestId, times: LeaseTimes) {
        if self.pending.remove(request).is_some() {
            self.reply(request, Ok(Answer::Lease { ttl_s: times.ttl_s, granted_s: times.granted_s }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_state::command::{Command, CommandKind, LeaseGrant};
    use quorate_state::machine::{Entry, Payload};
    use quorate_storage::backend::memory::MemoryBackend;

    use super::*;

    /// Lease 7 of one second.
    fn state() -> StateMachine {
        let mut state = StateMachine::open(Arc::new(MemoryBackend::default()), bytes::Bytes::new()).unwrap();
        let grant = Command::new(CommandKind::LeaseGrant(LeaseGrant { id: 7, ttl_s: 1 }));
        let payload = Payload::Command(grant.to_bytes(), None);
        state.apply(vec![Entry { index: 1, epoch: 1, proposed: 1, payload }]).unwrap();
        state
    }

    #[test]
    fn a_leader_that_goes_on_in_its_epoch_gives_no_lease_its_time_again() {
        let (state, mut leases) = (state(), Leases::default());
        leases.promote(Time(0), Epoch(3), &state).unwrap();
        assert_eq!(leases.expired(Time(1_000)), [7], "its end is proposed");
        leases.demote(Epoch(3));
        leases.promote(Time(1_100), Epoch(3), &state).unwrap();
        assert_eq!(leases.times(Time(1_100), 7, true).ttl_s, -1, "and can't be taken back");
        leases.demote(Epoch(4));
        leases.promote(Time(1_200), Epoch(5), &state).unwrap();
        assert_eq!(leases.times(Time(1_200), 7, true).ttl_s, 1, "an end of epoch 3 has no effect now");
    }
}
