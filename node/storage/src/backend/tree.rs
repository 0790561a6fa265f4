//! The engine on disk: the LSM tree of fjall, in safe Rust, without a journal of its own. The replicated log is the journal.
//!
//! A group is one tree, with the table as the first byte of a key, so that one memtable holds whole batches and a file that is
//! made of it does, too. What no file holds is lost in a crash and applied again from the log. Nothing on the way of a batch
//! waits for the disk: files are written and merged by two threads of the group, and [`Backend::has_room`] says when they have
//! fallen behind.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use lsm_tree::compaction::Leveled;
use lsm_tree::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use lsm_tree::{AbstractTree, AnyTree, Cache, Config, Guard, IterGuardImpl, SeqNo, SequenceNumberCounter};

use super::{Backend, BackendError, Batch, Change, Pair, Table, View, generation};

/// What a group keeps in memory before it is sorted into a file. Larger ones gained nothing measurable.
const MEMTABLE_BYTES_MAX: u64 = 8 << 20;
/// Memtables that wait to become files; with more there is no room.
const SEALED_MAX: usize = 3;
/// Files that are not merged yet and that every read may have to look into; with more there is no room.
const UNMERGED_MAX: usize = 20;

/// The engine's memory.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Memory for blocks that were read, of all groups together.
    pub cache_bytes: u64,
}

/// Under writes of few keys any cache fills with blocks of files that were merged away since, so its size is memory that a
/// member takes for good; below it lies the system's cache of the files.
const CACHE_BYTES: u64 = 16 << 20;

impl Default for EngineConfig {
    fn default() -> Self {
        Self { cache_bytes: CACHE_BYTES }
    }
}

