//! Applying decided entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use quorate_storage::backend::{Backend, Change, Table};

use crate::command::{Alarm, AlarmChange, Command, CommandKind, LeaseRevoke};
use crate::error::{ApplyError, MachineError, ReadError};
use crate::event::Event;
use crate::lease;
use crate::mutants::mutant;
use crate::mvcc::changes::{self, Touch};
use crate::mvcc::compaction;
use crate::mvcc::range::Span;
use crate::mvcc::write::Writer;
use crate::reader::Reader;
use crate::recent::Recent;
use crate::response::{Body, Response};
use crate::store::{Committed, Overlay, Store};

/// What an entry is to the state machine.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Nothing.
    NoOp,
    /// An encoded [`Command`], and who asked, if at most one application must be made sure of.
    Command(Bytes, Option<Origin>),
    /// A membership, opaque here.
    Membership(Bytes),
}

/// Who asked for a command: a member, and its number for the request. A member's numbers rise, over its restarts too. One
/// that does not is a repeated or overtaken message: it is not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The member.
    pub member: u64,
    /// Its number.
    pub request: u64,
}

/// A decided entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its index.
    pub index: u64,
    /// Its epoch in the log, or 0 where members may hold it in different ones (Multi-Paxos).
    pub epoch: u64,
    /// The epoch of the leader that proposed it first; 0 for entries of no leader. The same on every member. One that is
    /// lower than that of an earlier entry is of a deposed leader, brought back by a recovery: it is not applied, so that a
    /// leader's entries follow those of all leaders before it (Zab's primary order).
    pub proposed: u64,
    /// What it says.
    pub payload: Payload,
}

/// A lease that came or went, for the leader's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Made, with its time to live in seconds.
    Granted(i64, i64),
    /// Gone.
    Revoked(i64),
}

/// What an apply did.
#[derive(Debug, Default)]
pub struct Applied {
    /// One answer for each command that was applied, with its index, in order.
    pub responses: Vec<(u64, Result<Response, ApplyError>)>,
    /// Indexes of commands that were repeated or overtaken, or whose leader was deposed before: not applied.
    pub dropped: Vec<u64>,
    /// What happened, in the order of revisions.
    pub events: Vec<Event>,
    /// What happened to leases.
    pub leases: Vec<LeaseChange>,
}

/// What stands in the table `Meta`, as one value.
#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(uint64, tag = "1")]
    applied_index: u64,
    #[prost(uint64, tag = "2")]
    applied_epoch: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
    #[prost(int64, tag = "4")]
    compacted: i64,
    #[prost(bytes = "bytes", tag = "5")]
    membership: Bytes,
    /// The physical compaction has not caught up.
    #[prost(bool, tag = "6")]
    compacting: bool,
    /// By member, the highest number of a request that was applied.
    #[prost(btree_map = "fixed64, uint64", tag = "7")]
    requests: BTreeMap<u64, u64>,
    /// Alarms, sorted.
    #[prost(message, repeated, tag = "8")]
    alarms: Vec<Alarm>,
    /// The highest epoch that an applied entry was proposed in.
    #[prost(uint64, tag = "9")]
    proposed_epoch: u64,
    /// The group's level; 0 is that of a group which never raised it.
    #[prost(uint32, tag = "10")]
    level: u32,
}

/// The highest level that this version understands. It rises with every change of what is replicated: kinds and fields of commands, rows
/// of the state, what a command does.
pub const LEVEL: u32 = 1;

/// Of a group that never raised its level.
const FIRST_LEVEL: u32 = 1;

impl Meta {
    fn level(&self) -> u32 {
        self.level.max(FIRST_LEVEL)
    }
}

const META_KEY: &[u8] = b"state";
/// Where the index of the snapshot stands that a state was installed from.
const INSTALLED_KEY: &[u8] = b"installed";

/// Changes that one apply forgets for a compaction, give or take a row, so that no apply takes long.
const COMPACTION_CHANGES_MAX: usize = if cfg!(test) { 4 } else { 256 };

