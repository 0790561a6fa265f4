//! Writes of one revision: puts, deletions, transactions (etcd `server/etcdserver/txn/txn.go`).

use bytes::Bytes;

use quorate_storage::backend::Table;

use super::changes::{Change, Touch};
use super::layout;
use super::range::{Span, range};
use super::versions::{bounds, newest};
use crate::error::{ApplyError, MachineError, ReadError};
use crate::event::{Event, EventKind, KeyValue};
use crate::lease;
use crate::mutants::mutant;
use crate::request::{Compare, DeleteRange, Operation, OperationKind, Put, Relation, Target, Txn};
use crate::response::{Body, Response, TxnResponse};
use crate::store::{Overlay, Store};

/// One command's writes, all of the revision behind `span.newest`.
pub(crate) struct Writer<'a> {
    store: &'a mut Overlay,
    span: Span,
    events: Vec<Event>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(store: &'a mut Overlay, span: Span) -> Self {
        Self { store, span, events: Vec::new() }
    }

    /// The events; there is a new revision exactly if there are any.
    pub(crate) fn finish(self) -> Vec<Event> {
        self.events
    }

    fn revision(&self) -> i64 {
        self.span.newest + 1
    }

    /// What reads within this command see: its own writes once there are some.
    fn visible(&self) -> Span {
        Span { newest: self.span.newest + i64::from(!self.events.is_empty()), ..self.span }
    }

    /// The newest version of a key, and its row's value.
    fn newest(&self, key: &Bytes) -> Result<Option<(KeyValue, Bytes)>, MachineError> {
        let Some(value) = self.store.get(Table::Newest, key)? else { return Ok(None) };
        Ok(layout::version(key.clone(), value.clone())?.map(|kv| (kv, value)))
    }

    /// What forbids a put, without doing it.
    fn check_put(&self, put: &Put) -> Result<(), ReadError> {
        if put.lease != 0 && !lease::exists(self.store, put.lease)? {
            return Err(ApplyError::LeaseNotFound.into());
        }
        if (put.ignore_value || put.ignore_lease) && self.newest(&put.key)?.is_none() {
            return Err(ApplyError::KeyNotFound.into());
        }
        Ok(())
    }

    pub(crate) fn put(&mut self, put: &Put) -> Result<Body, ReadError> {
        self.check_put(put)?;
        let (before, row) = self.newest(&put.key)?.unzip();
        let mut kv = KeyValue {
            key: put.key.clone(),
            create_revision: self.revision(),
            mod_revision: self.revision(),
            version: 1,
            value: put.value.clone(),
            lease: put.lease,
        };
        if let Some(before) = &before {
            kv.create_revision = before.create_revision;
            kv.version = before.version + 1;
            if put.ignore_value {
                kv.value = before.value.clone();
            }
            if put.ignore_lease {
                kv.lease = before.lease;
            }
        }
        if let (Some(before), Some(row)) = (&before, row) {
            self.retire(before, row);
        }
        lease::attach(self.store, kv.lease, &kv.key);
        self.store.put(Table::Newest, kv.key.clone(), layout::version_value(&kv));
        if before.is_none() {
            self.store.created(&kv.key).map_err(MachineError::from)?;
        }
        let prev_kv = if put.prev_kv { before.clone() } else { None };
        self.record(Event { kind: EventKind::Put, kv, prev_kv: before });
        Ok(Body::Put { prev_kv })
    }

    pub(crate) fn delete_range(&mut self, delete: &DeleteRange) -> Result<Body, ReadError> {
        let found: Vec<KeyValue> =
            newest(self.store, bounds(&delete.key, &delete.range_end)).collect::<Result<_, _>>()?;
        for kv in &found {
            self.delete(kv.clone());
        }
        let deleted = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let prev_kvs = if delete.prev_kv { found } else { Vec::new() };
        Ok(Body::DeleteRange { deleted, prev_kvs })
    }

    pub(crate) fn delete(&mut self, before: KeyValue) {
        let revision = self.revision();
        self.retire(&before, layout::version_value(&before));
        self.store.delete(Table::Newest, before.key.clone());
        self.store.deleted(&before.key);
        self.store.put(Table::History, layout::history_key(&before.key, revision), Bytes::new());
        let kv = KeyValue { key: before.key.clone(), mod_revision: revision, ..KeyValue::default() };
        self.record(Event {
            kind: EventKind::Delete,
            kv,
            prev_kv: Some(before).filter(|_| !mutant!(DeleteWithoutPrevKv)),
        });
    }

    /// The version that is newest no more moves to `History`, as its row stands in `Newest`, and leaves its lease.
    fn retire(&mut self, before: &KeyValue, row: Bytes) {
        // A key put twice in one command keeps only its last version of that revision.
        if before.mod_revision < self.revision() {
            let key = layout::history_key(&before.key, before.mod_revision);
            self.store.put(Table::History, key, row);
        }
        if !mutant!(LeaseNotDetached) {
            lease::detach(self.store, before.lease, &before.key);
        }
    }

    fn record(&mut self, event: Event) {
        let sub = u32::try_from(self.events.len()).expect("a command has fewer operations");
        let change =
            Change { revision: self.revision(), touch: Touch::of(&event), key: event.kv.key.clone() };
        self.store.change(sub, &change);
        if mutant!(TxnEventTwice) && !self.events.is_empty() {
            self.events.push(event.clone());
        }
        self.events.push(event);
    }

    /// Conditions are all judged, and what can fail is checked, before anything is written.
    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, ReadError> {
        let mut path = Vec::new();
        self.decide(txn, &mut path)?;
        self.check(txn, &mut path.iter())?;
        let mut done = path.into_iter();
        self.execute(txn, &mut done)
    }

    fn decide(&self, txn: &Txn, path: &mut Vec<bool>) -> Result<(), ReadError> {
        let mut holds = true;
        let judged = if mutant!(FirstCompareOnly) { 1 } else { usize::MAX };
        for compare in txn.compares.iter().take(judged) {
            holds = holds && self.holds(compare)?;
        }
        path.push(holds);
        for operation in branch(txn, holds) {
            if let Some(OperationKind::Txn(inner)) = &operation.kind {
                self.decide(inner, path)?;
            }
        }
        Ok(())
    }

    fn check(&self, txn: &Txn, path: &mut std::slice::Iter<'_, bool>) -> Result<(), ReadError> {
        let holds = path.next().copied().unwrap_or_default();
        for operation in branch(txn, holds) {
            match &operation.kind {
                Some(OperationKind::Range(_)) if mutant!(TxnFailsInTheMiddle) => {}
                Some(OperationKind::Put(put)) => self.check_put(put)?,
                Some(OperationKind::Range(range)) if range.revision > self.span.newest => {
                    return Err(ApplyError::FutureRevision.into());
                }
                Some(OperationKind::Range(range))
                    if range.revision > 0 && range.revision < self.span.compacted =>
                {
                    return Err(ApplyError::Compacted.into());
                }
                Some(OperationKind::Txn(inner)) => self.check(inner, path)?,
                Some(OperationKind::Range(_) | OperationKind::DeleteRange(_)) => {}
                None => return Err(ApplyError::UnknownCommand.into()),
            }
        }
        Ok(())
    }

    fn execute(&mut self, txn: &Txn, path: &mut std::vec::IntoIter<bool>) -> Result<TxnResponse, ReadError> {
        let mut succeeded = path.next().unwrap_or_default();
        if mutant!(CompareAfterWrites) {
            succeeded = txn.compares.iter().all(|compare| self.holds(compare).unwrap_or_default());
        }
        let mut responses = Vec::new();
        for operation in branch(txn, succeeded) {
            let body = match &operation.kind {
                Some(OperationKind::Range(request)) => {
                    Body::Range(range(self.store, request, self.visible())?)
                }
                Some(OperationKind::Put(put)) => self.put(put)?,
                Some(OperationKind::DeleteRange(delete)) => self.delete_range(delete)?,
                Some(OperationKind::Txn(inner)) => Body::Txn(self.execute(inner, path)?),
                None => return Err(ApplyError::UnknownCommand.into()),
            };
            responses.push(Response { revision: self.visible().newest, body });
        }
        Ok(TxnResponse { succeeded, responses })
    }

    fn holds(&self, compare: &Compare) -> Result<bool, ReadError> {
        let mut found = false;
        for kv in newest(self.store, bounds(&compare.key, &compare.range_end)) {
            found = true;
            if !relates(compare, &kv?) {
                return Ok(false);
            }
        }
        // etcd compares a missing key as one with zeros, but never its value (`txn.go` applyCompare).
        let of_value = matches!(compare.target, Some(Target::Value(_)));
        Ok(found || !of_value && relates(compare, &KeyValue::default()))
    }
}

fn branch(txn: &Txn, succeeded: bool) -> &[Operation] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn relates(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target {
        Some(Target::Version(given)) => kv.version.cmp(given),
        Some(Target::Create(given)) => kv.create_revision.cmp(given),
        Some(Target::Mod(given)) => kv.mod_revision.cmp(given),
        Some(Target::Value(given)) => kv.value.cmp(given),
        Some(Target::Lease(given)) => kv.lease.cmp(given),
        None => kv.version.cmp(&0),
    };
    match compare.relation() {
        Relation::Equal => order.is_eq(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
        Relation::NotEqual => order.is_ne(),
    }
}
