//! A snapshot's way to another member: pieces of the engine's pairs with checksums, as fast as the receiver takes them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use quorate_api::peer::snapshot_chunk::Chunk;
use quorate_api::peer::{SnapshotChunk, SnapshotData, SnapshotEnd, SnapshotHeader};
use quorate_consensus::id::MemberId;
use quorate_replica::event::GroupId;
use quorate_replica::snapshot::Snapshot;
use quorate_storage::backend::{Batch, Change, Table};

use super::dial::dial;
use crate::node::Node;
use crate::tls::Tls;

/// Pieces under way before the receiver's window opens.
const PIECES_MAX: usize = 4;
/// A whole transfer.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3_600);

#[derive(Clone, PartialEq, prost::Message)]
struct WirePair {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WirePiece {
    #[prost(message, repeated, tag = "1")]
    pairs: Vec<WirePair>,
}

/// The bytes of a piece.
#[must_use]
pub fn encode(batch: Batch) -> Bytes {
    let pair = |change| match change {
        Change::Put(table, key, value) => Some(WirePair { table: table as u32, key, value }),
        // A state has no deletions.
        Change::Delete(..) => None,
    };
    WirePiece { pairs: batch.changes.into_iter().filter_map(pair).collect() }.encode_to_vec().into()
}

/// The piece in these bytes; `None` if they are none of this version.
#[must_use]
pub fn decode(bytes: Bytes) -> Option<Batch> {
    let piece = WirePiece::decode(bytes).ok()?;
    let change = |pair: WirePair| {
        let table: Table = *Table::ALL.get(usize::try_from(pair.table).ok()?)?;
        Some(Change::Put(table, pair.key, pair.value))
    };
    Some(Batch { changes: piece.pairs.into_iter().map(change).collect::<Option<_>>()? })
}

fn chunk(chunk: Chunk) -> SnapshotChunk {
    SnapshotChunk { chunk: Some(chunk) }
}

/// Streams `snapshot` to `to`; how many bytes went.
pub(super) async fn send(
    node: &Node,
    tls: Option<Arc<Tls>>,
    urls: &[String],
    group: GroupId,
    to: MemberId,
    snapshot: Snapshot,
) -> Result<u64, String> {
    let url = urls.first().ok_or("the receiver has no address")?;
    let mut client = dial(url, tls).await?;
    let header = SnapshotHeader {
        cluster_id: node.cluster_id,
        from: node.id.0,
        to: to.0,
        group_id: group.0,
        protocol: node.config.protocol.to_string(),
        epoch: snapshot.epoch.0,
        index: snapshot.index.0,
        ..SnapshotHeader::default()
    };
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    let reading = tokio::task::spawn_blocking(move || read(snapshot, header, &pieces));
    let ack = tokio::time::timeout(TRANSFER_TIMEOUT, client.snapshot(ReceiverStream::new(receiver)))
        .await
        .map_err(|_| "it took too long".to_owned())?
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    reading.await.map_err(|error| error.to_string())??;
    if ack.refusal.is_empty() { Ok(ack.received_bytes) } else { Err(ack.refusal) }
}

fn read(
    mut snapshot: Snapshot,
    header: SnapshotHeader,
    pieces: &mpsc::Sender<SnapshotChunk>,
) -> Result<(), String> {
    let gone = |_| "the receiver ended the stream".to_owned();
    pieces.blocking_send(chunk(Chunk::Header(header))).map_err(gone)?;
    let (mut total_bytes, mut crc32c) = (0, 0);
    while let Some(batch) = snapshot.next_chunk().map_err(|error| error.to_string())? {
        let data = encode(batch);
        total_bytes += u64::try_from(data.len()).unwrap_or(0);
        crc32c = crc32c::crc32c_append(crc32c, &data);
        let data = SnapshotData { crc32c: crc32c::crc32c(&data), data };
        pieces.blocking_send(chunk(Chunk::Data(data))).map_err(gone)?;
    }
    pieces.blocking_send(chunk(Chunk::End(SnapshotEnd { total_bytes, crc32c }))).map_err(gone)
}

/// What arrived between header and end.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) chunks: Vec<Batch>,
    pub(super) bytes: u64,
}

/// Receives what follows the header.
pub(super) async fn receive(stream: &mut Streaming<SnapshotChunk>) -> Result<Received, String> {
    let mut received = Received { chunks: Vec::new(), bytes: 0 };
    let mut whole = 0;
    loop {
        let next = stream.message().await.map_err(|status| status.message().to_owned())?;
        match next.and_then(|chunk| chunk.chunk) {
            Some(Chunk::Data(SnapshotData { data, crc32c })) => {
                if crc32c::crc32c(&data) != crc32c {
                    return Err("a piece was damaged on its way".into());
                }
                whole = crc32c::crc32c_append(whole, &data);
                received.bytes += u64::try_from(data.len()).unwrap_or(0);
                received.chunks.push(decode(data).ok_or("a piece can't be decoded")?);
            }
            Some(Chunk::End(SnapshotEnd { total_bytes, crc32c })) => {
                let same = total_bytes == received.bytes && crc32c == whole;
                return if same { Ok(received) } else { Err("pieces were lost on their way".into()) };
            }
            Some(Chunk::Header(_)) => return Err("a second header".into()),
            None => return Err("the stream ended before the snapshot".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_survives_its_encoding() {
        let put = |table| Change::Put(table, Bytes::from_static(b"k"), Bytes::from_static(b"v"));
        let batch = Batch { changes: Table::ALL.map(put).to_vec() };
        assert_eq!(decode(encode(batch.clone())).unwrap().changes, batch.changes);
        assert!(decode(Bytes::from_static(b"\xff")).is_none());
    }
}