/// One group's state machine.
#[derive(Debug)]
pub struct StateMachine {
    backend: Arc<dyn Backend>,
    meta: Meta,
    /// The highest level that this member understands.
    supported: u32,
    /// Reads of what was applied last; made once for all reads of it.
    reader: Reader,
    /// Rows of what was applied last; an apply has them while it runs.
    recent: Recent,
}

impl StateMachine {
    /// The state in a backend, for this version's [`LEVEL`]. An empty one starts with this membership at index 0, durably.
    ///
    /// # Errors
    /// See [`Self::open_at`].
    pub fn open(backend: Arc<dyn Backend>, initial_membership: Bytes) -> Result<Self, MachineError> {
        Self::open_at(backend, initial_membership, LEVEL)
    }

    /// The same for a member that understands levels up to `supported`.
    ///
    /// # Errors
    /// The engine's; [`MachineError::Malformed`]; [`MachineError::Level`] before anything is written.
    pub fn open_at(
        backend: Arc<dyn Backend>,
        initial_membership: Bytes,
        supported: u32,
    ) -> Result<Self, MachineError> {
        let stored = backend.view().get(Table::Meta, META_KEY)?;
        let meta = match stored {
            Some(value) => Meta::decode(value).map_err(|_| MachineError::Malformed("state"))?,
            None => Meta { revision: 1, membership: initial_membership, ..Meta::default() },
        };
        check_level(meta.level, supported)?;
        let reader = read(Committed::counted(backend.view().into())?, &meta);
        let mut machine = Self { backend, meta, supported, reader, recent: Recent::default() };
        if mutant!(RevisionFromRows) {
            machine.meta.revision = machine.newest_row()?;
        }
        let mut overlay = machine.overlay();
        machine.write_meta(&mut overlay);
        machine.commit(overlay)?;
        machine.backend.persist()?;
        Ok(machine)
    }

    /// The last index inside, and its epoch.
    #[must_use]
    pub fn applied(&self) -> (u64, u64) {
        (self.meta.applied_index, self.meta.applied_epoch)
    }

    /// The change that goes into the batch of a snapshot which is installed: see [`Self::installed`].
    #[must_use]
    pub fn installed_mark(index: u64) -> Change {
        let value = Bytes::copy_from_slice(&index.to_be_bytes());
        Change::Put(Table::Meta, Bytes::from_static(INSTALLED_KEY), value)
    }

    /// The index of the snapshot that this state was installed from last; 0 if none was. A log that does not begin behind it was
    /// written before: what stands in it up to there may not be what was decided.
    ///
    /// # Errors
    /// The engine's; [`MachineError::Malformed`].
    pub fn installed(&self) -> Result<u64, MachineError> {
        let Some(value) = self.reader.view().get(Table::Meta, INSTALLED_KEY)? else { return Ok(0) };
        let index = value.first_chunk().ok_or(MachineError::Malformed("installed index"))?;
        Ok(u64::from_be_bytes(*index))
    }

