//! Connections to peers, with the newest TLS settings.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use quorate_api::peer::peer_client::PeerClient;

use super::FRAME_BYTES_MAX;
use crate::tls::Tls;

/// Until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A silent connection is asked this often whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Dials a peer URL.
///
/// # Errors
/// A text that says what failed.
pub async fn dial(url: &str, tls: Option<Arc<Tls>>) -> Result<PeerClient<Channel>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url} is no URL: {error}"))?;
    let secure = uri.scheme_str() == Some("https");
    let authority = uri.authority().ok_or_else(|| format!("{url} has no host"))?.to_string();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let tls = match (secure, tls) {
        (false, _) => None,
        (true, Some(tls)) => Some(tls),
        (true, None) => {
            return Err(format!("{url} needs --peer-cert-file, --peer-key-file and --peer-trusted-ca-file"));
        }
    };
    // TLS is spoken by the connector below, so tonic sees a plain stream.
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|error| error.to_string())?
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    let connector = tower::service_fn(move |_: Uri| connect(authority.clone(), host.clone(), tls.clone()));
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

async fn connect(
    authority: String,
    host: String,
    tls: Option<Arc<Tls>>,
) -> io::Result<TokioIo<Box<dyn Stream>>> {
    let tcp = TcpStream::connect(&authority).await?;
    tcp.set_nodelay(true)?;
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
