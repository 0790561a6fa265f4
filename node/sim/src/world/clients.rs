//! Clients: what they ask, of whom, and what they remember of the answers.

use std::collections::BTreeMap;

use bytes::Bytes;

use quorate_consensus::id::MemberId;
use quorate_replica::event::{Event, GroupId, Request, RequestId};
use quorate_replica::output::{Answer, Failure};
use quorate_state::command::{Command, CommandKind, LeaseGrant, LeaseRevoke};
use quorate_state::error::ReadError;
use quorate_state::reader::Reader;
use quorate_state::request;
use quorate_state::request::{
    Compare, DeleteRange, OperationKind, Put, Range, Relation, SortOrder, SortTarget, Target, Txn,
};
use quorate_state::response::Body;

use super::sometimes::{NOT_MEMBER, WITNESS_ASKED};
use super::{Happening, World};
use crate::history::{Moment, Operation, Outcome, Record};
use crate::random::Random;

pub(super) const CLIENTS: usize = 6;
const KEYS: u64 = 6;
/// Leases live so long at most: some end within a fault.
const TTL_S_MAX: u64 = 4;
/// A client's patience; longer than an election, so that most requests get through one.
pub(super) const PATIENCE_MS: u64 = 5_000;
/// Revisions ahead that nobody reaches before a request is decided.
const FUTURE: i64 = 1_000_000;
/// Between two operations of a client, at most.
const PAUSE_MS_MAX: u64 = 150;

/// One client's memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    /// Its lease, once granted.
    lease: Option<i64>,
}

/// All clients with what they asked and heard.
#[derive(Debug)]
pub(super) struct Clients {
    clients: Vec<Client>,
    pub(super) records: Vec<Record>,
    /// By member and request, who asked, and the place of its record.
    waiting: BTreeMap<(MemberId, RequestId), (usize, usize)>,
    /// By key, the revision that somebody saw last.
    known: BTreeMap<Bytes, i64>,
    /// The newest revision that somebody was told.
    revision: i64,
    /// Commands that succeeded so far.
    pub(super) succeeded: u64,
    /// Nobody asks any more.
    pub(super) stopped: bool,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            clients: vec![Client::default(); CLIENTS],
            records: Vec::new(),
            waiting: BTreeMap::new(),
            known: BTreeMap::new(),
            revision: 1,
            succeeded: 0,
            stopped: false,
        }
    }
}

fn key(number: u64) -> Bytes {
    format!("key-{number}").into()
}

fn any_key(random: &mut Random) -> Bytes {
    key(random.below(KEYS))
}

/// A key alone, some keys, or all.
fn any_span(random: &mut Random) -> (Bytes, Bytes) {
    let from = random.below(KEYS);
    match random.below(4) {
        0 | 1 => (key(from), Bytes::new()),
        2 => (key(from), key(from + 1 + random.below(KEYS - from))),
        _ => (key(from), Bytes::from_static(b"\0")),
    }
}

fn any_range(random: &mut Random) -> Range {
    let (key, range_end) = any_span(random);
    let mut range = Range { key, range_end, ..Range::default() };
    match random.below(8) {
        0 => range.limit = 1 + i64::try_from(random.below(3)).unwrap_or(0),
        1 => range.count_only = true,
        2 => range.keys_only = true,
        3 => {
            range.set_sort_order(SortOrder::Descend);
            range.set_sort_target(SortTarget::Mod);
        }
        _ => {}
    }
    range
}

impl Clients {
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a command that was asked behind this moment was applied.
    pub(super) fn served_since(&self, order: u64) -> bool {
        let later = self.records.iter().rev().take_while(|record| record.asked.order > order);
        later.into_iter().any(|record| matches!(record.outcome, Outcome::Applied(_)))
    }

    /// A value that nobody else writes.
    fn value(&self, sub: u64) -> Bytes {
        format!("{}.{sub}", self.records.len()).into()
    }

