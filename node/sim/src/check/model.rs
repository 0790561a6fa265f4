//! A naive store: what etcd's API promises, written down again in the plainest way, for the checkers.
//!
//! It shares no code with `node/state` but the types of requests and answers, so that a fault there is not repeated here.

use std::collections::BTreeMap;
use std::slice::Iter;

use bytes::Bytes;

use quorate_state::command::CommandKind;
use quorate_state::error::ApplyError;
use quorate_state::event::{Event, EventKind, KeyValue};
use quorate_state::request::{
    Compare, DeleteRange, Operation, OperationKind, Put, Range, Relation, SortOrder, SortTarget, Target, Txn,
};
use quorate_state::response::{Body, RangeResponse, Response, TxnResponse};

/// A store at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    revision: i64,
    compacted: i64,
    keys: BTreeMap<Bytes, KeyValue>,
    /// Leases with their time to live; `None`: every lease is taken to exist.
    leases: Option<BTreeMap<i64, i64>>,
}

/// Whether a key lies in a range as requests have it.
#[must_use]
pub fn inside(key: &Bytes, from: &Bytes, range_end: &Bytes) -> bool {
    match &range_end[..] {
        b"" => key == from,
        b"\0" => key >= from,
        _ => key >= from && key < range_end,
    }
}

impl Model {
    /// An empty store that knows its leases.
    #[must_use]
    pub fn with_leases() -> Self {
        Self { leases: Some(BTreeMap::new()), ..Self::without_leases() }
    }

    /// An empty store that takes every lease to exist: another checker looks after them.
    #[must_use]
    pub fn without_leases() -> Self {
        Self { revision: 1, compacted: 0, keys: BTreeMap::new(), leases: None }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Every pair, by key.
    #[must_use]
    pub fn pairs(&self) -> Vec<KeyValue> {
        self.keys.values().cloned().collect()
    }

    /// The keys on a lease, by key.
    #[must_use]
    pub fn attached(&self, lease: i64) -> Vec<Bytes> {
        self.keys.values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect()
    }

    /// Takes over what happened in the next revision.
    pub fn follow(&mut self, events: &[Event]) {
        for event in events {
            self.revision = event.kv.mod_revision;
            match event.kind {
                EventKind::Put => drop(self.keys.insert(event.kv.key.clone(), event.kv.clone())),
                EventKind::Delete => drop(self.keys.remove(&event.kv.key)),
            }
        }
    }

    /// The answer to a command, and what happened. A denied one changes nothing.
    ///
    /// # Errors
    /// As the store refuses it.
    pub fn apply(&mut self, command: &CommandKind) -> Result<(Response, Vec<Event>), ApplyError> {
        let mut step = Step { model: self, events: Vec::new() };
        let body = match command {
            CommandKind::Put(put) => step.put(put)?,
            CommandKind::DeleteRange(delete) => step.delete(delete),
            CommandKind::Txn(txn) => {
                let mut decided = Vec::new();
                step.decide(txn, &mut decided);
                step.check(txn, &mut decided.iter())?;
                Body::Txn(step.txn(txn, &mut decided.iter()))
            }
            CommandKind::Compact(revision) => step.model.compact(*revision)?,
            CommandKind::LeaseGrant(grant) => step.model.grant(grant.id, grant.ttl_s)?,
            CommandKind::LeaseRevoke(revoke) => step.revoke(revoke.id)?,
            CommandKind::Alarm(_) => Body::Alarm(Vec::new()),
            CommandKind::RaiseLevel(_) => Body::RaiseLevel,
        };
        let events = step.events;
        self.revision += i64::from(!events.is_empty());
        Ok((Response { revision: self.revision, body }, events))
    }

    /// The answer to a command, and what would happen, without letting it happen. Only where leases are not kept.
    ///
    /// # Errors
    /// As the store refuses it.
    pub fn answer(&mut self, command: &CommandKind) -> Result<(Response, Vec<Event>), ApplyError> {
        let (revision, compacted) = (self.revision, self.compacted);
        let result = self.apply(command);
        (self.revision, self.compacted) = (revision, compacted);
        for event in result.iter().flat_map(|(_, events)| events).rev() {
            match &event.prev_kv {
                Some(kv) => drop(self.keys.insert(kv.key.clone(), kv.clone())),
                None => drop(self.keys.remove(&event.kv.key)),
            }
        }
        result
    }

    /// A lease ends without a client's word. Nothing happens if it is not there.
    pub fn expire(&mut self, lease: i64) {
        let mut step = Step { model: self, events: Vec::new() };
        let happened = step.revoke(lease).is_ok() && !step.events.is_empty();
        self.revision += i64::from(happened);
    }

    /// The answer to a read of the newest revision.
    #[must_use]
    pub fn range(&self, range: &Range) -> RangeResponse {
        let found = self.keys.values().filter(|kv| inside(&kv.key, &range.key, &range.range_end));
        let mut kvs: Vec<KeyValue> = found.cloned().collect();
        let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        if range.count_only {
            return RangeResponse { kvs: Vec::new(), more: false, count };
        }
        kvs.retain(|kv| {
            let above = |bound: i64, value: i64| bound == 0 || value >= bound;
            let below = |bound: i64, value: i64| bound == 0 || value <= bound;
            above(range.min_mod_revision, kv.mod_revision)
                && below(range.max_mod_revision, kv.mod_revision)
                && above(range.min_create_revision, kv.create_revision)
                && below(range.max_create_revision, kv.create_revision)
        });
        match range.sort_target() {
            SortTarget::Key => {}
            SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
            SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
            SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
            SortTarget::Value => kvs.sort_by(|left, right| left.value.cmp(&right.value)),
        }
        if range.sort_order() == SortOrder::Descend {
            kvs.reverse();
        }
        let limit = usize::try_from(range.limit).unwrap_or(0);
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse { kvs, more, count }
    }

    fn has_lease(&self, lease: i64) -> bool {
        lease == 0 || self.leases.as_ref().is_none_or(|leases| leases.contains_key(&lease))
    }

    fn compact(&mut self, revision: i64) -> Result<Body, ApplyError> {
        if revision <= self.compacted {
            return Err(ApplyError::Compacted);
        }
        if revision > self.revision {
            return Err(ApplyError::FutureRevision);
        }
        self.compacted = revision;
        Ok(Body::Compact)
    }

    fn grant(&mut self, lease: i64, ttl_s: i64) -> Result<Body, ApplyError> {
        let Some(leases) = &mut self.leases else { return Ok(Body::LeaseGrant) };
        match leases.insert(lease, ttl_s) {
            None => Ok(Body::LeaseGrant),
            Some(before) => {
                leases.insert(lease, before);
                Err(ApplyError::LeaseExists)
            }
        }
    }
}

/// One command under way: everything it writes is of one revision.
struct Step<'a> {
    model: &'a mut Model,
    events: Vec<Event>,
}

