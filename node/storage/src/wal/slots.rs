//! Small state kept twice in each of two generations: a torn write leaves the older generation whole, and damage to one
//! copy leaves the other copy of the newest.

use std::path::Path;

use super::WalError;
use super::record::{narrow, wide};
use crate::disk::{Disk, File};
use crate::mutants::mutant;

const SLOT_BYTES: usize = 4096;
const VALUES: usize = 9;
const USED_BYTES: usize = 8 + 8 * VALUES + 4;

/// The values of a slot. What they mean is the owner's business.
pub(super) type Values = [u64; VALUES];

/// A file of four slots.
#[derive(Debug)]
pub(super) struct Slots {
    file: Box<dyn File>,
    generation: u64,
}

impl Slots {
    /// Opens the file; `None` values if nothing was ever stored.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<(Self, Option<Values>), WalError> {
        let file = disk.open(path, true)?;
        let mut newest: Option<(u64, Values)> = None;
        let mut written = false;
        for slot in 0..4u64 {
            let mut bytes = [0; SLOT_BYTES];
            let size = file.read_at(&mut bytes, slot * SLOT_BYTES as u64)?;
            written |= bytes[..size].iter().any(|byte| *byte != 0);
            if let Some(found) = decode(&bytes)
                && newest.is_none_or(|(generation, _)| found.0 > generation)
            {
                newest = Some(found);
            }
        }
        if newest.is_none() && written {
            return Err(WalError::StateLost { path: path.display().to_string() });
        }
        let generation = newest.map_or(0, |(generation, _)| generation);
        Ok((Self { file, generation }, newest.map(|(_, values)| values)))
    }

    /// Writes the next generation, both copies. Durable after the file's sync.
    pub(super) fn store(&mut self, values: &Values) -> Result<(), WalError> {
        self.generation += 1;
        let bytes = encode(self.generation, values);
        let pair = self.generation % 2 * 2;
        if mutant!(HardStateInOneCopy) {
            return Ok(self.file.write_at(&bytes, 0)?);
        }
        for copy in 0..2 {
            self.file.write_at(&bytes, (pair + copy) * SLOT_BYTES as u64)?;
        }
        Ok(())
    }

    pub(super) fn file(&self) -> &dyn File {
        &*self.file
    }
}

fn encode(generation: u64, values: &Values) -> [u8; USED_BYTES] {
    let mut bytes = [0; USED_BYTES];
    bytes[..8].copy_from_slice(&generation.to_le_bytes());
    for (place, value) in values.iter().enumerate() {
        bytes[8 + 8 * place..16 + 8 * place].copy_from_slice(&value.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&bytes[..USED_BYTES - 4]);
    bytes[USED_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, Values)> {
    let generation = wide(bytes, 0);
    let sound = narrow(bytes, USED_BYTES - 4) == crc32c::crc32c(&bytes[..USED_BYTES - 4]);
    let values = std::array::from_fn(|place| wide(bytes, 8 + 8 * place));
    (sound && generation > 0).then_some((generation, values))
}
