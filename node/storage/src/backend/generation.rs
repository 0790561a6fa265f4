//! Which of a group's states on disk counts. Each is a folder named by a number; a file has the number of the one that counts,
//! so that a state which is written anew takes the place of the old one at once.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const FILE: &str = "generation";
const FILE_NEW: &str = "generation.new";

/// Where a state's files are.
pub(super) fn folder(group: &Path, generation: u64) -> PathBuf {
    group.join(generation.to_string())
}

/// Makes room for a state: one of its number that was begun never counted.
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The number of the state that counts: 0 before the first was replaced.
pub(super) fn read(group: &Path) -> io::Result<u64> {
    match fs::read_to_string(group.join(FILE)) {
        Ok(text) => text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Says durably which state counts from now on.
pub(super) fn write(group: &Path, generation: u64) -> io::Result<()> {
    let new = group.join(FILE_NEW);
    let mut file = fs::File::create(&new)?;
    writeln!(file, "{generation}")?;
    file.sync_all()?;
    // The folder of the state is named in the same folder.
    fs::File::open(group)?.sync_all()?;
    fs::rename(new, group.join(FILE))?;
    fs::File::open(group)?.sync_all()
}

/// Removes the states that do not count: at a start, when no view reads them.
pub(super) fn remove_others(group: &Path, counts: u64) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        if number.is_some_and(|number| number != counts) {
            clear(&entry.path())?;
        }
    }
    Ok(())
}