    fn any_put(&self, client: usize, random: &mut Random, sub: u64) -> Put {
        let lease = self.clients[client].lease.filter(|_| random.chance(40)).unwrap_or(0);
        Put {
            key: any_key(random),
            value: self.value(sub),
            lease,
            prev_kv: random.chance(30),
            ignore_value: false,
            ignore_lease: lease == 0 && random.chance(10),
        }
    }

    fn swap(&self, client: usize, random: &mut Random) -> Txn {
        let put = self.any_put(client, random, 0);
        let put = Put { ignore_lease: false, ..put };
        let known = self.known.get(&put.key).copied().unwrap_or(0);
        let compare = Compare {
            relation: Relation::Equal as i32,
            key: put.key.clone(),
            range_end: Bytes::new(),
            target: Some(Target::Mod(known)),
        };
        let success = vec![request::Operation { kind: Some(OperationKind::Put(put)) }];
        Txn { compares: vec![compare], success, failure: Vec::new() }
    }

    fn any_compare(&self, random: &mut Random) -> Compare {
        let (key, range_end) = any_span(random);
        let known = self.known.get(&key).copied().unwrap_or(0);
        let relations = [Relation::Equal, Relation::Greater, Relation::Less, Relation::NotEqual];
        let target = match random.below(4) {
            0 => Target::Version(i64::try_from(random.below(3)).unwrap_or(0)),
            1 => Target::Create(known),
            2 => Target::Lease(0),
            _ => Target::Mod(known),
        };
        let relation = relations[random.below(4) as usize] as i32;
        Compare { relation, key, range_end, target: Some(target) }
    }

    /// A transaction within: its condition is about a key that the one around it writes before, and holds as that key was at first.
    fn inner_txn(&self, client: usize, random: &mut Random, written: [&Bytes; 2]) -> Txn {
        let operation = |kind| request::Operation { kind: Some(kind) };
        let compare =
            Compare { key: written[0].clone(), range_end: Bytes::new(), ..self.any_compare(random) };
        let put = Put { ignore_lease: false, ..self.any_put(client, random, 2) };
        let read = operation(OperationKind::Range(any_range(random)));
        let free = !written.contains(&&put.key);
        let put = free.then(|| operation(OperationKind::Put(put)));
        Txn { compares: vec![compare], success: put.into_iter().collect(), failure: vec![read] }
    }

    /// Several keys at once: writes, deletions and reads, whichever way the conditions fall out.
    fn any_txn(&self, client: usize, random: &mut Random) -> Txn {
        let operation = |kind| request::Operation { kind: Some(kind) };
        let compares = (0..=random.below(2)).map(|_| self.any_compare(random)).collect();
        let first = Put { ignore_lease: false, ..self.any_put(client, random, 0) };
        let second = Put { ignore_lease: false, ..self.any_put(client, random, 1) };
        let mut success = vec![operation(OperationKind::Range(any_range(random)))];
        // As in etcd's API, no key is written twice.
        if second.key != first.key {
            success.push(operation(OperationKind::Put(second.clone())));
        }
        success.push(operation(OperationKind::Put(first.clone())));
        if random.chance(25) {
            success.push(operation(OperationKind::Txn(self.inner_txn(
                client,
                random,
                [&first.key, &second.key],
            ))));
        }
        // Behind the writes: they must not stay when it is refused.
        let mut last = any_range(random);
        if random.chance(5) {
            last.revision = self.revision + FUTURE;
        }
        success.push(operation(OperationKind::Range(last)));
        let mut failure = vec![operation(OperationKind::Range(any_range(random)))];
        if random.chance(40) {
            let (key, range_end) = any_span(random);
            failure.push(operation(OperationKind::DeleteRange(DeleteRange {
                key,
                range_end,
                prev_kv: true,
            })));
        }
        Txn { compares, success, failure }
    }