/// The engine of a process: every group's backend comes from here.
#[derive(Clone)]
pub struct Engine {
    folder: PathBuf,
    cache: Arc<Cache>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Engine {
    /// The engine in a folder.
    #[must_use]
    pub fn new(folder: &Path, config: EngineConfig) -> Self {
        Self { folder: folder.to_owned(), cache: Arc::new(Cache::with_capacity_bytes(config.cache_bytes)) }
    }

    /// A group's backend, made empty if it is new.
    ///
    /// # Errors
    /// The engine's.
    pub fn group(&self, group: u64) -> Result<TreeBackend, BackendError> {
        let folder = self.folder.join(format!("group-{group}"));
        std::fs::create_dir_all(&folder).map_err(failed("make a folder"))?;
        let generation = generation::read(&folder).map_err(failed("read which state counts"))?;
        generation::remove_others(&folder, generation)
            .map_err(failed("remove what is left of another state"))?;
        let group = Group::open(&folder, generation, Arc::clone(&self.cache))?;
        Ok(TreeBackend {
            folder,
            cache: Arc::clone(&self.cache),
            running: Mutex::new(Running::start(group)?),
        })
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    operation: &'static str,
) -> impl FnOnce(E) -> BackendError {
    move |source| BackendError { operation, source: Box::new(source) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Live views, by the number that each sees what lies below of.
type Views = BTreeMap<SeqNo, usize>;

struct Group {
    folder: PathBuf,
    generation: u64,
    /// Another state has taken the place of this one: its files go with the last view.
    replaced: AtomicBool,
    tree: AnyTree,
    /// The number of the next batch, or of the next set of files.
    next: SequenceNumberCounter,
    visible: SequenceNumberCounter,
    /// Held while a batch is written: a view is made of whole batches, and so is a memtable.
    views: Mutex<Views>,
    ending: AtomicBool,
    /// What a thread of the group failed at; told to the next one who asks for something.
    failure: Mutex<Option<BackendError>>,
}

impl Drop for Group {
    fn drop(&mut self) {
        // What can't be removed now is removed at the next start.
        if self.replaced.load(Ordering::Relaxed) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl Group {
    fn open(folder: &Path, generation: u64, cache: Arc<Cache>) -> Result<Arc<Self>, BackendError> {
        let folder = generation::folder(folder, generation);
        // An engine's view is of a number at least 1: it sees what has a lower one.
        let (next, visible) = (SequenceNumberCounter::new(1), SequenceNumberCounter::new(1));
        let tree = Config::new(&folder, next.clone(), visible.clone())
            .use_cache(cache)
            .filter_policy(FilterPolicy::new([
                FilterPolicyEntry::Bloom(BloomConstructionPolicy::FalsePositiveRate(0.0001)),
                FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)),
            ]))
            .open()
            .map_err(failed("open a group"))?;
        let from = tree.get_highest_seqno().map_or(1, |highest| highest + 1);
        next.fetch_max(from);
        visible.fetch_max(from);
        Ok(Arc::new(Self {
            folder,
            generation,
            replaced: AtomicBool::new(false),
            tree,
            next,
            visible,
            views: Mutex::default(),
            ending: AtomicBool::new(false),
            failure: Mutex::default(),
        }))
    }

    /// Writes a batch into the memtable; whether that is full now.
    fn write(&self, batch: Batch) -> bool {
        let _whole = lock(&self.views);
        let number = self.next.next();
        let mut bytes = Vec::new();
        for change in batch.changes {
            match change {
                Change::Put(table, name, value) => {
                    fill(&mut bytes, table, &name);
                    self.tree.insert(&bytes[..], &value[..], number)
                }
                Change::Delete(table, name) => {
                    fill(&mut bytes, table, &name);
                    self.tree.remove(&bytes[..], number)
                }
            };
        }
        self.visible.fetch_max(number + 1);
        let full = self.tree.active_memtable().size() >= MEMTABLE_BYTES_MAX;
        if full {
            self.tree.rotate_memtable();
        }
        full
    }

    /// Makes a file of everything that is in memory, durably.
    fn persist(&self) -> Result<(), BackendError> {
        let whole = lock(&self.views);
        self.tree.rotate_memtable();
        drop(whole);
        self.flush()
    }

    fn view(self: &Arc<Self>) -> TreeView {
        let mut views = lock(&self.views);
        let number = self.visible.get();
        *views.entry(number).or_default() += 1;
        TreeView { group: Arc::clone(self), number }
    }

    /// What lies below and is hidden by something else below is seen by no view.
    fn forgettable(&self) -> SeqNo {
        let views = lock(&self.views);
        let oldest = views.keys().next().copied().unwrap_or_else(|| self.visible.get());
        oldest.saturating_sub(1)
    }

    /// Makes files of all memtables that are sealed, durably.
    fn flush(&self) -> Result<(), BackendError> {
        let flushing = self.tree.get_flush_lock();
        self.tree.flush(&flushing, self.forgettable()).map_err(failed("write a file"))?;
        drop(flushing);
        self.forget_versions()
    }

    /// Merges files until they are few enough, or the group ends.
    fn merge(&self) -> Result<(), BackendError> {
        let strategy = Arc::new(Leveled::default());
        while !self.ending.load(Ordering::Relaxed) {
            let before = self.tree.current_version().id();
            self.tree.compact(strategy.clone(), self.forgettable()).map_err(failed("merge files"))?;
            self.forget_versions()?;
            if self.tree.current_version().id() == before {
                break;
            }
        }
        Ok(())
    }

    /// Sets of files that no view reads are given up; those of the newest stay.
    fn forget_versions(&self) -> Result<(), BackendError> {
        let watermark = self.forgettable();
        self.tree
            .get_version_history_lock()
            .maintenance(&self.folder, watermark)
            .map_err(failed("remove old files"))
    }

    fn run(
        &self,
        jobs: &Receiver<()>,
        job: impl Fn(&Self) -> Result<(), BackendError>,
        next: Option<SyncSender<()>>,
    ) {
        while jobs.recv().is_ok() {
            if let Err(error) = job(self) {
                *lock(&self.failure) = Some(error);
                return;
            }
            if let Some(next) = &next {
                wake(next);
            }
        }
    }
}

/// A wake-up that is not taken yet stands for this one, too; who has ended left a failure.
fn wake(thread: &SyncSender<()>) {
    match thread.try_send(()) {
        Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
    }
}

/// A group's state with its threads.
struct Running {
    group: Arc<Group>,
    /// `None` while it ends.
    flush: Option<SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(group: Arc<Group>) -> Result<Self, BackendError> {
        let (flush, flushes) = sync_channel(1);
        let (merge, merges) = sync_channel(1);
        wake(&merge);
        let (flusher, merger) = (Arc::clone(&group), Arc::clone(&group));
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(work).map_err(failed("start a thread"))
        };
        let threads = vec![
            spawn("engine-flush", Box::new(move || flusher.run(&flushes, Group::flush, Some(merge))))?,
            spawn("engine-merge", Box::new(move || merger.run(&merges, Group::merge, None)))?,
        ];
        Ok(Self { group, flush: Some(flush), threads })
    }

    fn wake(&self) {
        if let Some(flush) = &self.flush {
            wake(flush);
        }
    }

    fn check(&self) -> Result<(), BackendError> {
        lock(&self.group.failure).take().map_or(Ok(()), Err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.group.ending.store(true, Ordering::Relaxed);
        self.flush = None;
        for thread in self.threads.drain(..) {
            // One that panicked has nothing to be waited for.
            let _ = thread.join();
        }
    }
}

/// One group's tables.
pub struct TreeBackend {
    folder: PathBuf,
    cache: Arc<Cache>,
    running: Mutex<Running>,
}

impl std::fmt::Debug for TreeBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeBackend").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl TreeBackend {
    fn group(&self) -> Arc<Group> {
        Arc::clone(&lock(&self.running).group)
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

impl Backend for TreeBackend {
    fn view(&self) -> Box<dyn View> {
        Box::new(self.group().view())
    }

    fn commit(&self, batch: Batch) -> Result<(), BackendError> {
        let running = lock(&self.running);
        running.check()?;
        if running.group.write(batch) {
            running.wake();
        }
        Ok(())
    }

    fn persist(&self) -> Result<(), BackendError> {
        self.group().persist()?;
        let running = lock(&self.running);
        // The merger's turn comes behind the flusher's.
        running.wake();
        running.check()
    }

    fn replace(&self, batch: Batch) -> Result<(), BackendError> {
        let mut running = lock(&self.running);
        let generation = running.group.generation + 1;
        generation::clear(&generation::folder(&self.folder, generation))
            .map_err(failed("remove a state that was begun"))?;
        let group = Group::open(&self.folder, generation, Arc::clone(&self.cache))?;
        group.write(batch);
        group.persist()?;
        let started = Running::start(group)?;
        generation::write(&self.folder, generation).map_err(failed("write which state counts"))?;
        let old = std::mem::replace(&mut *running, started);
        old.group.replaced.store(true, Ordering::Relaxed);
        // Its threads may be in the middle of a long merge.
        thread::Builder::new()
            .name("engine-end".into())
            .spawn(move || drop(old))
            .map_err(failed("start a thread"))?;
        Ok(())
    }

    fn has_room(&self) -> bool {
        let group = self.group();
        // After a failure nothing is written any more, so room would never come: the next batch tells of it.
        lock(&group.failure).is_some()
            || group.tree.sealed_memtable_count() <= SEALED_MAX && group.tree.l0_run_count() <= UNMERGED_MAX
    }

    fn size_bytes(&self) -> (u64, u64) {
        let tree = &self.group().tree;
        let used = tree.disk_space() + tree.active_memtable().size();
        (used, used)
    }
}

struct TreeView {
    group: Arc<Group>,
    /// It sees what has a lower number.
    number: SeqNo,
}

impl std::fmt::Debug for TreeView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeView").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Drop for TreeView {
    fn drop(&mut self) {
        let mut views = lock(&self.group.views);
        if let Some(count) = views.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                views.remove(&self.number);
            }
        }
    }
}

impl TreeView {
    fn range(
        &self,
        table: Table,
        from: Bound<Bytes>,
        to: Bound<Bytes>,
    ) -> Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send + 'static> {
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
        self.group.tree.range((from, to), self.number, None)
    }
}

fn pair(guard: IterGuardImpl) -> Result<Pair, BackendError> {
    let (key, value) = guard.into_inner().map_err(failed("read a pair"))?;
    Ok((Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(&value)))
}

impl View for TreeView {
    fn get(&self, table: Table, name: &[u8]) -> Result<Option<Bytes>, BackendError> {
        let value = self.group.tree.get(key(table, name), self.number).map_err(failed("read a value"))?;
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

    fn duplicate(&self) -> Box<dyn View> {
        *lock(&self.group.views).entry(self.number).or_default() += 1;
        Box::new(Self { group: Arc::clone(&self.group), number: self.number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A replica waits while there is no room, and asks for nothing: it would wait for ever.
    #[test]
    fn a_failure_is_told_even_when_there_is_no_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Arc::new(Cache::with_capacity_bytes(CACHE_BYTES));
        let group = Group::open(folder.path(), 0, Arc::clone(&cache)).expect("opens");
        // No thread writes files, as after a failure.
        let running = Running { group: Arc::clone(&group), flush: None, threads: Vec::new() };
        let running = Mutex::new(running);
        let backend = TreeBackend { folder: folder.path().to_owned(), cache, running };
        for number in 0..=SEALED_MAX {
            assert!(backend.has_room(), "{number} wait");
            let value = Bytes::from(vec![7; 9 << 20]);
            let name = Bytes::from(number.to_string());
            let changes = vec![Change::Put(Table::Newest, name, value)];
            backend.commit(Batch { changes }).expect("there is memory");
        }
        assert!(!backend.has_room());
        *lock(&group.failure) = Some(failed("write a file")(std::io::Error::other("the disk is full")));
        assert!(backend.has_room());
        assert!(backend.commit(Batch::default()).is_err());
    }
}
