//! What a connection says is gathered: fewer, larger writes to its socket.
//!
//! A write costs the system more than the gRPC answer in it costs this program. HTTP/2 by itself writes once for every answer
//! that becomes ready, and once more for the end of every answer above 256 bytes.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// Holds one frame of HTTP/2 with its head; what is larger passes by.
const BUFFER_BYTES: usize = (16 << 10) + 64;

/// A stream whose small writes wait for a flush.
///
/// It says that it can't take several slices at once: HTTP/2 then copies small messages behind each other instead of
/// flushing each.
#[derive(Debug)]
pub struct Gathered<T>(BufWriter<T>);

impl<T: AsyncWrite> Gathered<T> {
    /// Around a stream.
    #[must_use]
    pub fn new(stream: T) -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, stream))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Runs a connection's task only after all tasks that are ready now: the answers of one batch leave in one write.
pub async fn after_others<F: Future>(connection: F) -> F::Output {
    let mut connection = pin!(connection);
    loop {
        if let Poll::Ready(output) = poll_fn(|context| Poll::Ready(connection.as_mut().poll(context))).await {
            return output;
        }
        let mut woken = false;
        poll_fn(|_| if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        tokio::task::yield_now().await;
    }
}
