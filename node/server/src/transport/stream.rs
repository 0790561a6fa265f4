//! The stream of messages to a peer: a connection that left HTTP by an upgrade, and then carries frames.
//!
//! A frame is its size in four bytes, little endian, then a `PeerFrame`. Messages of a busy group are small and many: over
//! gRPC each costs more in HTTP/2's frames, windows and tasks than in what it says.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use quorate_api::peer::PeerFrame;

use super::FRAME_BYTES_MAX;

/// The path of the upgrade.
pub(super) const PATH: &str = "/quorate.peer.v1/messages";
/// The name of what the connection is upgraded to.
pub(super) const PROTOCOL: &str = "quorate-peer";
/// For a frame to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Room that a buffer gets when it is full.
const READ_BYTES: usize = 64 << 10;
/// A buffer with less room than this is full.
const READ_BYTES_MIN: usize = 4 << 10;
/// A buffer for sending that grew larger than this is given back.
const WRITE_BYTES_KEPT: usize = 256 << 10;
const SIZE_BYTES: usize = 4;

fn malformed(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Frames from a peer.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    input: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: BytesMut::new() }
    }

    /// The next frame; `None` at the end. May be dropped while it waits: what was read stays.
    ///
    /// # Errors
    /// The connection's; a frame that is too large or none.
    pub(super) async fn next(&mut self) -> io::Result<Option<PeerFrame>> {
        loop {
            if let Some(size) = self.buffer.first_chunk::<SIZE_BYTES>() {
                let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
                if size > FRAME_BYTES_MAX {
                    return Err(malformed("a peer's frame is too large"));
                }
                if self.buffer.len() >= SIZE_BYTES + size {
                    self.buffer.advance(SIZE_BYTES);
                    let frame = self.buffer.split_to(size).freeze();
                    return PeerFrame::decode(frame)
                        .map(Some)
                        .map_err(|_| malformed("a peer's frame can't be decoded"));
                }
            }
            // Memory follows what came, not what a size promises.
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
                self.buffer.reserve(READ_BYTES);
            }
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Frames to a peer.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    output: W,
    buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(output: W) -> Self {
        Self { output, buffer: BytesMut::new() }
    }

    /// Sends a frame. Nothing may be sent after an error.
    ///
    /// # Errors
    /// The connection's; the peer did not take it in time; it is too large.
    pub(super) async fn send(&mut self, frame: &PeerFrame) -> io::Result<()> {
        let size = frame.encoded_len();
        if size > FRAME_BYTES_MAX {
            return Err(malformed("a frame for a peer is too large"));
        }
        self.buffer.clear();
        self.buffer.reserve(SIZE_BYTES + size);
        self.buffer.put_u32_le(u32::try_from(size).unwrap_or(u32::MAX));
        frame.encode(&mut self.buffer).map_err(|_| malformed("a frame for a peer can't be encoded"))?;
        let sent = async {
            self.output.write_all(&self.buffer).await?;
            self.output.flush().await
        };
        tokio::time::timeout(SEND_TIMEOUT, sent)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "a peer did not take a frame in time"))??;
        if self.buffer.capacity() > WRITE_BYTES_KEPT {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::peer::peer_frame::Frame;
    use quorate_api::peer::{Batch, GroupMessage};

    fn frame(sizes: &[usize]) -> PeerFrame {
        let message = |&size: &usize| GroupMessage { group_id: 1, payload: vec![7; size].into() };
        PeerFrame { frame: Some(Frame::Batch(Batch { messages: sizes.iter().map(message).collect() })) }
    }

    #[tokio::test]
    async fn frames_of_every_size_arrive_through_a_narrow_pipe() {
        let (output, input) = tokio::io::duplex(1_000);
        let frames = [
            frame(&[]),
            frame(&[1, 2, 3]),
            frame(&[READ_BYTES + 1]),
            frame(&[WRITE_BYTES_KEPT]),
            frame(&[5]),
        ];
        let sent = frames.clone();
        let sender = tokio::spawn(async move {
            let mut writer = FrameWriter::new(output);
            for frame in &sent {
                writer.send(frame).await.unwrap();
            }
        });
        let mut reader = FrameReader::new(input);
        for frame in frames {
            assert_eq!(reader.next().await.unwrap(), Some(frame));
        }
        assert_eq!(reader.next().await.unwrap(), None);
        sender.await.unwrap();
    }

    #[tokio::test]
    async fn a_frame_that_is_too_large_is_refused() {
        let (mut output, input) = tokio::io::duplex(100);
        let size = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
        output.write_all(&size.to_le_bytes()).await.unwrap();
        let error = FrameReader::new(input).next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