    /// The newest revision; 1 when nothing was ever written.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.meta.revision
    }

    /// The membership that was applied last.
    #[must_use]
    pub fn membership(&self) -> &Bytes {
        &self.meta.membership
    }

    /// The group's level as far as this state goes: no command of a higher one was decided before it.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.meta.level()
    }

    /// The highest level that this member understands.
    #[must_use]
    pub fn supported_level(&self) -> u32 {
        self.supported
    }

    /// Reads of the state as it is now.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Every lease with its time to live in seconds.
    ///
    /// # Errors
    /// The engine's.
    pub fn leases(&self) -> Result<Vec<(i64, i64)>, MachineError> {
        self.reader.leases()
    }

    /// Applies entries that follow the applied index, as one batch.
    ///
    /// # Errors
    /// The engine's; [`MachineError::Level`] and [`MachineError::UnknownCommand`], with nothing of these entries applied. The
    /// member ends.
    ///
    /// # Panics
    /// If the entries leave a gap.
    pub fn apply(&mut self, entries: Vec<Entry>) -> Result<Applied, MachineError> {
        let mut overlay = self.overlay();
        let mut applied = Applied::default();
        for entry in entries {
            if entry.index <= self.meta.applied_index {
                continue;
            }
            assert_eq!(entry.index, self.meta.applied_index + 1, "entries are applied in order");
            self.meta.applied_index = entry.index;
            self.meta.applied_epoch = entry.epoch;
            let deposed = entry.proposed < self.meta.proposed_epoch;
            self.meta.proposed_epoch = entry.proposed.max(self.meta.proposed_epoch);
            match entry.payload {
                Payload::NoOp => {}
                Payload::Membership(membership) => self.meta.membership = membership,
                Payload::Command(_, origin) if deposed || !self.is_new(origin) => {
                    applied.dropped.push(entry.index);
                }
                Payload::Command(bytes, _) => {
                    let result = self.command(&mut overlay, &bytes, entry.proposed, &mut applied);
                    let response = match result {
                        Ok(body) => Ok(Response { revision: self.meta.revision, body }),
                        Err(ReadError::Refused(refusal)) => Err(refusal),
                        Err(ReadError::Machine(error)) => return Err(error),
                    };
                    applied.responses.push((entry.index, response));
                }
            }
        }
        if self.meta.compacting {
            overlay.close_changes();
            self.meta.compacting =
                compaction::compact(&mut overlay, self.meta.compacted, COMPACTION_CHANGES_MAX)?;
        }
        if mutant!(AppliedIndexOutsideBatch) {
            let mut index_alone = self.overlay();
            self.write_meta(&mut index_alone);
            self.backend.commit(index_alone.into_batch().0)?;
        }
        self.write_meta(&mut overlay);
        self.commit(overlay)?;
        Ok(applied)
    }

    fn commit(&mut self, overlay: Overlay) -> Result<(), MachineError> {
        let (batch, counts, recent) = overlay.into_batch();
        self.backend.commit(batch)?;
        self.recent = recent;
        self.reader = read(Committed::new(self.backend.view().into(), counts), &self.meta);
        Ok(())
    }

    fn command(
        &mut self,
        overlay: &mut Overlay,
        bytes: &[u8],
        epoch: u64,
        applied: &mut Applied,
    ) -> Result<Body, ReadError> {
        let kind = match Command::decode(bytes) {
            Ok(Command { kind: Some(kind) }) => kind,
            // It says something, in a field of a later version.
            Ok(Command { kind: None }) if !bytes.is_empty() => {
                return Err(MachineError::UnknownCommand(self.meta.applied_index).into());
            }
            Ok(Command { kind: None }) | Err(_) => return Err(ApplyError::UnknownCommand.into()),
        };
        let span = self.span();
        let mut writer = Writer::new(overlay, span);
        let body = match kind {
            CommandKind::Put(put) => writer.put(&put)?,
            CommandKind::DeleteRange(delete) => writer.delete_range(&delete)?,
            CommandKind::Txn(txn) => Body::Txn(writer.txn(&txn)?),
            CommandKind::Compact(revision) => return self.compact(revision),
            CommandKind::Alarm(change) => return Ok(self.change_alarm(change)),
            CommandKind::RaiseLevel(level) => {
                check_level(level, self.supported)?;
                self.meta.level = level.max(self.meta.level);
                return Ok(Body::RaiseLevel);
            }
            CommandKind::LeaseGrant(grant) => {
                if lease::exists(overlay, grant.id)? {
                    return Err(ApplyError::LeaseExists.into());
                }
                lease::grant(overlay, grant.id, grant.ttl_s);
                applied.leases.push(LeaseChange::Granted(grant.id, grant.ttl_s));
                return Ok(Body::LeaseGrant);
            }
            CommandKind::LeaseRevoke(revoke) => {
                let events = revoke_lease(overlay, span, revoke, epoch)?;
                applied.leases.push(LeaseChange::Revoked(revoke.id));
                self.meta.revision += i64::from(!events.is_empty());
                if mutant!(LeaseKeysInManyRevisions) {
                    self.meta.revision = events.last().map_or(self.meta.revision, |it| it.kv.mod_revision);
                }
                applied.events.extend(events);
                return Ok(Body::LeaseRevoke);
            }
        };
        let events = writer.finish();
        self.meta.revision += i64::from(!events.is_empty());
        applied.events.extend(events);
        Ok(body)
    }

    fn is_new(&mut self, origin: Option<Origin>) -> bool {
        let Some(Origin { member, request }) = origin else { return true };
        let last = self.meta.requests.entry(member).or_default();
        let new = request > *last || mutant!(RequestAppliedTwice);
        *last = request.max(*last);
        new
    }

    fn compact(&mut self, revision: i64) -> Result<Body, ReadError> {
        if revision <= self.meta.compacted {
            return Err(ApplyError::Compacted.into());
        }
        if revision > self.meta.revision {
            return Err(ApplyError::FutureRevision.into());
        }
        self.meta.compacted = revision;
        self.meta.compacting = true;
        Ok(Body::Compact)
    }

    fn change_alarm(&mut self, AlarmChange { alarm, raise }: AlarmChange) -> Body {
        let alarms = &mut self.meta.alarms;
        match (alarms.binary_search(&alarm), raise) {
            (Ok(at), false) => {
                alarms.remove(at);
            }
            (Err(at), true) => alarms.insert(at, alarm),
            // etcd answers a repeated alarm with it, and the end of one that is not there with nothing.
            (Ok(_), true) => {}
            (Err(_), false) => return Body::Alarm(Vec::new()),
        }
        Body::Alarm(vec![alarm])
    }

    /// A bug's: see [`crate::mutants`].
    fn newest_row(&self) -> Result<i64, MachineError> {
        let mut newest = 1;
        for change in changes::between(self.reader.committed(), 0, i64::MAX) {
            let changes::Change { revision, touch, .. } = change?;
            if touch != Touch::Deleted || revision > self.meta.compacted {
                newest = revision;
            }
        }
        Ok(newest)
    }

    fn overlay(&mut self) -> Overlay {
        Overlay::new(self.reader.committed().clone(), std::mem::take(&mut self.recent))
    }

    fn span(&self) -> Span {
        span(&self.meta)
    }

    fn write_meta(&self, overlay: &mut Overlay) {
        let value = self.meta.encode_to_vec().into();
        overlay.put(Table::Meta, Bytes::from_static(META_KEY), value);
    }
}

