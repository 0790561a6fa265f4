//! Range reads (etcd `server/etcdserver/txn/range.go`).

use std::cmp::Ordering;
use std::ops::Bound;

use bytes::Bytes;

use quorate_storage::backend::Table;

use super::since::Since;
use super::versions::{self, Version, bounds, newest};
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
    let limits = bounds(&request.key, &request.range_end);
    let collector = Collector::new(request);
    let revision = request.revision;
    if request.range_end.is_empty() {
        let found = match past {
            true => versions::at(store, &request.key, revision)?,
            false => newest(store, limits).next().transpose()?,
        };
        let counted = u64::from(found.is_some());
        return Ok(collector.collect(found.map(Ok).into_iter(), || Ok(counted))?);
    }
    if !past {
        return Ok(collector.collect(newest(store, limits.clone()), || count(store, &limits))?);
    }
    if let Some(since) = Since::of(store, &limits, revision, span.newest)? {
        return Ok(collector.collect(since.pairs(store, limits), || Ok(since.count()))?);
    }
    let visible = |found: Vec<Version>| found.into_iter().find(|(at, _)| *at <= revision)?.1;
    let mut walked = collector;
    for found in versions::versions(store, limits) {
        if let Some(kv) = visible(found?.1) {
            walked.take(kv);
        }
    }
    Ok(walked.finish())
}

/// How many keys stand within bounds now.
pub(crate) fn count(
    store: &impl Store,
    (from, to): &(Bound<Bytes>, Bound<Bytes>),
) -> Result<u64, MachineError> {
    let before = |key: &Bytes| -> Result<u64, MachineError> {
        let chunk = store.counts().chunk(key);
        let mut keys = chunk.before;
        for pair in store.scan(Table::Newest, Bound::Included(chunk.first), Bound::Excluded(key.clone())) {
            pair?;
            keys += 1;
        }
        Ok(keys)
    };
    let until = match to {
        Bound::Unbounded => store.counts().keys(),
        Bound::Excluded(key) => before(key)?,
        Bound::Included(key) => before(key)? + u64::from(store.get(Table::Newest, key)?.is_some()),
    };
    let from = match from {
        Bound::Unbounded => 0,
        Bound::Included(key) => before(key)?,
        Bound::Excluded(key) => before(key)? + u64::from(store.get(Table::Newest, key)?.is_some()),
    };
    Ok(until.saturating_sub(from))
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
        let keep_max = if request.count_only {
            0
        } else if limit == 0 || sorted || filtered != 0 {
            usize::MAX
        } else {
            limit + 1
        };
        Self { request, order, target, keep_max, kvs: Vec::new(), count: 0 }
    }

    /// Takes pairs in the order of keys until it has enough; how many there are in all is asked only if it did not see them all.
    fn collect(
        mut self,
        mut pairs: impl Iterator<Item = Result<KeyValue, MachineError>>,
        count: impl FnOnce() -> Result<u64, MachineError>,
    ) -> Result<RangeResponse, MachineError> {
        while self.kvs.len() < self.keep_max {
            match pairs.next() {
                Some(kv) => self.take(kv?),
                None => return Ok(self.finish()),
            }
        }
        self.count = i64::try_from(count()?).unwrap_or(i64::MAX);
        Ok(self.finish())
    }

    fn take(&mut self, kv: KeyValue) {
        self.count += 1;
        if self.kvs.len() < self.keep_max {
            self.kvs.push(kv);
        }
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
