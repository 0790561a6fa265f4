//! The few file operations the log and the snapshots need, so that the simulator can stand in for a disk.

mod real;
#[cfg(any(test, feature = "test-util"))]
pub mod sim;

use std::fmt::Debug;
use std::path::Path;

pub use real::RealDisk;

/// A failed operation, with what was tried.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path} failed")]
pub struct DiskError {
    /// The operation, as a verb.
    pub operation: &'static str,
    /// The file or folder.
    pub path: String,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// A folder of files on some medium. Paths are relative to the data directory.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file for reading and writing, created empty if missing (`create`).
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path, create: bool) -> Result<Box<dyn File>, DiskError>;
    /// Renames within the medium; atomic, durable after [`Disk::sync_directory`] of both folders.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;
    /// Removes a file; no error if it is missing.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;
    /// The names of the files in a folder, sorted; empty if the folder is missing.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError>;
    /// Creates a folder and its parents, with access for the owner alone.
    ///
    /// # Errors
    /// The system's.
    fn create_directory(&self, path: &Path) -> Result<(), DiskError>;
    /// Makes creations, renames and removals in a folder durable.
    ///
    /// # Errors
    /// The system's. A failed sync ends the member.
    fn sync_directory(&self, path: &Path) -> Result<(), DiskError>;
}

/// An open file. Writes are visible at once and durable after [`File::sync`] alone.
pub trait File: Debug + Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the file's end.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError>;
    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// The system's; how much was written is then unknown.
    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), DiskError>;
    /// The length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn size_bytes(&self) -> Result<u64, DiskError>;
    /// Sets the length; grown space reads as zeros and is allocated where the medium can.
    ///
    /// # Errors
    /// The system's.
    fn set_size_bytes(&self, size_bytes: u64) -> Result<(), DiskError>;
    /// Makes everything written so far durable (`fdatasync`). Never retried after a failure.
    ///
    /// # Errors
    /// The system's. A failed sync ends the member.
    fn sync(&self) -> Result<(), DiskError>;
    /// Another handle of the same file, for the thread that syncs.
    ///
    /// # Errors
    /// The system's.
    fn duplicate(&self) -> Result<Box<dyn File>, DiskError>;
}