impl Step<'_> {
    fn revision(&self) -> i64 {
        self.model.revision + 1
    }

    /// The newest revision as answers within the command name it.
    fn visible(&self) -> i64 {
        self.model.revision + i64::from(!self.events.is_empty())
    }

    fn put(&mut self, put: &Put) -> Result<Body, ApplyError> {
        if !self.model.has_lease(put.lease) {
            return Err(ApplyError::LeaseNotFound);
        }
        let before = self.model.keys.get(&put.key).cloned();
        if (put.ignore_value || put.ignore_lease) && before.is_none() {
            return Err(ApplyError::KeyNotFound);
        }
        let revision = self.revision();
        let old = before.clone().unwrap_or_default();
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: if before.is_some() { old.create_revision } else { revision },
            mod_revision: revision,
            version: old.version + 1,
            value: if put.ignore_value { old.value } else { put.value.clone() },
            lease: if put.ignore_lease { old.lease } else { put.lease },
        };
        self.model.keys.insert(put.key.clone(), kv.clone());
        self.events.push(Event { kind: EventKind::Put, kv, prev_kv: before.clone() });
        Ok(Body::Put { prev_kv: before.filter(|_| put.prev_kv) })
    }

    fn delete(&mut self, delete: &DeleteRange) -> Body {
        let found: Vec<KeyValue> = self
            .model
            .keys
            .values()
            .filter(|kv| inside(&kv.key, &delete.key, &delete.range_end))
            .cloned()
            .collect();
        found.iter().for_each(|kv| self.forget(kv.clone()));
        let deleted = i64::try_from(found.len()).unwrap_or(i64::MAX);
        Body::DeleteRange { deleted, prev_kvs: if delete.prev_kv { found } else { Vec::new() } }
    }

    fn forget(&mut self, before: KeyValue) {
        self.model.keys.remove(&before.key);
        let kv = KeyValue { key: before.key.clone(), mod_revision: self.revision(), ..KeyValue::default() };
        self.events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(before) });
    }

    fn revoke(&mut self, lease: i64) -> Result<Body, ApplyError> {
        if !self.model.has_lease(lease) {
            return Err(ApplyError::LeaseNotFound);
        }
        if let Some(leases) = &mut self.model.leases {
            leases.remove(&lease);
        }
        let attached: Vec<KeyValue> =
            self.model.keys.values().filter(|kv| kv.lease == lease).cloned().collect();
        attached.into_iter().for_each(|kv| self.forget(kv));
        Ok(Body::LeaseRevoke)
    }

    /// Whether the conditions hold of a transaction, and of those within it that its choice leads to, before anything is written.
    fn decide(&self, txn: &Txn, decided: &mut Vec<bool>) {
        let holds = txn.compares.iter().all(|compare| self.holds(compare));
        decided.push(holds);
        for operation in chosen(txn, holds) {
            if let Some(OperationKind::Txn(inner)) = &operation.kind {
                self.decide(inner, decided);
            }
        }
    }

    /// What forbids a transaction, before anything is written.
    fn check(&self, txn: &Txn, decided: &mut Iter<'_, bool>) -> Result<(), ApplyError> {
        let holds = decided.next().copied().unwrap_or_default();
        for operation in chosen(txn, holds) {
            match &operation.kind {
                Some(OperationKind::Put(put)) if !self.model.has_lease(put.lease) => {
                    return Err(ApplyError::LeaseNotFound);
                }
                Some(OperationKind::Range(range)) if range.revision > self.model.revision => {
                    return Err(ApplyError::FutureRevision);
                }
                Some(OperationKind::Txn(inner)) => self.check(inner, decided)?,
                Some(OperationKind::Put(_) | OperationKind::Range(_) | OperationKind::DeleteRange(_))
                | None => {}
            }
        }
        Ok(())
    }

    fn txn(&mut self, txn: &Txn, decided: &mut Iter<'_, bool>) -> TxnResponse {
        let succeeded = decided.next().copied().unwrap_or_default();
        let mut responses = Vec::new();
        for operation in chosen(txn, succeeded) {
            let body = match &operation.kind {
                Some(OperationKind::Range(range)) => Body::Range(self.model.range(range)),
                // Checked before.
                Some(OperationKind::Put(put)) => self.put(put).unwrap_or(Body::Put { prev_kv: None }),
                Some(OperationKind::DeleteRange(delete)) => self.delete(delete),
                Some(OperationKind::Txn(inner)) => Body::Txn(self.txn(inner, decided)),
                None => continue,
            };
            responses.push(Response { revision: self.visible(), body });
        }
        TxnResponse { succeeded, responses }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found: Vec<&KeyValue> =
            self.model.keys.values().filter(|kv| inside(&kv.key, &compare.key, &compare.range_end)).collect();
        if found.is_empty() {
            let of_value = matches!(compare.target, Some(Target::Value(_)));
            return !of_value && relates(compare, &KeyValue::default());
        }
        found.into_iter().all(|kv| relates(compare, kv))
    }
}

