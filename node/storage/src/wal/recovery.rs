//! Opening a log: what was durable must be there; of the last batch a prefix may be.
//!
//! Each header tells up to which record everything was durable when it was written. A record up to the highest such mark
//! that has no sound header is damage; one with a damaged body is kept as faulty, never taken for absent. Behind the mark
//! lies the one batch whose sync may not have ended: the first unsound record there ends the log.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use super::group::Group;
use super::record;
use super::segment::{HeaderSlot, Segment};
use super::slots::Slots;
use super::{Config, DIRECTORY, Identity, Layout, Wal, WalError, identity_path};
use crate::disk::Disk;
use crate::mutants::mutant;

pub(super) fn open(disk: Arc<dyn Disk>, config: Config) -> Result<Wal, WalError> {
    let (identity, config) = read_identity(&*disk, config)?;
    let names = disk.list(Path::new(DIRECTORY))?;
    let mut groups = BTreeMap::new();
    for id in names.iter().filter_map(|name| group_id(name)) {
        groups.insert(id, Group::open(&*disk, id, identity.layout)?);
    }
    let mut segments = VecDeque::new();
    for first in names.iter().filter_map(|name| segment_sequence(name)) {
        segments.push_back(Segment::open(&*disk, &config, first, false)?);
    }
    let mut wal = Wal {
        next_sequence: segments.front().map_or(1, |segment| segment.first_sequence),
        disk,
        config,
        identity,
        segments,
        groups,
        cached: VecDeque::new(),
        cached_bytes: 0,
        last_checksum: 0,
        synced: 0,
        buffer: Vec::new(),
        jobs: 0,
        job_under_way: None,
        poisoned: false,
    };
    scan(&mut wal)?;
    Ok(wal)
}

fn read_identity(disk: &dyn Disk, config: Config) -> Result<(Identity, Config), WalError> {
    let path = identity_path("identity");
    let (_, values) = Slots::open(disk, &path)?;
    let lost = || WalError::StateLost { path: path.display().to_string() };
    let [cluster_id, member_id, protocol, bytes_max, headers_max, layout, ..] = values.ok_or_else(lost)?;
    let protocol = u8::try_from(protocol).map_err(|_| lost())?;
    let layout = Layout::from_code(layout).ok_or_else(lost)?;
    let segment_bytes_max = u32::try_from(bytes_max).map_err(|_| lost())?;
    let segment_headers_max = u32::try_from(headers_max).map_err(|_| lost())?;
    Ok((
        Identity { cluster_id, member_id, protocol, layout },
        Config { segment_bytes_max, segment_headers_max, ..config },
    ))
}

fn group_id(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("group-")?.strip_suffix(".state")?, 16).ok()
}

fn segment_sequence(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".segment")?, 16).ok()
}

fn scan(wal: &mut Wal) -> Result<(), WalError> {
    let mut tables: Vec<Vec<HeaderSlot>> = Vec::new();
    for segment in &wal.segments {
        tables.push(segment.read_headers()?);
    }
    let sound = || tables.iter().flatten().flatten();
    let synced = sound().map(|(_, header)| header.synced).max().unwrap_or(0);
    let mut previous_checksum = None;
    for (at, table) in tables.iter().enumerate() {
        if wal.segments[at].first_sequence > wal.next_sequence {
            // The segment before ended early; anything durable in this one would have been found damaged below.
            break;
        }
        for slot in table {
            if wal.segments.get(at + 1).is_some_and(|next| next.first_sequence == wal.next_sequence) {
                break;
            }
            if !take(wal, at, slot, synced, &mut previous_checksum)? {
                return end(wal, at, synced);
            }
        }
    }
    let last = wal.segments.len();
    end(wal, last, synced)
}

/// Takes one slot over. `false` at the end of the log.
fn take(
    wal: &mut Wal,
    at: usize,
    slot: &HeaderSlot,
    synced: u64,
    previous_checksum: &mut Option<u32>,
) -> Result<bool, WalError> {
    let sequence = wal.next_sequence;
    let must_be = sequence <= synced && !mutant!(DamageIsTornTail);
    let chained = slot
        .filter(|(_, header)| previous_checksum.is_none_or(|checksum| checksum == header.previous_checksum));
    let Some((bytes, header)) = chained else {
        let path = wal.segments[at].path.display().to_string();
        return if must_be { Err(WalError::Damaged { path, sequence }) } else { Ok(false) };
    };
    let body = wal.segments[at].body(header.offset, header.size_bytes)?;
    let body_sound =
        body.len() == header.size_bytes as usize && crc32c::crc32c(&body) == header.body_checksum;
    let body_sound = body_sound || mutant!(BodyChecksumIgnored);
    if !body_sound && mutant!(TornTailIsDamage) {
        let path = wal.segments[at].path.display().to_string();
        return Err(WalError::Damaged { path, sequence });
    }
    if !body_sound && !must_be {
        return Ok(false);
    }
    if let Some(group) = wal.groups.get_mut(&header.group) {
        group.recover(&header, !body_sound);
    }
    let segment = &mut wal.segments[at];
    segment.headers += 1;
    segment.bodies = header.offset + header.size_bytes;
    wal.next_sequence += 1;
    wal.last_checksum = record::checksum(&bytes);
    *previous_checksum = Some(wal.last_checksum);
    Ok(true)
}

/// Removes segments behind the log's end; they held at most a part of the last batch.
fn end(wal: &mut Wal, last: usize, synced: u64) -> Result<(), WalError> {
    if wal.next_sequence <= synced && !mutant!(DamageIsTornTail) {
        let path = wal.segments.back().map(|segment| segment.path.display().to_string()).unwrap_or_default();
        return Err(WalError::Damaged { path, sequence: wal.next_sequence });
    }
    while wal.segments.len() > last + 1 {
        if let Some(segment) = wal.segments.pop_back() {
            wal.disk.remove(&segment.path)?;
        }
    }
    wal.disk.sync_directory(Path::new(DIRECTORY))?;
    // A header of what is discarded here would come alive with a later body of the same content, and replace what was
    // acknowledged since.
    if let Some(segment) = wal.segments.back() {
        let behind = segment.read_headers()?.into_iter().skip(segment.headers as usize);
        if behind.flatten().next().is_some() && !mutant!(DiscardedHeadersAlive) {
            segment.erase_behind()?;
        }
    }
    // What is found was written; whether it reached the medium is not known. The process before may have been killed, or its
    // sync may have failed: the page cache then shows what the medium lacks, and counts it as written (Rebello et al., ATC
    // 2020). So what is not marked as durable is written again, and synced before use.
    for segment in &wal.segments {
        let marked = u32::try_from((synced + 1).saturating_sub(segment.first_sequence)).unwrap_or(u32::MAX);
        if marked < segment.headers {
            segment.write_again(marked)?;
        }
        segment.file.sync()?;
    }
    for group in wal.groups.values_mut() {
        group.store()?;
        group.slots.file().sync()?;
    }
    wal.synced = wal.next_sequence - 1;
    Ok(())
}