    fn any_operation(&self, client: usize, random: &mut Random) -> Operation {
        let lease = self.clients[client].lease;
        let command = |kind| Operation::Command(kind);
        let back = i64::try_from(random.below(20)).unwrap_or(0);
        match random.below(100) {
            0..22 => command(CommandKind::Put(self.any_put(client, random, 0))),
            22..36 => command(CommandKind::Txn(self.swap(client, random))),
            36..50 => command(CommandKind::Txn(self.any_txn(client, random))),
            50..56 => {
                let (key, range_end) = any_span(random);
                let prev_kv = random.chance(50);
                command(CommandKind::DeleteRange(DeleteRange { key, range_end, prev_kv }))
            }
            56..59 => command(CommandKind::Compact((self.revision - back).max(1))),
            59..62 => {
                let range = Range { revision: (self.revision - back).max(1), ..any_range(random) };
                Operation::Read { range, serializable: random.chance(50) }
            }
            62..66 => Operation::Read { range: any_range(random), serializable: true },
            66..76 => match lease {
                None => {
                    // The client's own number and its count of operations: nobody else's.
                    let id = 1 + i64::try_from(self.records.len() * CLIENTS + client).unwrap_or(0);
                    let ttl_s = 1 + i64::try_from(random.below(TTL_S_MAX)).unwrap_or(0);
                    command(CommandKind::LeaseGrant(LeaseGrant { id, ttl_s }))
                }
                Some(id) if random.chance(7) => {
                    command(CommandKind::LeaseRevoke(LeaseRevoke { id, expired_in_epoch: 0 }))
                }
                Some(lease) => Operation::KeepAlive { lease },
            },
            _ => Operation::Read { range: any_range(random), serializable: false },
        }
    }

    /// What those ask who come all at once, each once.
    fn of_the_crowd(&self, random: &mut Random) -> Operation {
        if random.chance(70) {
            let put = Put { key: any_key(random), value: self.value(0), ..Put::default() };
            Operation::Command(CommandKind::Put(put))
        } else {
            Operation::Read { range: any_range(random), serializable: false }
        }
    }

    /// What a client learns for its next questions.
    fn learn(&mut self, client: usize, at: usize) {
        let Record { operation, outcome, .. } = &self.records[at];
        if let Some(revision) = self.records[at].revision() {
            self.revision = self.revision.max(revision);
        }
        match (operation, outcome) {
            (Operation::Read { .. }, Outcome::Read(_, response)) => {
                let seen = response.kvs.iter().map(|kv| (kv.key.clone(), kv.mod_revision));
                self.known.extend(seen.collect::<Vec<_>>());
            }
            (Operation::Command(CommandKind::LeaseGrant(grant)), Outcome::Applied(_)) => {
                self.clients[client].lease = Some(grant.id);
            }
            (Operation::Command(CommandKind::LeaseRevoke(_)), Outcome::Applied(_) | Outcome::Denied(_))
            | (Operation::KeepAlive { .. }, Outcome::NotRenewed) => self.clients[client].lease = None,
            (_, _) => {}
        }
    }
}

fn read(reader: &Reader, range: &Range) -> Outcome {
    match reader.range(range) {
        Ok(response) => Outcome::Read(reader.revision(), response),
        Err(ReadError::Refused(refusal)) => Outcome::Denied(refusal),
        // Memory works.
        Err(ReadError::Machine(_)) => Outcome::Unknown,
    }
}

impl World {
    pub(super) fn moment(&mut self) -> Moment {
        self.moment += 1;
        Moment { order: self.moment, ms: self.now.0 }
    }