fn check_level(group: u32, own: u32) -> Result<(), MachineError> {
    if group > own { Err(MachineError::Level { group, own }) } else { Ok(()) }
}

fn span(meta: &Meta) -> Span {
    Span { newest: meta.revision, compacted: meta.compacted }
}

fn read(committed: Committed, meta: &Meta) -> Reader {
    Reader::new(committed, span(meta), meta.alarms.as_slice().into(), meta.level())
}

/// Deletes a lease and its keys in one revision.
fn revoke_lease(
    overlay: &mut Overlay,
    span: Span,
    revoke: LeaseRevoke,
    epoch: u64,
) -> Result<Vec<Event>, ReadError> {
    let deposed = revoke.expired_in_epoch != 0 && revoke.expired_in_epoch != epoch;
    if deposed || !lease::exists(overlay, revoke.id)? {
        return Err(ApplyError::LeaseNotFound.into());
    }
    let mut found = Vec::new();
    for key in lease::keys(overlay, revoke.id)? {
        if let Some(value) = overlay.get(Table::Newest, &key)? {
            found.extend(crate::mvcc::layout::version(key, value)?);
        }
    }
    if mutant!(LeaseLeavesKey) {
        found.pop();
    }
    let mut events = Vec::new();
    let mut writer = Writer::new(overlay, span);
    for kv in found {
        if mutant!(LeaseKeysInManyRevisions) {
            events.extend(writer.finish());
            let newest = span.newest + events.len() as i64;
            writer = Writer::new(overlay, Span { newest, ..span });
        }
        writer.delete(kv);
    }
    events.extend(writer.finish());
    lease::remove(overlay, revoke.id);
    Ok(events)
}
