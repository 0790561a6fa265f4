//! A state as a file: what `etcdctl snapshot save` writes and `quorate snapshot status` reads.
//!
//! | part | bytes |
//! |---|---|
//! | header | `QRTSNAP1`, then cluster id, member id, revision: 8 bytes each |
//! | piece, any number | length and CRC-32C of what follows, 4 bytes each; then pairs: table (1), length of key and of value (4 each), both |
//! | end | 8 zero bytes; the number of pairs (8) |
//! | padding | zeros, to a multiple of 512 |
//! | checksum | SHA-256 of everything before it |
//!
//! Numbers are little-endian. Size and checksum are placed as etcd places them (`client/v3/snapshot`, `etcdutl/snapshot`), so
//! that its client takes the file for whole.

use std::io::Read;
use std::ops::Bound;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use ring::digest::{Context, SHA256};

use crate::backend::{BackendError, Table, View};

const MAGIC: &[u8; 8] = b"QRTSNAP1";
const BLOCK_BYTES: u64 = 512;
/// Payload of a piece, about at most.
const PIECE_BYTES: usize = 1 << 20;
/// A larger piece is not one: a single pair is bounded by the largest request.
const PIECE_BYTES_MAX: usize = 1 << 30;

/// What a snapshot says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The cluster.
    pub cluster_id: u64,
    /// The member that made it.
    pub member_id: u64,
    /// The newest revision inside.
    pub revision: u64,
}

/// Why a file is not a whole snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It can't be read, or ends early.
    #[error("the file ends before the snapshot, or can't be read: {0}")]
    Io(#[from] std::io::Error),
    /// Something else.
    #[error("this is not a snapshot of Quorate")]
    Foreign,
    /// A checksum says so.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
}

enum State {
    Header,
    Pairs(usize, Bound<Bytes>),
    End,
    Done,
}

/// Makes the bytes of a snapshot, piece by piece.
pub struct Writer {
    view: Arc<dyn View>,
    info: Info,
    state: State,
    hash: Context,
    size_bytes: u64,
    pairs: u64,
}

impl Writer {
    /// A snapshot of what a view shows.
    #[must_use]
    pub fn new(view: Arc<dyn View>, info: Info) -> Self {
        Self { view, info, state: State::Header, hash: Context::new(&SHA256), size_bytes: 0, pairs: 0 }
    }

    /// The next bytes; `None` behind the last ones.
    ///
    /// # Errors
    /// The engine's.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, BackendError> {
        let piece = match std::mem::replace(&mut self.state, State::Done) {
            State::Header => self.header(),
            State::Pairs(table, from) => self.pairs(table, from)?,
            State::End => return Ok(Some(self.end())),
            State::Done => return Ok(None),
        };
        self.hash.update(&piece);
        self.size_bytes += piece.len() as u64;
        Ok(Some(piece))
    }

    fn header(&mut self) -> Bytes {
        self.state = State::Pairs(0, Bound::Unbounded);
        let mut bytes = BytesMut::from(&MAGIC[..]);
        for number in [self.info.cluster_id, self.info.member_id, self.info.revision] {
            bytes.put_u64_le(number);
        }
        bytes.freeze()
    }

    fn pairs(&mut self, mut table: usize, mut from: Bound<Bytes>) -> Result<Bytes, BackendError> {
        let mut payload = BytesMut::new();
        'tables: while let Some(&scanned) = Table::ALL.get(table) {
            for pair in self.view.scan(scanned, from, Bound::Unbounded) {
                let (key, value) = pair?;
                payload.put_u8(scanned as u8);
                payload.put_u32_le(u32::try_from(key.len()).unwrap_or(u32::MAX));
                payload.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
                payload.put_slice(&key);
                payload.put_slice(&value);
                self.pairs += 1;
                if payload.len() >= PIECE_BYTES {
                    from = Bound::Excluded(key);
                    break 'tables;
                }
            }
            (table, from) = (table + 1, Bound::Unbounded);
        }
        self.state = if table < Table::ALL.len() { State::Pairs(table, from) } else { State::End };
        let mut piece = BytesMut::with_capacity(payload.len() + 8);
        if !payload.is_empty() {
            piece.put_u32_le(u32::try_from(payload.len()).unwrap_or(u32::MAX));
            piece.put_u32_le(crc32c::crc32c(&payload));
            piece.put_slice(&payload);
        }
        Ok(piece.freeze())
    }

    fn end(&mut self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(0);
        bytes.put_u64_le(self.pairs);
        bytes.put_bytes(0, padding(self.size_bytes + bytes.len() as u64));
        self.hash.update(&bytes);
        bytes.put_slice(self.hash.clone().finish().as_ref());
        bytes.freeze()
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("info", &self.info)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

fn padding(size_bytes: u64) -> usize {
    usize::try_from((BLOCK_BYTES - size_bytes % BLOCK_BYTES) % BLOCK_BYTES).unwrap_or(0)
}

struct Hashed<R> {
    from: R,
    hash: Context,
    size_bytes: u64,
}

impl<R: Read> Hashed<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.from.read_exact(bytes)?;
        self.hash.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    fn number(&mut self) -> Result<u64, SnapshotError> {
        Ok(u64::from_le_bytes(self.take()?))
    }
}

