//! The fixed-size header of a record. Bodies lie apart, so that a torn end and damage look different.

/// Bytes of one header slot.
pub(super) const HEADER_BYTES: usize = 64;
const VERSION: u8 = 1;

/// The kind of a record that has no body: the group's log was cut before its index.
pub(super) const CUT: u8 = 0;

/// One record's header. Byte layout: `DESIGN.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) protocol: u8,
    pub(super) kind: u8,
    /// The body's length.
    pub(super) size_bytes: u32,
    pub(super) group: u64,
    pub(super) index: u64,
    pub(super) epoch: u64,
    /// Its place in the shared log, from 1, without gaps.
    pub(super) sequence: u64,
    /// Everything up to this sequence was durable when the header was written.
    pub(super) synced: u64,
    /// From the start of the segment's bodies.
    pub(super) offset: u32,
    pub(super) body_checksum: u32,
    /// The checksum of the header before it; 0 for the first of all.
    pub(super) previous_checksum: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.protocol;
        bytes[2] = self.kind;
        bytes[4..8].copy_from_slice(&self.size_bytes.to_le_bytes());
        let wide = [self.group, self.index, self.epoch, self.sequence, self.synced];
        for (place, value) in wide.into_iter().enumerate() {
            bytes[8 + 8 * place..16 + 8 * place].copy_from_slice(&value.to_le_bytes());
        }
        bytes[48..52].copy_from_slice(&self.offset.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.body_checksum.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.previous_checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header in a slot; `None` if its checksum does not hold or its version is another.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        if checksum(bytes) != crc32c::crc32c(&bytes[..60]) || bytes[0] != VERSION {
            return None;
        }
        Some(Self {
            protocol: bytes[1],
            kind: bytes[2],
            size_bytes: narrow(bytes, 4),
            group: wide(bytes, 8),
            index: wide(bytes, 16),
            epoch: wide(bytes, 24),
            sequence: wide(bytes, 32),
            synced: wide(bytes, 40),
            offset: narrow(bytes, 48),
            body_checksum: narrow(bytes, 52),
            previous_checksum: narrow(bytes, 56),
        })
    }
}

/// The checksum stored in a slot.
pub(super) fn checksum(bytes: &[u8; HEADER_BYTES]) -> u32 {
    narrow(bytes, 60)
}

/// A little-endian `u32` at `at`.
pub(super) fn narrow(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// A little-endian `u64` at `at`.
pub(super) fn wide(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