fn chosen(txn: &Txn, holds: bool) -> &[Operation] {
    if holds { &txn.success } else { &txn.failure }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str) -> Operation {
        let put = Put { key: key.into(), value: "value".into(), ..Put::default() };
        Operation { kind: Some(OperationKind::Put(put)) }
    }

    #[test]
    fn conditions_within_are_judged_before_anything_is_written() {
        let absent = Compare { key: "a".into(), target: Some(Target::Version(0)), ..Compare::default() };
        let inner = Txn { compares: vec![absent], success: vec![put("b")], failure: vec![put("c")] };
        let inner = Operation { kind: Some(OperationKind::Txn(inner)) };
        let outer = Txn { success: vec![put("a"), inner], ..Txn::default() };
        let mut model = Model::with_leases();
        let (_, events) = model.apply(&CommandKind::Txn(outer)).expect("allowed");
        let keys: Vec<&Bytes> = events.iter().map(|event| &event.kv.key).collect();
        assert_eq!(keys, ["a", "b"]);
    }

    #[test]
    fn a_read_of_the_future_refuses_all_of_a_transaction() {
        let range = Range { key: "a".into(), revision: 9, ..Range::default() };
        let read = Operation { kind: Some(OperationKind::Range(range)) };
        let txn = Txn { success: vec![put("a"), read], ..Txn::default() };
        let mut model = Model::with_leases();
        let before = model.clone();
        assert_eq!(model.apply(&CommandKind::Txn(txn)), Err(ApplyError::FutureRevision));
        assert_eq!(model, before);
    }
}
