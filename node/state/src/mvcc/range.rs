//! Range reads (etcd `server/etcdserver/txn/range.go`).

use std::cmp::Ordering;

use bytes::Bytes;

use quorate_storage::backend::Table;

use super::layout;
use super::versions::{bounds, versions};
use crate::error::{ApplyError, MachineError, ReadError};
use crate::event::KeyValue;
use crate::mutants::mutant;
use crate::request::{Range, SortOrder, SortTarget};
use crate::response::RangeResponse;
use crate::store::Store;

/// The revisions that a read may name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) newest: i64,
    pub(crate) compacted: i64,
}

/// Serves a read.
pub(crate) fn range(store: &impl Store, request: &Range, span: Span) -> Result<RangeResponse, ReadError> {
    if request.revision > span.newest {
        return Err(ApplyError::FutureRevision.into());
    }
    let past = request.revision > 0 && request.revision < span.newest;
    if request.revision > 0 && request.revision < span.compacted && !mutant!(CompactedReadServed) {
        return Err(ApplyError::Compacted.into());
    }
    let mut collector = Collector::new(request);
    let limits = bounds(&request.key, &request.range_end);
    if past {
        for (_, found) in versions(store, limits)? {
            let visible = found.into_iter().find(|(revision, _)| *revision <= request.revision);
            if let Some((_, Some(kv))) = visible {
                collector.take(kv);
            }
        }
    } else {
        for pair in store.scan(Table::Newest, limits.0, limits.1) {
            let (key, value) = pair?;
            collector.take_encoded(key, value)?;
        }
    }
    Ok(collector.finish())
}

struct Collector<'a> {
    request: &'a Range,
    order: SortOrder,
    target: SortTarget,
    /// How many pairs are worth keeping: without an order of its own the first ones, plus one to know of more.
    keep_max: usize,
    kvs: Vec<KeyValue>,
    count: i64,
}

impl<'a> Collector<'a> {
    fn new(request: &'a Range) -> Self {
        let target = request.sort_target();
        let mut order = request.sort_order();
        if order == SortOrder::None && target != SortTarget::Key {
            order = SortOrder::Ascend;
        }
        let filtered = request.min_mod_revision
            | request.max_mod_revision
            | request.min_create_revision
            | request.max_create_revision;
        let sorted = order == SortOrder::Descend || target != SortTarget::Key;
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let keep_max = if limit == 0 || sorted || filtered != 0 { usize::MAX } else { limit + 1 };
        Self { request, order, target, keep_max, kvs: Vec::new(), count: 0 }
    }

    fn wants_pair(&self) -> bool {
        !self.request.count_only && self.kvs.len() < self.keep_max
    }

    fn take(&mut self, kv: KeyValue) {
        self.count += 1;
        if self.wants_pair() {
            self.kvs.push(kv);
        }
    }

    fn take_encoded(&mut self, key: Bytes, value: Bytes) -> Result<(), MachineError> {
        if self.wants_pair() {
            self.count += 1;
            self.kvs.extend(layout::version(key, value)?);
        } else {
            self.count += 1;
        }
        Ok(())
    }

    fn passes(&self, kv: &KeyValue) -> bool {
        let Range { min_mod_revision, max_mod_revision, min_create_revision, max_create_revision, .. } =
            *self.request;
        (min_mod_revision == 0 || kv.mod_revision >= min_mod_revision)
            && (max_mod_revision == 0 || kv.mod_revision <= max_mod_revision)
            && (min_create_revision == 0 || kv.create_revision >= min_create_revision)
            && (max_create_revision == 0 || kv.create_revision <= max_create_revision)
    }

    fn finish(mut self) -> RangeResponse {
        let mut kvs = std::mem::take(&mut self.kvs);
        kvs.retain(|kv| self.passes(kv));
        kvs.sort_by(|left, right| compare(left, right, self.target));
        if self.order == SortOrder::Descend {
            kvs.reverse();
        }
        let limit = usize::try_from(self.request.limit).unwrap_or(0);
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if self.request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse { kvs, more, count: self.count }
    }
}

fn compare(left: &KeyValue, right: &KeyValue, target: SortTarget) -> Ordering {
    match target {
        SortTarget::Key => left.key.cmp(&right.key),
        SortTarget::Version => left.version.cmp(&right.version),
        SortTarget::Create => left.create_revision.cmp(&right.create_revision),
        SortTarget::Mod => left.mod_revision.cmp(&right.mod_revision),
        SortTarget::Value => left.value.cmp(&right.value),
    }
}