    /// A client asks some member for something.
    pub(super) fn ask(&mut self, client: usize) {
        if self.clients.stopped {
            return;
        }
        let ids: Vec<MemberId> = self.machines.keys().copied().collect();
        let member = ids[self.random.below(ids.len() as u64) as usize];
        if self.machines[&member].host.is_none() || self.paused(member).is_some() {
            if client < CLIENTS {
                self.plan(20, Happening::Ask { client });
            }
            return;
        }
        let operation = match client {
            CLIENTS.. => self.clients.of_the_crowd(&mut self.random),
            _ => self.clients.any_operation(client, &mut self.random),
        };
        let asked = self.moment();
        let id = RequestId(asked.order);
        let request = match &operation {
            Operation::Command(kind) => Request::Command(Command::new(kind.clone())),
            // The server refuses it for the replica.
            Operation::Read { serializable: true, .. } if self.without_data.contains(&member) => {
                return self.plan(1, Happening::Ask { client });
            }
            Operation::Read { range, serializable: true } => {
                let host = self.machines[&member].host.as_ref();
                let Some(replica) = host.and_then(|host| host.replica(GroupId::DEFAULT)) else { return };
                let outcome = read(&replica.state().reader(), range);
                let answered = self.moment();
                self.clients.records.push(Record { asked, answered, operation, outcome });
                return self.plan(1, Happening::Ask { client });
            }
            Operation::Read { .. } => Request::Read,
            Operation::KeepAlive { lease } => Request::KeepAlive(*lease),
        };
        let at = self.clients.records.len();
        self.clients.waiting.insert((member, id), (client, at));
        let outcome = Outcome::Unknown;
        self.clients.records.push(Record { asked, answered: Moment::NEVER, operation, outcome });
        let deadline = self.local(member).after_ms(PATIENCE_MS);
        self.event(member, Event::Request { id, request, deadline });
    }

    pub(super) fn answered(&mut self, member: MemberId, id: RequestId, result: Result<Answer, Failure>) {
        let Some((client, at)) = self.clients.waiting.remove(&(member, id)) else { return };
        let answered = self.moment();
        match result {
            Err(Failure::Witness) => self.reached(WITNESS_ASKED),
            Err(Failure::NotMember) => self.reached(NOT_MEMBER),
            Ok(_) | Err(_) => {}
        }
        let record = &mut self.clients.records[at];
        let keeps_alive = matches!(record.operation, Operation::KeepAlive { .. });
        record.outcome = match (&record.operation, result) {
            (_, Ok(Answer::Applied { response: Ok(response), .. })) => Outcome::Applied(response),
            (_, Ok(Answer::Applied { response: Err(refusal), .. })) => Outcome::Denied(refusal),
            (Operation::Read { range, .. }, Ok(Answer::Readable(reader))) => read(&reader, range),
            (_, Ok(Answer::Lease { ttl_s, .. })) if ttl_s >= 0 => Outcome::Renewed,
            (_, Ok(Answer::Lease { .. })) => Outcome::NotRenewed,
            (_, Err(Failure::Timeout | Failure::Lost)) => Outcome::Unknown,
            // Whether it was renewed nobody knows.
            (_, Ok(_) | Err(_)) if keeps_alive => Outcome::Unknown,
            (_, Ok(_) | Err(_)) => Outcome::Refused,
        };
        self.trace.answered(member, &record.outcome);
        if record.outcome != Outcome::Unknown {
            record.answered = answered;
        }
        self.clients.succeeded += u64::from(matches!(record.outcome, Outcome::Applied(_)));
        if client < CLIENTS {
            self.clients.learn(client, at);
            let pause_ms = self.random.below(PAUSE_MS_MAX);
            self.plan(pause_ms, Happening::Ask { client });
        }
    }

    /// A member ended: those who waited for it hear nothing, and ask somebody else.
    pub(super) fn unanswered(&mut self, member: MemberId) {
        let lost: Vec<_> = self.clients.waiting.keys().filter(|(at, _)| *at == member).copied().collect();
        for request in lost {
            if let Some((client, _)) = self.clients.waiting.remove(&request)
                && client < CLIENTS
            {
                self.plan(50, Happening::Ask { client });
            }
        }
    }
}

/// Whether a command's answer says that it did something.
pub(super) fn is_success(record: &Record) -> bool {
    match &record.outcome {
        Outcome::Applied(response) => !matches!(&response.body, Body::Txn(txn) if !txn.succeeded),
        Outcome::Read(..) | Outcome::Renewed => true,
        Outcome::Unknown | Outcome::Refused | Outcome::Denied(_) | Outcome::NotRenewed => false,
    }
}
