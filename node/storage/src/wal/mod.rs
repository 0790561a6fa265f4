//! The write-ahead log that all groups of a member share: one sync for all of them.
//!
//! Appends go to a buffer, [`Wal::flush`] writes the buffer and gives a [`SyncJob`], and what it covers is durable when
//! the job has run. Only one job is under way at a time; the next batch fills meanwhile. After a failed write or sync
//! nothing is taken any more: the member ends.

mod group;
mod record;
mod recovery;
mod segment;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskError, File};
use crate::mutants::mutant;
use group::{Group, Place};
use record::Header;
use segment::Segment;
use slots::Slots;

pub(crate) const DIRECTORY: &str = "wal";

/// Why the log can't be opened or written. Every one ends the member.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A file operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Both copies of small state are damaged: votes may be forgotten.
    #[error(
        "both copies of {path} are damaged: this member may have forgotten a vote; replace it by a new member with an \
         empty data directory"
    )]
    StateLost {
        /// The file.
        path: String,
    },
    /// A record that was durable has no sound header any more.
    #[error(
        "record {sequence} of {path} was durable and is damaged: replace this member by a new one with an empty data \
         directory"
    )]
    Damaged {
        /// The segment.
        path: String,
        /// The record.
        sequence: u64,
    },
    /// The data directory belongs to somebody else.
    #[error("the data directory is of {found}, but this process is {expected}")]
    Foreign {
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// There is no log here.
    #[error("there is no log in the data directory")]
    Absent,
    /// An earlier write failed.
    #[error("an earlier write to the log failed")]
    Poisoned,
}

/// Why a record can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It was released, or a snapshot stands for it.
    #[error("released")]
    Compacted,
    /// It is not there yet.
    #[error("beyond the end")]
    Beyond,
    /// It was durable and its body is damaged.
    #[error("damaged")]
    Faulty,
}

/// How a group's log takes a record at an index that it holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The record and everything behind it are replaced; there are no gaps.
    Tail,
    /// Only that index is replaced, and a record beyond the end leaves holes.
    Slots,
}

impl Layout {
    fn code(self) -> u64 {
        match self {
            Self::Tail => 0,
            Self::Slots => 1,
        }
    }

    fn from_code(code: u64) -> Option<Self> {
        [Self::Tail, Self::Slots].into_iter().find(|layout| layout.code() == code)
    }
}

/// Whose log this is; fixed at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// The protocol's code.
    pub protocol: u8,
    /// What the protocol needs of the log.
    pub layout: Layout,
}

/// One record of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position in the group's log.
    pub index: u64,
    /// Its epoch.
    pub epoch: u64,
    /// What the body is; opaque. [`record::CUT`] is the log's own.
    pub kind: u8,
    /// The body.
    pub body: Bytes,
}

/// What a group must remember besides its records; opaque but for its shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The epoch promised.
    pub epoch: u64,
    /// The member voted for; 0 for none.
    pub vote: u64,
    /// The epoch established.
    pub established: u64,
    /// A committed prefix, a hint.
    pub commit: u64,
}

/// Sizes. A log keeps those it was created with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of bodies in a segment; one larger body gets a segment of its own.
    pub segment_bytes_max: u32,
    /// Records in a segment.
    pub segment_headers_max: u32,
    /// Bytes of bodies kept in memory for reading back; older ones come from the disk.
    pub cache_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, segment_headers_max: 65_536, cache_bytes_max: 4 << 20 }
    }
}

/// The shared log.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    config: Config,
    identity: Identity,
    segments: VecDeque<Segment>,
    groups: BTreeMap<u64, Group>,
    cached: VecDeque<(u64, u64, usize)>,
    cached_bytes: usize,
    next_sequence: u64,
    last_checksum: u32,
    synced: u64,
    buffer: Vec<(u64, Record)>,
    jobs: u64,
    job_under_way: Option<Job>,
    poisoned: bool,
}

/// What is durable when the sync under way has ended.
#[derive(Clone, Copy, Debug)]
struct Job {
    number: u64,
    /// Everything up to this sequence ...
    sequence: u64,
    /// ... of which everything from this one on must stay. What is appended since may replace it, and is not durable.
    needed: u64,
}

/// A sync to run, on any thread.
#[derive(Debug)]
pub struct SyncJob {
    number: u64,
    files: Vec<Box<dyn File>>,
}

