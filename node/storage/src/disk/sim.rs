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
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    next_file: u64,
    fail_syncs: bool,
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
    /// The machine stops: names that were not synced are as before, and of each unsynced sector `survives` says whether it
    /// reached the medium. Open handles are dead.
    pub fn crash(&self, mut survives: impl FnMut() -> bool) {
        let mut state = lock(&self.state);
        state.boot += 1;
        state.names = state.durable_names.clone();
        for content in state.files.values_mut() {
            let sectors = std::mem::take(&mut content.dirty);
            for sector in sectors.into_iter().filter(|_| survives()) {
                content.persist(sector);
            }
            content.now = content.durable.clone();
        }
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
        self.with("write", |content| {
            let from = usize::try_from(offset).expect("files of the simulator are small");
            let to = from + data.len();
            if content.now.len() < to {
                content.now.resize(to, 0);
            }
            content.now[from..to].copy_from_slice(data);
            if from < to {
                content.dirty.extend(from / SECTOR_BYTES..=(to - 1) / SECTOR_BYTES);
            }
        })
    }

    fn size_bytes(&self) -> Result<u64, DiskError> {
        self.with("stat", |content| content.now.len() as u64)
    }

    fn set_size_bytes(&self, size_bytes: u64) -> Result<(), DiskError> {
        self.with("resize", |content| {
            content.now.resize(usize::try_from(size_bytes).expect("files of the simulator are small"), 0);
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        if lock(&self.state).fail_syncs {
            return Err(failed("sync", &self.path, io::ErrorKind::Other));
        }
        self.with("sync", |content| {
            content.durable.clone_from(&content.now);
            content.dirty.clear();
        })
    }

    fn duplicate(&self) -> Result<Box<dyn File>, DiskError> {
        let (state, path) = (Arc::clone(&self.state), self.path.clone());
        Ok(Box::new(Self { state, file: self.file, boot: self.boot, path }))
    }
}
