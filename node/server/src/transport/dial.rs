//! Connections to peers, with the newest TLS settings.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, Uri, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use quorate_api::peer::peer_client::PeerClient;

use super::FRAME_BYTES_MAX;
use super::stream::{PATH, PROTOCOL};
use crate::listen;
use crate::tls::Tls;

/// Until a connection stands, TLS and an upgrade included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A silent connection is asked this often whether it lives.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// What was sent and not acknowledged for this long ends a connection.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a peer URL leads.
#[derive(Clone)]
struct Target {
    authority: String,
    host: String,
    tls: Option<Arc<Tls>>,
}

impl Target {
    fn new(url: &str, tls: Option<Arc<Tls>>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url} is no URL: {error}"))?;
        let secure = uri.scheme_str() == Some("https");
        let authority = uri.authority().ok_or_else(|| format!("{url} has no host"))?.to_string();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = match (secure, tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls),
            (true, None) => {
                return Err(format!(
                    "{url} needs --peer-cert-file, --peer-key-file and --peer-trusted-ca-file"
                ));
            }
        };
        Ok(Self { authority, host, tls })
    }

    async fn connect(self) -> io::Result<TokioIo<Box<dyn Stream>>> {
        let Self { authority, host, tls } = self;
        let tcp = TcpStream::connect(&authority).await?;
        tcp.set_nodelay(true)?;
        sockopt::set_tcp_user_timeout(&tcp, u32::try_from(SILENCE_TIMEOUT.as_millis()).unwrap_or(u32::MAX))?;
        listen::keep_alive(&tcp, KEEP_ALIVE)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(host)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                let connector = tokio_rustls::TlsConnector::from(tls.current().client);
                Box::new(connector.connect(name, tcp).await?)
            }
        };
        Ok(TokioIo::new(stream))
    }
}

/// Opens the stream of messages to a peer: its handshake follows.
///
/// # Errors
/// A text that says what failed.
pub async fn dial_stream(url: &str, tls: Option<Arc<Tls>>) -> Result<TokioIo<Upgraded>, String> {
    let target = Target::new(url, tls)?;
    let request = Request::get(PATH)
        .header(header::HOST, &target.authority)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let unreachable = |error: &dyn std::error::Error| format!("{url} can't be reached: {error}");
    let upgraded = async {
        let stream = target.connect().await.map_err(|error| unreachable(&error))?;
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|error| unreachable(&error))?;
        // Ends when the connection is handed over, or fails.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("{url} does not speak {PROTOCOL}: HTTP status {}", response.status()));
        }
        hyper::upgrade::on(response).await.map_err(|error| unreachable(&error))
    };
    let upgraded = tokio::time::timeout(CONNECT_TIMEOUT, upgraded).await;
    Ok(TokioIo::new(upgraded.map_err(|_| format!("{url} did not answer in time"))??))
}

/// Dials a peer URL for gRPC.
///
/// # Errors
/// A text that says what failed.
pub async fn dial(url: &str, tls: Option<Arc<Tls>>) -> Result<PeerClient<Channel>, String> {
    let target = Target::new(url, tls)?;
    // TLS is spoken by the connector below, so tonic sees a plain stream.
    let endpoint = Endpoint::from_shared(format!("http://{}", target.authority))
        .map_err(|error| error.to_string())?
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    let connector = tower::service_fn(move |_: Uri| target.clone().connect());
    let channel = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector))
        .await
        .map_err(|_| format!("{url} did not answer in time"))?
        .map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            format!("{url} can't be reached{cause}")
        })?;
    Ok(PeerClient::new(channel)
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX))
}
