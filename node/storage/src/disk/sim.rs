//! A disk in memory that forgets and tears what was not synced. For tests and the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Disk, DiskError, File};

/// The unit that a crash keeps or loses.
pub const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default, Clone)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that were written since the last sync.
    dirty: BTreeSet<usize>,
    /// Sectors that the last two syncs made durable: whether they hold anything is not told by what came later.
    recent: [BTreeSet<usize>; 2],
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    next_file: u64,
    fail_syncs: bool,
    fail_writes: bool,
    full: bool,
    /// The next write lands so many sectors farther on.
    misdirect: Option<usize>,
    /// Syncs of its file since a write was misdirected.
    misdirected: Option<(u64, u32)>,
    /// Handles of before the last crash are dead.
    boot: u64,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    file: u64,
    boot: u64,
    path: PathBuf,
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(operation: &'static str, path: &Path, kind: io::ErrorKind) -> DiskError {
    DiskError { operation, path: path.display().to_string(), source: kind.into() }
}

impl SimDisk {
    /// The machine stops: new names that were not synced are gone, and of each unsynced sector and removal `survives` says
    /// whether it reached the medium. Open handles are dead.
    pub fn crash(&self, mut survives: impl FnMut() -> bool) {
        let mut state = lock(&self.state);
        state.boot += 1;
        let removed = |name: &PathBuf| !state.names.contains_key(name);
        let stays: BTreeMap<PathBuf, u64> = state
            .durable_names
            .iter()
            .filter(|(name, _)| !(removed(name) && survives()))
            .map(|(name, file)| (name.clone(), *file))
            .collect();
        state.durable_names.clone_from(&stays);
        state.names = stays;
        for content in state.files.values_mut() {
            let sectors = std::mem::take(&mut content.dirty);
            for sector in sectors.into_iter().filter(|_| survives()) {
                content.persist(sector);
            }
            content.now = content.durable.clone();
        }
    }

    /// A process ends: names, and what it wrote, stay as they are in the page cache; open handles are dead.
    pub fn kill(&self) {
        lock(&self.state).boot += 1;
    }

    /// From now on writes fail (or work again).
    pub fn fail_writes(&self, fail: bool) {
        lock(&self.state).fail_writes = fail;
    }

    /// From now on no file can be made or grow (or can again).
    pub fn fill(&self, full: bool) {
        lock(&self.state).full = full;
    }

    /// The next write lands so many sectors farther on in its file, and what it was to replace stays.
    pub fn misdirect_next_write(&self, sectors: usize) {
        lock(&self.state).misdirect = Some(sectors);
    }

    /// Writes that were to be misdirected are not.
    pub fn direct_writes(&self) {
        lock(&self.state).misdirect = None;
    }

    /// Whether a write will still be misdirected.
    #[must_use]
    pub fn is_misdirecting(&self) -> bool {
        lock(&self.state).misdirect.is_some()
    }

    /// Whether a write was misdirected and its file was hardly synced since: it may be of the last batch.
    #[must_use]
    pub fn misdirected_lately(&self) -> bool {
        lock(&self.state).misdirected.is_some_and(|(_, syncs)| syncs < 3)
    }

    /// Flips one bit of something durable that is not of the last two syncs of its file; `choose(end)` gives numbers below
    /// `end`. The file, or `None` if there is nothing of that kind.
    pub fn rot_anywhere(&self, mut choose: impl FnMut(usize) -> usize) -> Option<PathBuf> {
        let mut state = lock(&self.state);
        let names: Vec<(PathBuf, u64)> =
            state.durable_names.iter().map(|(name, file)| (name.clone(), *file)).collect();
        let (path, file) = names.get(choose(names.len().max(1)))?.clone();
        let content = state.files.get_mut(&file)?;
        let settled = |sector: usize| {
            !content.dirty.contains(&sector) && content.recent.iter().all(|recent| !recent.contains(&sector))
        };
        let bytes = content.durable.iter().enumerate();
        let used: Vec<usize> =
            bytes.filter(|(at, byte)| **byte != 0 && settled(at / SECTOR_BYTES)).map(|(at, _)| at).collect();
        let at = *used.get(choose(used.len().max(1)))?;
        let mask = 1 << choose(8);
        content.durable[at] ^= mask;
        if let Some(byte) = content.now.get_mut(at) {
            *byte ^= mask;
        }
        Some(path)
    }

    /// Flips one bit of a file as it is on the medium; `false` if the file has no such byte.
    pub fn rot(&self, path: &Path, byte: usize, bit: u8) -> bool {
        let mut state = lock(&self.state);
        let Some(file) = state.names.get(path).copied() else { return false };
        let Some(content) = state.files.get_mut(&file) else { return false };
        let mask = 1 << (bit % 8);
        for copy in [&mut content.now, &mut content.durable] {
            match copy.get_mut(byte) {
                Some(value) => *value ^= mask,
                None => return false,
            }
        }
        true
    }

    /// From now on syncs fail (or work again).
    pub fn fail_syncs(&self, fail: bool) {
        lock(&self.state).fail_syncs = fail;
    }

