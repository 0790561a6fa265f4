//! One HTTP/2 connection that carries gRPC. It stands on the `h2` crate alone, below what a generated client does for
//! each call: the generator shares its cores with the server it measures.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{HeaderMap, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite};

use super::grpc::{self, CallError, Method};

/// What a server may send before it is told that more may come: more than any page of keys.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// A connection. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    send: SendRequest<Bytes>,
    /// By method: parsing them again for each call would cost more than the call's other parts.
    uris: Arc<[Uri]>,
    headers: HeaderMap,
}

/// A call that goes on in both directions.
#[derive(Debug)]
pub(super) struct Stream {
    send: h2::SendStream<Bytes>,
    answers: Answers,
}

/// What a call receives.
#[derive(Debug)]
struct Answers {
    body: RecvStream,
    received: BytesMut,
}

fn lost(error: &h2::Error) -> CallError {
    // A stream that the server resets leaves the connection well.
    match error.reason() {
        Some(reason) if error.is_reset() => CallError::Foreign(format!("stream reset: {reason}")),
        _ => CallError::Lost(error.to_string()),
    }
}

/// The status in a head or in trailers; nothing if there is none.
fn status(headers: &HeaderMap) -> Option<Result<(), CallError>> {
    let value = headers.get("grpc-status")?;
    let code = value.to_str().ok().and_then(|code| code.parse().ok());
    let text = || grpc::text(headers.get("grpc-message").map_or(&[][..], HeaderValue::as_bytes));
    Some(match code {
        Some(0) => Ok(()),
        Some(code) => Err(CallError::Status { code, text: text() }),
        None => Err(CallError::Foreign("a status that is no number".into())),
    })
}

impl Connection {
    /// Speaks HTTP/2 over a stream of bytes; the connection is served by a task of its own.
    ///
    /// # Errors
    /// The other side does not speak HTTP/2.
    pub(super) async fn open<T>(stream: T, origin: &str, token: Option<&str>) -> Result<Self>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await
            .context("no HTTP/2 there")?;
        // Its error reaches every call that waits.
        tokio::spawn(connection);
        let mut headers = HeaderMap::new();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(token) = token {
            headers.insert("token", token.parse().context("a token that is no header")?);
        }
        let uri = |method: Method| format!("{origin}{}", method.path()).parse();
        let uris = Method::ALL.into_iter().map(uri).collect::<Result<_, _>>().context("no URI")?;
        Ok(Self { send, uris, headers })
    }

    fn request(&self, method: Method) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uris[method as usize].clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Sends one frame and waits for the one message that answers it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(super) async fn unary(&mut self, method: Method, frame: Bytes) -> Result<Bytes, CallError> {
        let request = self.request(method);
        std::future::poll_fn(|context| self.send.poll_ready(context)).await.map_err(|error| lost(&error))?;
        let (response, mut body) = self.send.send_request(request, false).map_err(|error| lost(&error))?;
        body.send_data(frame, true).map_err(|error| lost(&error))?;
        let mut answers = Answers::new(response).await?;
        let message = answers.next().await?;
        // The status comes after the message, and decides.
        answers.end().await?;
        message.ok_or_else(|| CallError::Foreign("an answer without a message".into()))
    }

    /// Opens a call for many messages both ways.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(super) async fn stream(&mut self, method: Method, first: Bytes) -> Result<Stream, CallError> {
        let request = self.request(method);
        std::future::poll_fn(|context| self.send.poll_ready(context)).await.map_err(|error| lost(&error))?;
        let (response, mut send) = self.send.send_request(request, false).map_err(|error| lost(&error))?;
        send.send_data(first, false).map_err(|error| lost(&error))?;
        Ok(Stream { send, answers: Answers::new(response).await? })
    }
}

impl Answers {
    async fn new(response: h2::client::ResponseFuture) -> Result<Self, CallError> {
        let (head, body) = response.await.map_err(|error| lost(&error))?.into_parts();
        if let Some(Err(error)) = status(&head.headers) {
            return Err(error);
        }
        if head.status != http::StatusCode::OK {
            return Err(CallError::Foreign(format!("HTTP status {}", head.status)));
        }
        Ok(Self { body, received: BytesMut::new() })
    }

    /// The next message; nothing at the end of the body.
    async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = grpc::take_message(&mut self.received)? {
                return Ok(Some(message));
            }
            let Some(data) = self.body.data().await else { return Ok(None) };
            let data = data.map_err(|error| lost(&error))?;
            let _ = self.body.flow_control().release_capacity(data.len());
            self.received.extend_from_slice(&data);
        }
    }

    /// Reads to the end and gives the status.
    async fn end(&mut self) -> Result<(), CallError> {
        while let Some(data) = self.body.data().await {
            let data = data.map_err(|error| lost(&error))?;
            let _ = self.body.flow_control().release_capacity(data.len());
        }
        let trailers = self.body.trailers().await.map_err(|error| lost(&error))?;
        trailers
            .as_ref()
            .and_then(status)
            .unwrap_or_else(|| Err(CallError::Foreign("an answer without a status".into())))
    }
}

impl Stream {
    /// Sends one frame more.
    ///
    /// # Errors
    /// The call is over.
    pub(super) fn send(&mut self, frame: Bytes) -> Result<(), CallError> {
        self.send.send_data(frame, false).map_err(|error| lost(&error))
    }

    /// The next message.
    ///
    /// # Errors
    /// The call is over; its status says why.
    pub(super) async fn next(&mut self) -> Result<Bytes, CallError> {
        match self.answers.next().await? {
            Some(message) => Ok(message),
            None => {
                self.answers.end().await?;
                Err(CallError::Lost("the server ended the stream".into()))
            }
        }
    }
}
