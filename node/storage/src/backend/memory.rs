//! An engine in memory that forgets what was not persisted. For tests and the simulator.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::{Backend, BackendError, Batch, Change, Pair, Table, View};

type Tables = BTreeMap<(Table, Bytes), Bytes>;
type End = Bound<(Table, Bytes)>;

#[derive(Debug, Default)]
struct State {
    now: Arc<Tables>,
    persisted: Arc<Tables>,
    /// Batches since the last persist, oldest first.
    unpersisted: Vec<Batch>,
}

/// The engine. Clones are the same engine.
#[derive(Clone, Debug, Default)]
pub struct MemoryBackend {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone)]
struct MemoryView(Arc<Tables>);

fn apply(tables: &mut Arc<Tables>, batch: &Batch) {
    let tables = Arc::make_mut(tables);
    for change in &batch.changes {
        match change {
            Change::Put(table, key, value) => drop(tables.insert((*table, key.clone()), value.clone())),
            Change::Delete(table, key) => drop(tables.remove(&(*table, key.clone()))),
        }
    }
}

impl MemoryBackend {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine stops: of the batches that were not persisted the first `keep(their number)` survive.
    pub fn crash(&self, keep: impl FnOnce(usize) -> usize) {
        let mut state = self.lock();
        let batches = std::mem::take(&mut state.unpersisted);
        let kept = keep(batches.len());
        let mut tables = Arc::clone(&state.persisted);
        for batch in batches.iter().take(kept) {
            apply(&mut tables, batch);
        }
        state.persisted = Arc::clone(&tables);
        state.now = tables;
    }
}

impl Backend for MemoryBackend {
    fn view(&self) -> Box<dyn View> {
        Box::new(MemoryView(Arc::clone(&self.lock().now)))
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let mut state = self.lock();
        apply(&mut state.now, &batch);
        state.unpersisted.push(batch);
        Ok(())
    }

    fn persist(&self) -> Result<(), BackendError> {
        let mut state = self.lock();
        state.unpersisted.clear();
        state.persisted = Arc::clone(&state.now);
        Ok(())
    }

    fn replace(&self, batch: Batch) -> Result<(), BackendError> {
        let mut tables = Arc::default();
        apply(&mut tables, &batch);
        *self.lock() = State { now: Arc::clone(&tables), persisted: tables, unpersisted: Vec::new() };
        Ok(())
    }

    fn size_bytes(&self) -> (u64, u64) {
        let size = self.lock().now.iter().map(|((_, key), value)| (key.len() + value.len()) as u64).sum();
        (size, size)
    }
}

/// The bounds of one table's pairs among all.
fn within(table: Table, from: Bound<Bytes>, to: Bound<Bytes>) -> (End, End) {
    let from = match from {
        Bound::Included(key) => Bound::Included((table, key)),
        Bound::Excluded(key) => Bound::Excluded((table, key)),
        Bound::Unbounded => Bound::Included((table, Bytes::new())),
    };
    let to = match to {
        Bound::Included(key) => Bound::Included((table, key)),
        Bound::Excluded(key) => Bound::Excluded((table, key)),
        Bound::Unbounded => {
            let next = Table::ALL.into_iter().find(|other| *other > table);
            next.map_or(Bound::Unbounded, |next| Bound::Excluded((next, Bytes::new())))
        }
    };
    (from, to)
}

impl View for MemoryView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        Ok(self.0.get(&(table, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        from: Bound<Bytes>,
        to: Bound<Bytes>,
    ) -> Box<dyn Iterator<Item = Result<Pair, BackendError>> + 'a> {
        if super::is_empty(&from, &to) {
            return Box::new(std::iter::empty());
        }
        Box::new(
            self.0.range(within(table, from, to)).map(|((_, key), value)| Ok((key.clone(), value.clone()))),
        )
    }

    fn duplicate(&self) -> Box<dyn View> {
        Box::new(self.clone())
    }
}