    /// A copy of the medium, with a life of its own.
    #[must_use]
    pub fn image(&self) -> Self {
        let state = lock(&self.state);
        let copy = State {
            files: state.files.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            next_file: state.next_file,
            fail_syncs: state.fail_syncs,
            fail_writes: state.fail_writes,
            full: state.full,
            misdirect: state.misdirect,
            misdirected: state.misdirected,
            boot: state.boot,
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }
}

impl Content {
    fn persist(&mut self, sector: usize) {
        if self.durable.len() < self.now.len() {
            self.durable.resize(self.now.len(), 0);
        }
        let from = sector * SECTOR_BYTES;
        let to = (from + SECTOR_BYTES).min(self.now.len());
        if from < to {
            self.durable[from..to].copy_from_slice(&self.now[from..to]);
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn File>, DiskError> {
        let mut state = lock(&self.state);
        let file = match state.names.get(path) {
            Some(file) => *file,
            None if create && state.full => return Err(failed("open", path, io::ErrorKind::StorageFull)),
            None if create => {
                state.next_file += 1;
                let file = state.next_file;
                state.names.insert(path.to_owned(), file);
                state.files.insert(file, Content::default());
                file
            }
            None => return Err(failed("open", path, io::ErrorKind::NotFound)),
        };
        let boot = state.boot;
        Ok(Box::new(SimFile { state: Arc::clone(&self.state), file, boot, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = lock(&self.state);
        let file = state.names.remove(from).ok_or_else(|| failed("rename", from, io::ErrorKind::NotFound))?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        lock(&self.state).names.remove(path);
        Ok(())
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        let state = lock(&self.state);
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create_directory(&self, _path: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = lock(&self.state);
        if state.fail_syncs {
            return Err(failed("sync", path, io::ErrorKind::Other));
        }
        let inside = |name: &PathBuf| name.parent() == Some(path);
        state.durable_names.retain(|name, _| !inside(name));
        let names: Vec<_> =
            state.names.iter().filter(|(name, _)| inside(name)).map(|(n, f)| (n.clone(), *f)).collect();
        state.durable_names.extend(names);
        Ok(())
    }
}

impl SimFile {
    fn with<T>(&self, operation: &'static str, act: impl FnOnce(&mut Content) -> T) -> Result<T, DiskError> {
        let mut state = lock(&self.state);
        if state.boot != self.boot {
            return Err(failed(operation, &self.path, io::ErrorKind::BrokenPipe));
        }
        let missing = || failed(operation, &self.path, io::ErrorKind::NotFound);
        state.files.get_mut(&self.file).map(act).ok_or_else(missing)
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        self.with("read", |content| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.now.len());
            let size = buffer.len().min(content.now.len() - from);
            buffer[..size].copy_from_slice(&content.now[from..from + size]);
            size
        })
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), DiskError> {
        let (shift, full) = {
            let mut state = lock(&self.state);
            if state.fail_writes {
                return Err(failed("write", &self.path, io::ErrorKind::Other));
            }
            let applies = !data.is_empty() && state.boot == self.boot;
            let shift = state.misdirect.take_if(|_| applies);
            if shift.is_some() {
                state.misdirected = Some((self.file, 0));
            }
            (shift.map_or(0, |sectors| sectors * SECTOR_BYTES), state.full)
        };
        let written = self.with("write", |content| {
            let mut from = usize::try_from(offset).expect("files of the simulator are small") + shift;
            if shift > 0 && from + data.len() > content.now.len() {
                // A file does not grow by it.
                from = content.now.len().saturating_sub(data.len());
            }
            let to = from + data.len();
            if full && content.now.len() < to {
                return false;
            }
            if content.now.len() < to {
                content.now.resize(to, 0);
            }
            content.now[from..to].copy_from_slice(data);
            if from < to {
                content.dirty.extend(from / SECTOR_BYTES..=(to - 1) / SECTOR_BYTES);
            }
            true
        })?;
        if written { Ok(()) } else { Err(failed("write", &self.path, io::ErrorKind::StorageFull)) }
    }

    fn size_bytes(&self) -> Result<u64, DiskError> {
        self.with("stat", |content| content.now.len() as u64)
    }

    fn set_size_bytes(&self, size_bytes: u64) -> Result<(), DiskError> {
        if lock(&self.state).full && self.size_bytes()? < size_bytes {
            return Err(failed("resize", &self.path, io::ErrorKind::StorageFull));
        }
        self.with("resize", |content| {
            content.now.resize(usize::try_from(size_bytes).expect("files of the simulator are small"), 0);
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        if lock(&self.state).fail_syncs {
            // As Linux has it: the pages count as written, and no later sync writes them (Rebello et al., ATC 2020).
            self.with("sync", |content| content.dirty.clear())?;
            return Err(failed("sync", &self.path, io::ErrorKind::Other));
        }
        if let Some((_, syncs)) =
            lock(&self.state).misdirected.as_mut().filter(|(file, _)| *file == self.file)
        {
            *syncs += 1;
        }
        self.with("sync", |content| {
            let dirty = std::mem::take(&mut content.dirty);
            dirty.iter().for_each(|&sector| content.persist(sector));
            // A file that shrank or grew has that length, too.
            content.durable.resize(content.now.len(), 0);
            if !dirty.is_empty() {
                let [last, before] = &mut content.recent;
                *before = std::mem::replace(last, dirty);
            }
        })
    }

    fn duplicate(&self) -> Result<Box<dyn File>, DiskError> {
        let (state, path) = (Arc::clone(&self.state), self.path.clone());
        Ok(Box::new(Self { state, file: self.file, boot: self.boot, path }))
    }
}
