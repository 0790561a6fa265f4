//! The accept loop: TLS with a deadline, limits for each address, HTTP/1 and HTTP/2 on one port, an orderly end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::body::Body;
use tower::Service;

use crate::config::Listen;
use crate::gather::{Gathered, after_others};
use crate::tls::Tls;

/// A handshake takes no longer (etcd had none: CVE-2026-73500).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The head of an HTTP/1 request takes no longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way from one address, at most; more are closed at once.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 256;
/// Connections from one address, at most; more are closed at once.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 8_192;
/// After a failed accept (no file descriptors left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A connection that says nothing for this long is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Unanswered questions that end a connection.
const KEEP_ALIVE_PROBES_MAX: u32 = 3;
/// A connection that does not end by itself is cut after this.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// One listening socket, bound.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    tls: bool,
}

/// Binds every address.
///
/// # Errors
/// The first that can't be bound.
pub async fn bind(listens: &[Listen]) -> io::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    for listen in listens {
        for address in &listen.addresses {
            let listener = TcpListener::bind(address).await.map_err(|error| {
                io::Error::new(error.kind(), format!("{address} can't be listened on: {error}"))
            })?;
            bound.push(Bound { listener, tls: listen.tls });
        }
    }
    Ok(bound)
}

#[derive(Debug, Default)]
struct Counts {
    handshakes: usize,
    connections: usize,
}

/// Who is connected, by address.
#[derive(Clone, Debug, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, Counts>>>);

/// One connection's place; given back when dropped.
struct Place {
    addresses: Addresses,
    address: IpAddr,
    shaking: bool,
}

impl Addresses {
    fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.entry(address).or_default();
        if counts.handshakes >= HANDSHAKES_PER_ADDRESS_MAX
            || counts.connections >= CONNECTIONS_PER_ADDRESS_MAX
        {
            return None;
        }
        counts.handshakes += 1;
        counts.connections += 1;
        Some(Place { addresses: self.clone(), address, shaking: true })
    }
}

impl Place {
    fn shaken(&mut self) {
        if std::mem::take(&mut self.shaking) {
            let mut all = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(counts) = all.get_mut(&self.address) {
                counts.handshakes -= 1;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shaken();
        let mut all = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = all.get_mut(&self.address) {
            counts.connections -= 1;
            if counts.connections == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// Has the system ask a silent connection whether it lives.
///
/// # Errors
/// The system's.
pub fn keep_alive(tcp: &TcpStream, after: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, after)?;
    sockopt::set_tcp_keepintvl(tcp, after)?;
    Ok(sockopt::set_tcp_keepcnt(tcp, KEEP_ALIVE_PROBES_MAX)?)
}

/// Serves connections until `stopping`, then lets those that are open end.
pub async fn serve<S, F>(
    bound: Bound,
    tls: Option<Arc<Tls>>,
    streams_max: u32,
    service: S,
    mut stopping: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = F>
        + Clone
        + Send
        + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let addresses = Addresses::default();
    let tls = tls.filter(|_| bound.tls);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = bound.listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
            // Forget ended connections.
            Some(_) = connections.join_next() => continue,
        };
        let (tcp, from): (TcpStream, SocketAddr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = addresses.enter(from.ip()) else {
            tracing::debug!(address = %from, "too many connections from one address");
            continue;
        };
        connections.spawn(connection(
            tcp,
            place,
            tls.clone(),
            streams_max,
            service.clone(),
            stopping.clone(),
        ));
    }
    drop(bound);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::info!("connections that did not end were cut");
    }
}

async fn connection<S, F>(
    tcp: TcpStream,
    mut place: Place,
    tls: Option<Arc<Tls>>,
    streams_max: u32,
    service: S,
    stopping: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = F>
        + Clone
        + Send
        + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    // Without them it is slower, or ends later.
    let _ = tcp.set_nodelay(true).and_then(|()| keep_alive(&tcp, KEEP_ALIVE));
    match tls {
        None => {
            place.shaken();
            http(tcp, streams_max, service, stopping).await;
        }
        Some(tls) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.current().server);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
                Ok(Ok(stream)) => {
                    place.shaken();
                    http(stream, streams_max, service, stopping).await;
                }
                Ok(Err(error)) => {
                    tracing::warn!(address = %place.address, error = &error as &dyn std::error::Error, "rejected connection");
                }
                Err(_) => tracing::debug!(address = %place.address, "a TLS handshake took too long"),
            }
        }
    }
}

async fn http<T, S, F>(stream: T, streams_max: u32, service: S, mut stopping: watch::Receiver<bool>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = F>
        + Clone
        + Send
        + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        // gRPC has no use for it.
        .auto_date_header(false)
        .max_concurrent_streams(streams_max)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection_with_upgrades(
        TokioIo::new(Gathered::new(stream)),
        TowerToHyperService::new(service),
    );
    tokio::pin!(connection);
    tokio::select! {
        ended = after_others(connection.as_mut()) => {
            if let Err(error) = ended {
                tracing::debug!(error = &*error as &dyn std::error::Error, "a connection ended early");
            }
            return;
        }
        _ = stopping.wait_for(|stopping| *stopping) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_can_not_take_all_places() {
        let addresses = Addresses::default();
        let one: IpAddr = [127, 0, 0, 1].into();
        let places: Vec<_> = std::iter::from_fn(|| addresses.enter(one)).collect();
        assert_eq!(places.len(), HANDSHAKES_PER_ADDRESS_MAX);
        assert!(addresses.enter([127, 0, 0, 2].into()).is_some());
        drop(places);
        assert!(addresses.0.lock().unwrap().is_empty());
    }
}