/// Reads a snapshot, checks all of it and hands on every pair. Nothing that was handed on counts unless it succeeds.
///
/// # Errors
/// Why it is not a whole snapshot.
pub fn read(from: impl Read, mut pair: impl FnMut(Table, Bytes, Bytes)) -> Result<Info, SnapshotError> {
    let mut from = Hashed { from, hash: Context::new(&SHA256), size_bytes: 0 };
    if from.take::<8>()? != *MAGIC {
        return Err(SnapshotError::Foreign);
    }
    let info = Info { cluster_id: from.number()?, member_id: from.number()?, revision: from.number()? };
    let mut pairs = 0;
    loop {
        let [length, checksum] = [u32::from_le_bytes(from.take()?), u32::from_le_bytes(from.take()?)];
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length == 0 {
            break;
        }
        if length > PIECE_BYTES_MAX {
            return Err(SnapshotError::Damaged("a piece is too long"));
        }
        let mut payload = vec![0; length];
        from.fill(&mut payload)?;
        if crc32c::crc32c(&payload) != checksum {
            return Err(SnapshotError::Damaged("the checksum of a piece is wrong"));
        }
        pairs +=
            split(payload.into(), &mut pair).ok_or(SnapshotError::Damaged("a piece can't be taken apart"))?;
    }
    if from.number()? != pairs {
        return Err(SnapshotError::Damaged("pairs are missing"));
    }
    from.fill(&mut vec![0; padding(from.size_bytes)])?;
    let expected = from.hash.clone().finish();
    let mut found = [0; 32];
    from.from.read_exact(&mut found)?;
    if expected.as_ref() != found {
        return Err(SnapshotError::Damaged("the checksum of the whole is wrong"));
    }
    Ok(info)
}

fn split(mut payload: Bytes, pair: &mut impl FnMut(Table, Bytes, Bytes)) -> Option<u64> {
    const PREFIX: usize = 9;
    let mut pairs = 0;
    while !payload.is_empty() {
        let prefix = payload.first_chunk::<PREFIX>()?;
        let table = *Table::ALL.get(usize::from(prefix[0]))?;
        let length = |at: usize| prefix.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let (key, value) = (usize::try_from(length(1)?).ok()?, usize::try_from(length(5)?).ok()?);
        let end = PREFIX.checked_add(key)?.checked_add(value)?;
        if payload.len() < end {
            return None;
        }
        pair(table, payload.slice(PREFIX..PREFIX + key), payload.slice(PREFIX + key..end));
        payload = payload.slice(end..);
        pairs += 1;
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::memory::MemoryBackend;
    use crate::backend::{Backend as _, Batch, Change};

    fn written(pairs: u32) -> Vec<u8> {
        let backend = MemoryBackend::default();
        let put = |number: u32| {
            let table = Table::ALL[usize::try_from(number % 7).unwrap()];
            Change::Put(table, number.to_be_bytes().to_vec().into(), vec![7; 5_000].into())
        };
        backend.commit(Batch { changes: (0..pairs).map(put).collect() }).unwrap();
        let info = Info { cluster_id: 1, member_id: 2, revision: 3 };
        let mut writer = Writer::new(backend.view().into(), info);
        let mut bytes = Vec::new();
        while let Some(piece) = writer.next_piece().unwrap() {
            bytes.extend_from_slice(&piece);
        }
        bytes
    }

    #[test]
    fn a_snapshot_is_read_back_and_has_the_size_that_etcds_client_expects() {
        for pairs in [0, 1, 1_000] {
            let bytes = written(pairs);
            assert_eq!(bytes.len() % 512, 32);
            let mut count = 0;
            let info = read(bytes.as_slice(), |_, key, value| {
                assert_eq!((key.len(), value.len()), (4, 5_000));
                count += 1;
            });
            assert_eq!(info.unwrap(), Info { cluster_id: 1, member_id: 2, revision: 3 });
            assert_eq!(count, pairs);
        }
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let whole = written(10);
        for at in (0..whole.len()).step_by(97) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(read(damaged.as_slice(), |_, _, _| ()).is_err(), "byte {at}");
            assert!(read(&whole[..at], |_, _, _| ()).is_err(), "cut at {at}");
        }
    }
}
