//! Reads of one consistent state, on any thread.

use std::ops::Bound;
use std::sync::Arc;

use quorate_storage::backend::{Table, View};

use crate::command::Alarm;
use crate::error::{ApplyError, MachineError, ReadError};
use crate::event::{Event, EventKind, KeyValue};
use crate::lease;
use crate::mutants::mutant;
use crate::mvcc::range::{self, Span};
use crate::mvcc::{compaction, layout, versions};
use crate::request::Range;
use crate::response::RangeResponse;
use crate::store::{Pairs, Store};

/// A state. Cheap to clone; holds the engine's view as long as it lives.
#[derive(Clone, Debug)]
pub struct Reader {
    view: Arc<dyn View>,
    span: Span,
    alarms: Arc<[Alarm]>,
}

impl Store for Arc<dyn View> {
    fn get(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<bytes::Bytes>, quorate_storage::backend::BackendError> {
        View::get(&**self, table, key)
    }

    fn scan(&self, table: Table, from: Bound<bytes::Bytes>, to: Bound<bytes::Bytes>) -> Pairs<'_> {
        View::scan(&**self, table, from, to)
    }
}

impl Reader {
    pub(crate) fn new(view: Arc<dyn View>, span: Span, alarms: Arc<[Alarm]>) -> Self {
        Self { view, span, alarms }
    }

    /// The engine's view below, with everything that a snapshot holds.
    #[must_use]
    pub fn view(&self) -> &Arc<dyn View> {
        &self.view
    }

    /// The alarms, sorted.
    #[must_use]
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    /// The newest revision inside.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.span.newest
    }

    /// Reads below this revision are refused.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.span.compacted
    }

    /// Serves a read.
    ///
    /// # Errors
    /// A revision that is compacted or in the future; the engine's.
    pub fn range(&self, request: &Range) -> Result<RangeResponse, ReadError> {
        range::range(&self.view, request, self.span)
    }

    /// What happened in the revisions `from..=to`, in order; watchers catch up by it.
    ///
    /// # Errors
    /// [`ApplyError::Compacted`] if some of it is forgotten; the engine's.
    pub fn events(&self, from: i64, to: i64) -> Result<Vec<Event>, ReadError> {
        if from <= self.span.compacted && self.span.compacted > 0 {
            return Err(ApplyError::Compacted.into());
        }
        let begin = from + i64::from(mutant!(CatchUpSkipsRevision)) - i64::from(mutant!(CatchUpTooEarly));
        let bounds = (
            Bound::Included(layout::change_key(begin, 0)),
            Bound::Included(layout::change_key(to.min(self.span.newest), u32::MAX)),
        );
        let mut events = Vec::new();
        for pair in Store::scan(&self.view, Table::Changes, bounds.0, bounds.1) {
            let (row, value) = pair?;
            let (revision, kind, key) = layout::change(&row, &value)?;
            let prev_kv = versions::at(&self.view, &key, revision - i64::from(!mutant!(CatchUpWrongPrevKv)))?;
            let kv = match kind {
                EventKind::Put => {
                    versions::at(&self.view, &key, revision)?.ok_or(MachineError::Malformed("change"))?
                }
                EventKind::Delete => KeyValue { key, mod_revision: revision, ..KeyValue::default() },
            };
            events.push(Event { kind, kv, prev_kv });
        }
        Ok(events)
    }

    /// The keys on a lease.
    ///
    /// # Errors
    /// The engine's.
    pub fn lease_keys(&self, id: i64) -> Result<Vec<bytes::Bytes>, MachineError> {
        lease::keys(&self.view, id)
    }

    /// Every lease with its time to live in seconds.
    ///
    /// # Errors
    /// The engine's.
    pub fn leases(&self) -> Result<Vec<(i64, i64)>, MachineError> {
        lease::all(&self.view)
    }

    /// A hash over every version that reads up to `revision` can see (0: the newest); equal on members that are equal,
    /// however far each has removed what was compacted.
    ///
    /// # Errors
    /// A revision that is compacted or in the future; the engine's.
    pub fn hash(&self, revision: i64) -> Result<u32, ReadError> {
        if revision > self.span.newest {
            return Err(ApplyError::FutureRevision.into());
        }
        if revision > 0 && revision < self.span.compacted {
            return Err(ApplyError::Compacted.into());
        }
        let revision = if revision > 0 { revision } else { self.span.newest };
        Ok(compaction::hash(&self.view, self.span.compacted, revision)?)
    }
}
