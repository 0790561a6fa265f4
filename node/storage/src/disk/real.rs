//! A folder of the file system.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Disk, DiskError, File};

/// The data directory. While it lives no other process opens the same one.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    _lock: fs::File,
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    path: String,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.display().to_string();
    move |source| DiskError { operation, path, source }
}

impl RealDisk {
    /// Opens (makes, with access for the owner alone) a data directory and locks it.
    ///
    /// # Errors
    /// The system's; `WouldBlock` if another process has it.
    pub fn open(root: &Path) -> Result<Self, DiskError> {
        make_directory(root)?;
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        lock.try_lock().map_err(|error| failed("lock", &path)(error.into()))?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

fn make_directory(path: &Path) -> Result<(), DiskError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn File>, DiskError> {
        let path = self.root.join(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        Ok(Box::new(RealFile { file, path: path.display().to_string() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let from = self.root.join(from);
        fs::rename(&from, self.root.join(to)).map_err(failed("rename", &from))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let path = self.root.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        let directory = self.root.join(directory);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("list", &directory))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("list", &directory))?.file_name();
            names.extend(name.into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        make_directory(&self.root.join(path))
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        let path = self.root.join(path);
        let directory = fs::File::open(&path).map_err(failed("open", &path))?;
        directory.sync_all().map_err(failed("sync", &path))
    }
}

impl RealFile {
    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> DiskError {
        failed(operation, Path::new(&self.path))
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("read")(error)),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), DiskError> {
        self.file.write_all_at(data, offset).map_err(self.failed("write"))
    }

    fn size_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata().map_err(self.failed("stat"))?.len())
    }

    fn set_size_bytes(&self, size_bytes: u64) -> Result<(), DiskError> {
        self.file.set_len(size_bytes).map_err(self.failed("resize"))?;
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&self.file, flags, 0, size_bytes) {
            // A medium that can't allocate ahead grows files as they are written.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(_) if size_bytes == 0 => Ok(()),
            Err(error) => Err(self.failed("allocate")(error.into())),
        }
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(self.failed("sync"))
    }

    fn duplicate(&self) -> Result<Box<dyn File>, DiskError> {
        let file = self.file.try_clone().map_err(self.failed("duplicate"))?;
        Ok(Box::new(Self { file, path: self.path.clone() }))
    }
}