impl SyncJob {
    /// Makes everything that the flush wrote durable. Its number, for [`Wal::synced`].
    ///
    /// # Errors
    /// The disk's. Never run again after one: the member ends.
    pub fn run(self) -> Result<u64, DiskError> {
        for file in &self.files {
            match file.sync() {
                Err(_) if mutant!(SyncErrorIgnored) => {}
                synced => synced?,
            }
        }
        Ok(self.number)
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Wal {
    /// Makes an empty log. The identity is durable afterwards, so that a later start finds it.
    ///
    /// # Errors
    /// The disk's.
    pub fn create(disk: Arc<dyn Disk>, config: Config, identity: Identity) -> Result<Self, WalError> {
        disk.create_directory(Path::new(DIRECTORY))?;
        let temporary = identity_path("identity.new");
        disk.remove(&temporary)?;
        let (mut slots, _) = Slots::open(&*disk, &temporary)?;
        let sizes = [u64::from(config.segment_bytes_max), u64::from(config.segment_headers_max)];
        let Identity { cluster_id, member_id, protocol, layout } = identity;
        let protocol = u64::from(protocol);
        slots.store(&[cluster_id, member_id, protocol, sizes[0], sizes[1], layout.code(), 0, 0, 0])?;
        slots.file().sync()?;
        disk.rename(&temporary, &identity_path("identity"))?;
        disk.sync_directory(Path::new(DIRECTORY))?;
        disk.sync_directory(Path::new(""))?;
        Self::open(disk, config)
    }

    /// Whether there is a log.
    ///
    /// # Errors
    /// The disk's.
    pub fn exists(disk: &dyn Disk) -> Result<bool, WalError> {
        Ok(disk.list(Path::new(DIRECTORY))?.iter().any(|name| name == "identity"))
    }

    /// Recovers a log: everything that was durable, and of what was not a prefix.
    ///
    /// # Errors
    /// [`WalError::Damaged`] and [`WalError::StateLost`] if what was durable is gone; the disk's.
    pub fn open(disk: Arc<dyn Disk>, config: Config) -> Result<Self, WalError> {
        if !Self::exists(&*disk)? {
            return Err(WalError::Absent);
        }
        recovery::open(disk, config)
    }

    /// Whose log this is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// A group's hard state; the default one of a group that stored none.
    #[must_use]
    pub fn hard_state(&self, group: u64) -> HardState {
        self.groups.get(&group).map(|group| group.hard_state).unwrap_or_default()
    }

    /// The index behind which a group's log starts, with its epoch.
    #[must_use]
    pub fn base(&self, group: u64) -> (u64, u64) {
        self.groups.get(&group).map(|group| group.base).unwrap_or_default()
    }

    /// A group's last index.
    #[must_use]
    pub fn last_index(&self, group: u64) -> u64 {
        self.groups.get(&group).map_or(0, Group::last_index)
    }

    /// The first record of a group that can't be read back now. Recovery's own writes may land on a body that it found sound.
    #[must_use]
    pub fn first_faulty(&self, group: u64) -> Option<u64> {
        let group = self.groups.get(&group)?;
        let faulty = |index: &u64| group.place(*index).is_ok_and(|place| self.load(*index, place).is_err());
        (group.base.0 + 1..=group.last_index()).find(faulty)
    }

    /// The epoch of an index.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged record still has its epoch.
    pub fn epoch(&self, group: u64, index: u64) -> Result<u64, ReadError> {
        let Some(group) = self.groups.get(&group) else {
            return if index == 0 { Ok(0) } else { Err(ReadError::Beyond) };
        };
        if index == group.base.0 {
            return Ok(group.base.1);
        }
        group.place(index).map(|place| place.epoch)
    }

    /// Records `from..to`, at least one if it is there, then as many as `bytes_max` allows.
    ///
    /// # Errors
    /// The first record's; a later one that can't be read ends the answer.
    pub fn records(
        &self,
        group: u64,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let group = self.groups.get(&group).ok_or(ReadError::Beyond)?;
        let mut records = Vec::new();
        let mut bytes = 0;
        for index in from..to.min(group.last_index() + 1) {
            let record = group.place(index).and_then(|place| self.load(index, place));
            match record {
                Ok(record) => {
                    bytes += record.body.len();
                    if !records.is_empty() && bytes > bytes_max {
                        break;
                    }
                    records.push(record);
                }
                Err(error) if records.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        if records.is_empty() { Err(ReadError::Beyond) } else { Ok(records) }
    }

    fn load(&self, index: u64, place: &Place) -> Result<Record, ReadError> {
        let (epoch, kind) = (place.epoch, place.kind);
        if let Some(body) = &place.body {
            return Ok(Record { index, epoch, kind, body: body.clone() });
        }
        let segment = self.segments.iter().rev().find(|segment| segment.first_sequence <= place.sequence);
        let body = segment.and_then(|segment| segment.body(place.offset, place.size_bytes).ok());
        match body {
            Some(body) if mutant!(BodyChecksumIgnored) => {
                Ok(Record { index, epoch, kind, body: body.into() })
            }
            Some(body) if !place.faulty && crc32c::crc32c(&body) == place.checksum => {
                Ok(Record { index, epoch, kind, body: body.into() })
            }
            Some(_) | None => Err(ReadError::Faulty),
        }
    }

    /// Appends to a group's log, which is cut behind `keep` first. The first record may lie inside it: see [`Layout`].
    ///
    /// # Errors
    /// [`WalError::Poisoned`].
    ///
    /// # Panics
    /// If the records leave a gap that the layout forbids, or replace what was released.
    pub fn append(
        &mut self,
        group: u64,
        keep: Option<u64>,
        records: Vec<Record>,
        hard_state: Option<HardState>,
    ) -> Result<(), WalError> {
        self.check()?;
        let entry = self.group(group)?;
        if let Some(hard_state) = hard_state {
            entry.set_hard_state(hard_state);
        }
        if let Some(keep) = keep.filter(|keep| *keep < entry.last_index()) {
            entry.cut(keep);
            let cut = Record { index: keep + 1, epoch: 0, kind: record::CUT, body: Bytes::new() };
            if !mutant!(CutNotLogged) {
                self.buffer.push((group, cut));
            }
        }
        for record in records {
            self.remember(group, &record);
            self.buffer.push((group, record));
        }
        Ok(())
    }

    fn remember(&mut self, group_id: u64, record: &Record) {
        let place = Place {
            sequence: 0,
            epoch: record.epoch,
            kind: record.kind,
            offset: 0,
            size_bytes: u32::try_from(record.body.len()).expect("bodies are below 4 GiB"),
            checksum: 0,
            faulty: false,
            body: Some(record.body.clone()),
        };
        let group = self.groups.get_mut(&group_id).expect("made by the caller");
        group.push(record.index, place);
        self.cached.push_back((group_id, record.index, record.body.len()));
        self.cached_bytes += record.body.len();
    }

    /// Everything below is readable without its body in memory.
    fn trim_cache(&mut self) {
        while self.cached_bytes > self.config.cache_bytes_max {
            let Some((group, index, size_bytes)) = self.cached.pop_front() else { break };
            self.cached_bytes -= size_bytes;
            if let Some(group) = self.groups.get_mut(&group) {
                group.drop_body(index);
            }
        }
    }

    fn group(&mut self, id: u64) -> Result<&mut Group, WalError> {
        match self.groups.entry(id) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let group = Group::open(&*self.disk, id, self.identity.layout)?;
                self.disk.sync_directory(Path::new(DIRECTORY))?;
                Ok(entry.insert(group))
            }
        }
    }

    fn check(&self) -> Result<(), WalError> {
        if self.poisoned { Err(WalError::Poisoned) } else { Ok(()) }
    }

    /// Whether a flush would write anything, and may: no sync is under way.
    #[must_use]
    pub fn wants_flush(&self) -> bool {
        self.job_under_way.is_none()
            && (!self.buffer.is_empty() || self.groups.values().any(|group| group.dirty))
    }

    /// Writes what was appended and gives the sync that makes it durable; `None` if there is nothing, or one is under way.
    ///
    /// # Errors
    /// The disk's; the log is poisoned then.
    pub fn flush(&mut self) -> Result<Option<SyncJob>, WalError> {
        self.check()?;
        if !self.wants_flush() {
            return Ok(None);
        }
        self.poisoned = true;
        let mut files = Vec::new();
        self.write_buffer(&mut files)?;
        for group in self.groups.values_mut().filter(|group| group.dirty) {
            group.store()?;
            if !mutant!(StateFileNotSynced) {
                files.push(group.slots.file().duplicate()?);
            }
        }
        self.poisoned = false;
        self.jobs += 1;
        let (sequence, needed) = (self.next_sequence - 1, self.first_needed());
        self.job_under_way = Some(Job { number: self.jobs, sequence, needed });
        self.trim_cache();
        Ok(Some(SyncJob { number: self.jobs, files }))
    }

    fn write_buffer(&mut self, files: &mut Vec<Box<dyn File>>) -> Result<(), WalError> {
        let (mut headers, mut bodies) = (Vec::new(), Vec::new());
        for (group, record) in std::mem::take(&mut self.buffer) {
            let fits = self.segments.back().is_some_and(|segment| {
                let mut after = segment.headers as usize + headers.len() / record::HEADER_BYTES;
                after += 1;
                after <= self.config.segment_headers_max as usize
                    && segment.has_room(bodies.len() + record.body.len())
            });
            if !fits {
                self.write_part(&mut headers, &mut bodies, files)?;
                self.segments.push_back(Segment::create(&*self.disk, &self.config, self.next_sequence)?);
            }
            let segment = self.segments.back().expect("just made");
            let offset = segment.bodies + u32::try_from(bodies.len()).expect("a segment is below 4 GiB");
            let header = self.header(group, &record, offset);
            let bytes = header.encode();
            self.last_checksum = record::checksum(&bytes);
            self.next_sequence += 1;
            if let Some(group) = self.groups.get_mut(&group).filter(|_| record.kind != record::CUT) {
                group.written(record.index, &header);
            }
            headers.extend_from_slice(&bytes);
            bodies.extend_from_slice(&record.body);
        }
        self.write_part(&mut headers, &mut bodies, files)
    }

    fn header(&self, group: u64, record: &Record, offset: u32) -> Header {
        Header {
            protocol: self.identity.protocol,
            kind: record.kind,
            size_bytes: u32::try_from(record.body.len()).expect("bodies are below 4 GiB"),
            group,
            index: record.index,
            epoch: record.epoch,
            sequence: self.next_sequence,
            synced: self.synced,
            offset,
            body_checksum: crc32c::crc32c(&record.body),
            previous_checksum: self.last_checksum,
        }
    }

    fn write_part(
        &mut self,
        headers: &mut Vec<u8>,
        bodies: &mut Vec<u8>,
        files: &mut Vec<Box<dyn File>>,
    ) -> Result<(), WalError> {
        if headers.is_empty() {
            return Ok(());
        }
        let segment = self.segments.back_mut().expect("records have a segment");
        segment.write(headers, bodies)?;
        files.push(segment.file.duplicate()?);
        headers.clear();
        bodies.clear();
        Ok(())
    }

    /// The job of this number has run. Segments that nobody needs any more are removed.
    ///
    /// # Errors
    /// The disk's.
    pub fn synced(&mut self, number: u64) -> Result<(), WalError> {
        if let Some(job) = self.job_under_way.take_if(|job| job.number == number) {
            self.synced = job.sequence;
            let needed = if mutant!(SegmentRemovedEarly) { self.first_needed() } else { job.needed };
            self.remove_segments(needed)?;
        }
        Ok(())
    }

    /// The first sequence that some group needs.
    fn first_needed(&self) -> u64 {
        self.groups.values().filter_map(Group::first_needed).min().unwrap_or(self.next_sequence)
    }

    /// A failed sync: nothing is taken any more.
    pub fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Drops a group's records up to `index`. Durable with the next flush; whole segments are removed after it.
    ///
    /// # Errors
    /// [`WalError::Poisoned`].
    pub fn release(&mut self, group: u64, index: u64) -> Result<(), WalError> {
        self.check()?;
        let Ok(epoch) = self.epoch(group, index) else { return Ok(()) };
        if let Some(group) = self.groups.get_mut(&group) {
            group.release(index, epoch);
        }
        Ok(())
    }

    /// A group's log starts behind an installed snapshot. Of a [`Layout::Tail`] nothing stays; in [`Layout::Slots`] what was
    /// accepted behind the snapshot does. Durable with the next flush.
    ///
    /// # Errors
    /// The disk's.
    pub fn reset(&mut self, group: u64, index: u64, epoch: u64) -> Result<(), WalError> {
        self.check()?;
        let stays = |record: &Record| match self.identity.layout {
            Layout::Tail => false,
            Layout::Slots => record.index > index,
        };
        self.buffer.retain(|(owner, record)| *owner != group || stays(record));
        let next_sequence = self.next_sequence;
        self.group(group)?.reset((index, epoch), next_sequence);
        Ok(())
    }

    /// Removes segments whose records all lie before the first one that is needed.
    fn remove_segments(&mut self, needed: u64) -> Result<(), WalError> {
        while self.segments.get(1).is_some_and(|next| next.first_sequence <= needed) {
            let Some(segment) = self.segments.pop_front() else { break };
            self.disk.remove(&segment.path)?;
            // Removals may reach the medium in any order: an older segment that comes back without the next one would be a gap.
            self.disk.sync_directory(Path::new(DIRECTORY))?;
        }
        Ok(())
    }

    /// Bytes of the log's files.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().filter_map(|segment| segment.file.size_bytes().ok()).sum()
    }
}

fn identity_path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}
