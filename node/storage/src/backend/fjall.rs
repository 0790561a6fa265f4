//! The engine on disk: fjall, an LSM tree in safe Rust.
//!
//! One keyspace holds a group, with the table as the key's first byte: a flush of a memtable then never splits a batch.
//! fjall's own journal is buffered and synced by [`Backend::persist`] alone.

use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Snapshot};

use super::{Backend, BackendError, Batch, Change, Pair, Table, View};

/// What a group keeps in memory before it is sorted into files. fjall's own 64 MiB made up most of a busy member's memory and
/// gained nothing measurable; it recommends 8 to 64 MiB. A group made before keeps what it was made with.
const MEMTABLE_BYTES_MAX: u64 = 16 << 20;

/// Where the engine's files lie, and its memory.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Memory for blocks that were read, of all groups together.
    pub cache_bytes: u64,
}

/// The engine's own default. Under writes of few keys any cache fills with blocks of files that were merged away since, so its
/// size is memory that a member takes for good; below it lies the system's cache of the files.
const CACHE_BYTES: u64 = 32 << 20;

impl Default for EngineConfig {
    fn default() -> Self {
        Self { cache_bytes: CACHE_BYTES }
    }
}

/// The engine of a process: every group's backend comes from here.
#[derive(Clone)]
pub struct Engine {
    database: Database,
}

/// One group's tables.
pub struct FjallBackend {
    database: Database,
    keyspace: Keyspace,
}

struct FjallView {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl std::fmt::Debug for FjallBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallBackend").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FjallView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallView").finish_non_exhaustive()
    }
}

fn failed(operation: &'static str) -> impl FnOnce(fjall::Error) -> BackendError {
    move |source| BackendError { operation, source: Box::new(source) }
}

impl Engine {
    /// Opens (makes) the engine in a folder.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(path: &Path, config: EngineConfig) -> Result<Self, BackendError> {
        let database = Database::builder(path)
            .cache_size(config.cache_bytes)
            .manual_journal_persist(true)
            .open()
            .map_err(failed("open its files"))?;
        Ok(Self { database })
    }

    /// A group's backend, made empty if it is new.
    ///
    /// # Errors
    /// The engine's.
    pub fn group(&self, group: u64) -> Result<FjallBackend, BackendError> {
        let name = format!("group-{group}");
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES_MAX);
        let keyspace = self.database.keyspace(&name, options).map_err(failed("open a group"))?;
        Ok(FjallBackend { database: self.database.clone(), keyspace })
    }
}

fn fill(bytes: &mut Vec<u8>, table: Table, key: &[u8]) {
    bytes.clear();
    bytes.push(table as u8);
    bytes.extend_from_slice(key);
}

fn key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    fill(&mut bytes, table, key);
    bytes
}

impl Backend for FjallBackend {
    fn view(&self) -> Box<dyn View> {
        Box::new(FjallView { snapshot: self.database.snapshot(), keyspace: self.keyspace.clone() })
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let mut write = OwnedWriteBatch::with_capacity(self.database.clone(), batch.changes.len());
        let mut key = Vec::new();
        for change in batch.changes {
            match change {
                Change::Put(table, name, value) => {
                    fill(&mut key, table, &name);
                    write.insert(&self.keyspace, &*key, &*value);
                }
                Change::Delete(table, name) => {
                    fill(&mut key, table, &name);
                    write.remove(&self.keyspace, &*key);
                }
            }
        }
        write.commit().map_err(failed("commit a batch"))
    }

    fn persist(&self) -> Result<(), BackendError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed("sync its journal"))
    }

    fn clear(&self) -> Result<(), BackendError> {
        self.keyspace.clear().map_err(failed("clear a group"))?;
        self.persist()
    }

    fn size_bytes(&self) -> (u64, u64) {
        let used = self.keyspace.disk_space();
        (self.database.disk_space().unwrap_or(used), used)
    }
}

impl FjallView {
    fn range(&self, table: Table, from: Bound<Bytes>, to: Bound<Bytes>) -> fjall::Iter {
        let from = match from {
            Bound::Included(name) => Bound::Included(key(table, &name)),
            Bound::Excluded(name) => Bound::Excluded(key(table, &name)),
            Bound::Unbounded => Bound::Included(key(table, b"")),
        };
        let to = match to {
            Bound::Included(name) => Bound::Included(key(table, &name)),
            Bound::Excluded(name) => Bound::Excluded(key(table, &name)),
            Bound::Unbounded => Bound::Excluded(vec![table as u8 + 1]),
        };
        self.snapshot.range(&self.keyspace, (from, to))
    }
}

fn pair(guard: fjall::Guard) -> Result<Pair, BackendError> {
    let (key, value) = guard.into_inner().map_err(failed("read a pair"))?;
    Ok((Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(&value)))
}

impl View for FjallView {
    fn get(&self, table: Table, name: &[u8]) -> Result<Option<Bytes>, BackendError> {
        let value = self.snapshot.get(&self.keyspace, key(table, name)).map_err(failed("read a value"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
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
        Box::new(self.range(table, from, to).map(pair))
    }

    fn scan_back<'a>(
        &'a self,
        table: Table,
        from: Bound<Bytes>,
        to: Bound<Bytes>,
    ) -> Box<dyn Iterator<Item = Result<Pair, BackendError>> + 'a> {
        if super::is_empty(&from, &to) {
            return Box::new(std::iter::empty());
        }
        Box::new(self.range(table, from, to).rev().map(pair))
    }

    fn duplicate(&self) -> Box<dyn View> {
        Box::new(Self { snapshot: self.snapshot.clone(), keyspace: self.keyspace.clone() })
    }
}
