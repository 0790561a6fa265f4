//! One file of the log: a fixed area of headers, then the bodies.

use std::path::PathBuf;

use super::record::{HEADER_BYTES, Header};
use super::{Config, WalError};
use crate::disk::{Disk, File};
use crate::mutants::mutant;

/// A slot's bytes and the sound header in them, if there is one.
pub(super) type HeaderSlot = Option<([u8; HEADER_BYTES], Header)>;

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first_sequence: u64,
    pub(super) file: Box<dyn File>,
    pub(super) path: PathBuf,
    headers_max: u32,
    bodies_max: u32,
    /// Headers written, the next slot.
    pub(super) headers: u32,
    /// Bytes of bodies written.
    pub(super) bodies: u32,
}

impl Segment {
    pub(super) fn path(first_sequence: u64) -> PathBuf {
        PathBuf::from(super::DIRECTORY).join(format!("{first_sequence:016x}.segment"))
    }

    pub(super) fn create(disk: &dyn Disk, config: &Config, first_sequence: u64) -> Result<Self, WalError> {
        let segment = Self::open(disk, config, first_sequence, true)?;
        let size = u64::from(config.segment_headers_max) * HEADER_BYTES as u64;
        segment.file.set_size_bytes(size + u64::from(config.segment_bytes_max))?;
        segment.file.sync()?;
        if !mutant!(DirectoryNotSynced) {
            disk.sync_directory(super::DIRECTORY.as_ref())?;
        }
        Ok(segment)
    }

    pub(super) fn open(
        disk: &dyn Disk,
        config: &Config,
        first_sequence: u64,
        create: bool,
    ) -> Result<Self, WalError> {
        let path = Self::path(first_sequence);
        let file = disk.open(&path, create)?;
        let (headers_max, bodies_max) = (config.segment_headers_max, config.segment_bytes_max);
        Ok(Self { first_sequence, file, path, headers_max, bodies_max, headers: 0, bodies: 0 })
    }

    /// Whether a body of this size has room; one that is larger than a whole segment has, in an empty one.
    pub(super) fn has_room(&self, size_bytes: usize) -> bool {
        self.headers < self.headers_max
            && (self.bodies == 0 || self.bodies as usize + size_bytes <= self.bodies_max as usize)
    }

    fn bodies_at(&self) -> u64 {
        u64::from(self.headers_max) * HEADER_BYTES as u64
    }

    /// Writes headers and bodies that follow the last ones.
    pub(super) fn write(&mut self, headers: &[u8], bodies: &[u8]) -> Result<(), WalError> {
        self.file.write_at(bodies, self.bodies_at() + u64::from(self.bodies))?;
        self.file.write_at(headers, u64::from(self.headers) * HEADER_BYTES as u64)?;
        self.headers += u32::try_from(headers.len() / HEADER_BYTES).expect("bounded by the slots");
        self.bodies += u32::try_from(bodies.len()).expect("a segment is below 4 GiB");
        Ok(())
    }

    /// Writes what the segment holds from this slot on once more. Not durable before the file's sync.
    pub(super) fn write_again(&self, from_slot: u32) -> Result<(), WalError> {
        let at = u64::from(from_slot) * HEADER_BYTES as u64;
        let mut headers = vec![0; (self.headers - from_slot) as usize * HEADER_BYTES];
        self.file.read_at(&mut headers, at)?;
        let first = headers.first_chunk().and_then(Header::decode);
        let offset = first.map_or(self.bodies, |header| header.offset);
        let bodies = self.body(offset, self.bodies - offset)?;
        self.file.write_at(&bodies, self.bodies_at() + u64::from(offset))?;
        self.file.write_at(&headers, at)?;
        Ok(())
    }

    /// Makes every slot behind the last header empty. Not durable before the file's sync.
    pub(super) fn erase_behind(&self) -> Result<(), WalError> {
        let slots = (self.headers_max - self.headers) as usize;
        self.file.write_at(&vec![0; slots * HEADER_BYTES], u64::from(self.headers) * HEADER_BYTES as u64)?;
        Ok(())
    }

    /// The bytes of a body, as long as the file has them.
    pub(super) fn body(&self, offset: u32, size_bytes: u32) -> Result<Vec<u8>, WalError> {
        let mut body = vec![0; size_bytes as usize];
        let read = self.file.read_at(&mut body, self.bodies_at() + u64::from(offset))?;
        body.truncate(read);
        Ok(body)
    }

    /// Every slot that holds a sound header in its place.
    pub(super) fn read_headers(&self) -> Result<Vec<HeaderSlot>, WalError> {
        let mut bytes = vec![0; self.headers_max as usize * HEADER_BYTES];
        let read = self.file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        let (slots, _) = bytes.as_chunks::<HEADER_BYTES>();
        let sound = |(place, slot): (usize, &[u8; HEADER_BYTES])| {
            let header = Header::decode(slot)?;
            (header.sequence == self.first_sequence + place as u64).then_some((*slot, header))
        };
        Ok(slots.iter().enumerate().map(sound).collect())
    }
}
