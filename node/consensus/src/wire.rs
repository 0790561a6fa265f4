//! Entries in messages, the same in every protocol.

use bytes::Bytes;

use crate::entry::{Entry, Kind};
use crate::id::{Epoch, Index};

/// An entry whose index follows from its place.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireEntry {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(bytes = "bytes", tag = "3")]
    payload: Bytes,
}

/// Entries as they travel.
pub(crate) fn to_wire(entries: Vec<Entry>) -> Vec<WireEntry> {
    let wire = |Entry { epoch, kind, payload, .. }: Entry| WireEntry {
        epoch: epoch.0,
        kind: u32::from(kind.code()),
        payload,
    };
    entries.into_iter().map(wire).collect()
}

/// Entries behind `previous`; `None` if they are malformed.
pub(crate) fn from_wire(previous: u64, wires: Vec<WireEntry>) -> Option<Vec<Entry>> {
    // Indexes are counted, never added unchecked: a hostile peer may send the largest one.
    previous.checked_add(wires.len() as u64)?;
    let entry = |(index, wire): (u64, WireEntry)| {
        let kind = Kind::from_code(u8::try_from(wire.kind).ok()?)?;
        Some(Entry { index: Index(index), epoch: Epoch(wire.epoch), kind, payload: wire.payload })
    };
    (previous + 1..).zip(wires).map(entry).collect()
}

/// An entry with its index, for logs with holes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Placed {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(message, optional, tag = "2")]
    entry: Option<WireEntry>,
}

/// Entries with their indexes as they travel.
pub(crate) fn placed_to_wire(entries: Vec<Entry>) -> Vec<Placed> {
    let indexes: Vec<u64> = entries.iter().map(|entry| entry.index.0).collect();
    let placed = |(index, entry)| Placed { index, entry: Some(entry) };
    indexes.into_iter().zip(to_wire(entries)).map(placed).collect()
}

/// Entries with their indexes; `None` if they are malformed.
pub(crate) fn placed_from_wire(placed: Vec<Placed>) -> Option<Vec<Entry>> {
    let entry = |placed: Placed| from_wire(placed.index.checked_sub(1)?, vec![placed.entry?])?.pop();
    placed.into_iter().map(entry).collect()
}
