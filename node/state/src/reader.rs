//! Reads of one consistent state, on any thread.

use std::sync::Arc;

use quorate_storage::backend::View;

use crate::command::Alarm;
use crate::error::{ApplyError, MachineError, ReadError};
use crate::event::{Event, EventKind, KeyValue};
use crate::lease;
use crate::mutants::mutant;
use crate::mvcc::changes::{self, Change, Touch};
use crate::mvcc::range::{self, Span};
use crate::mvcc::{compaction, versions};
use crate::request::Range;
use crate::response::RangeResponse;
use crate::store::Committed;

/// A state. Cheap to clone; holds the engine's view as long as it lives.
#[derive(Clone, Debug)]
pub struct Reader {
    committed: Committed,
    span: Span,
    alarms: Arc<[Alarm]>,
    level: u32,
}

impl Reader {
    pub(crate) fn new(committed: Committed, span: Span, alarms: Arc<[Alarm]>, level: u32) -> Self {
        Self { committed, span, alarms, level }
    }

    pub(crate) fn committed(&self) -> &Committed {
        &self.committed
    }

    /// The engine's view below, with everything that a snapshot holds.
    #[must_use]
    pub fn view(&self) -> &Arc<dyn View> {
        &self.committed.view
    }

    /// The alarms, sorted.
    #[must_use]
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    /// The group's feature level.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
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
        range::range(&self.committed, request, self.span)
    }

    /// What happened in the revisions `from..=to`, in order; watchers catch up by it. A compaction leaves the events of its own
    /// revision (etcd `mvcc/watcher_group.go`, `chooseAll`), without what was there before (`v3rpc/watch.go`, `sendLoop`).
    ///
    /// # Errors
    /// [`ApplyError::Compacted`] if some of it is forgotten; the engine's.
    pub fn events(&self, from: i64, to: i64) -> Result<Vec<Event>, ReadError> {
        if from < self.span.compacted {
            return Err(ApplyError::Compacted.into());
        }
        let begin = from + i64::from(mutant!(CatchUpSkipsRevision)) - i64::from(mutant!(CatchUpTooEarly));
        let mut events = Vec::new();
        for change in changes::between(&self.committed, begin, to.min(self.span.newest)) {
            let Change { revision, touch, key } = change?;
            let before = revision - i64::from(!mutant!(CatchUpWrongPrevKv));
            let prev_kv = if revision > self.span.compacted {
                versions::at(&self.committed, &key, before)?
            } else {
                None
            };
            let (kind, kv) = match touch {
                Touch::Created | Touch::Changed => {
                    let kv = versions::at(&self.committed, &key, revision)?;
                    (EventKind::Put, kv.ok_or(MachineError::Malformed("change"))?)
                }
                Touch::Deleted => {
                    (EventKind::Delete, KeyValue { key, mod_revision: revision, ..KeyValue::default() })
                }
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
        lease::keys(&self.committed, id)
    }

    /// Every lease with its time to live in seconds.
    ///
    /// # Errors
    /// The engine's.
    pub fn leases(&self) -> Result<Vec<(i64, i64)>, MachineError> {
        lease::all(&self.committed)
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
        Ok(compaction::hash(&self.committed, self.span.compacted, revision)?)
    }
}
