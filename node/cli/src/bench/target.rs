//! Where the server is, and how to reach it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use quorate_api::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;

use super::connection::Connection;
use super::grpc::{self, CallError, Method};

/// Where and as whom. The names are etcdctl's.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TargetOptions {
    /// Members, separated by commas; connections are spread over them. https:// needs --cacert
    #[arg(long, env = "ETCDCTL_ENDPOINTS", default_value = "http://127.0.0.1:2379", value_delimiter = ',')]
    pub(super) endpoints: Vec<String>,
    /// Authorities that sign servers (PEM)
    #[arg(long, env = "ETCDCTL_CACERT")]
    cacert: Option<PathBuf>,
    /// This client's certificate (PEM)
    #[arg(long, env = "ETCDCTL_CERT", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "ETCDCTL_KEY", requires = "cert")]
    key: Option<PathBuf>,
    /// NAME or NAME:PASSWORD
    #[arg(long, env = "ETCDCTL_USER")]
    user: Option<String>,
    /// The password, if --user has none
    #[arg(long, env = "ETCDCTL_PASSWORD", requires = "user", hide_env_values = true)]
    password: Option<String>,
    /// An operation without an answer fails after this; connecting too
    #[arg(long, default_value = "5s", value_parser = super::options::duration)]
    pub(super) timeout: Duration,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
    tls: bool,
}

/// The port that etcd's clients are served on.
const PORT_DEFAULT: u16 = 2379;

fn parse(endpoint: &str) -> Result<Address> {
    let (tls, rest) = match endpoint.trim().split_once("://") {
        None => (false, endpoint.trim()),
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some((scheme, _)) => bail!("endpoint {endpoint:?}: {scheme} is neither http nor https"),
    };
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().with_context(|| format!("endpoint {endpoint:?}: {port:?} is no port"))?)
        }
        _ => (rest, PORT_DEFAULT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() || host.contains('/') {
        bail!("endpoint {endpoint:?}: a host and a port are expected, as in http://127.0.0.1:2379");
    }
    Ok(Address { host, port, tls })
}

/// Opens connections.
#[derive(Debug)]
pub(super) struct Target {
    addresses: Vec<Address>,
    tls: Option<Arc<rustls::ClientConfig>>,
    token: Option<String>,
    pub(super) timeout: Duration,
}

impl Target {
    /// Reads the files, reaches every endpoint once, and signs in.
    ///
    /// # Errors
    /// A file, an endpoint, or a refused password.
    pub(super) async fn new(options: &TargetOptions) -> Result<Self> {
        let addresses: Vec<Address> =
            options.endpoints.iter().map(|endpoint| parse(endpoint)).collect::<Result<_>>()?;
        let tls = if addresses.iter().any(|address| address.tls) { Some(tls(options)?) } else { None };
        let mut target = Self { addresses, tls, token: None, timeout: options.timeout };
        for at in 0..target.addresses.len() {
            let mut connection = target.connect(at).await?;
            target.check(&mut connection, at).await?;
            if at == 0 {
                target.sign_in(options, &mut connection).await?;
            }
        }
        Ok(target)
    }

    /// Reads a key that is not there: something else than an etcd server answers with another error.
    async fn check(&self, connection: &mut Connection, at: usize) -> Result<()> {
        let read = quorate_api::etcdserverpb::RangeRequest {
            key: vec![0].into(),
            serializable: true,
            ..Default::default()
        };
        match self.unary(connection, Method::Range, grpc::frame(&read)).await {
            // Whoever must sign in first is told so by the first operation.
            Ok(_) | Err(CallError::Status { code: 3 | 7 | 14 | 16, .. }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("{} does not answer a read", self.shown(at))),
        }
    }

    async fn sign_in(&mut self, options: &TargetOptions, connection: &mut Connection) -> Result<()> {
        let Some(user) = &options.user else { return Ok(()) };
        let (name, password) = match (user.split_once(':'), &options.password) {
            (Some((name, password)), None) => (name, password),
            (None, Some(password)) => (user.as_str(), password.as_str()),
            (None, None) => bail!("--user {user} has no password: give --password or --user NAME:PASSWORD"),
            (Some(_), Some(_)) => bail!("two passwords: one in --user and one in --password"),
        };
        let request = AuthenticateRequest { name: name.into(), password: password.into() };
        match self.unary(connection, Method::Authenticate, grpc::frame(&request)).await {
            Ok(answer) => {
                let answer: AuthenticateResponse = grpc::decode(answer)?;
                self.token = Some(answer.token);
                Ok(())
            }
            Err(CallError::Status { code: grpc::UNIMPLEMENTED, text }) => bail!(
                "{} has no users and passwords ({text}): leave --user out, or use a client certificate",
                self.shown(0)
            ),
            Err(error) => Err(error).with_context(|| format!("{} refuses the user {name}", self.shown(0))),
        }
    }

    async fn unary(
        &self,
        connection: &mut Connection,
        method: Method,
        frame: Bytes,
    ) -> Result<Bytes, CallError> {
        match tokio::time::timeout(self.timeout, connection.unary(method, frame)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout(self.timeout.as_millis())),
        }
    }

    fn shown(&self, at: usize) -> String {
        let Address { host, port, tls } = &self.addresses[at % self.addresses.len()];
        format!("{}://{host}:{port}", if *tls { "https" } else { "http" })
    }

    /// Opens a connection to the endpoint of this number; numbers beyond the last begin again.
    ///
    /// # Errors
    /// Nobody listens there, or no TLS, or no HTTP/2.
    pub(super) async fn connect(&self, at: usize) -> Result<Connection> {
        match tokio::time::timeout(self.timeout, self.open(at)).await {
            Ok(opened) => opened.with_context(|| format!("can't connect to {}", self.shown(at))),
            Err(_) => bail!("can't connect to {} within {} ms", self.shown(at), self.timeout.as_millis()),
        }
    }

    async fn open(&self, at: usize) -> Result<Connection> {
        let Address { host, port, tls } = &self.addresses[at % self.addresses.len()];
        let tcp = TcpStream::connect((host.as_str(), *port)).await?;
        tcp.set_nodelay(true)?;
        let origin = self.shown(at);
        let token = self.token.as_deref();
        let Some(config) = self.tls.as_ref().filter(|_| *tls) else {
            return Connection::open(tcp, &origin, token).await;
        };
        let name = ServerName::try_from(host.clone()).context("no name that a certificate can have")?;
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?;
        Connection::open(stream, &origin, token).await
    }
}

fn tls(options: &TargetOptions) -> Result<Arc<rustls::ClientConfig>> {
    let Some(cacert) = &options.cacert else { bail!("https needs --cacert, the file of the authorities") };
    let read = |path: &PathBuf| {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("can't read certificates from {}", path.display()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for authority in read(cacert)? {
        roots.add(authority).with_context(|| format!("{}: no authority", cacert.display()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => {
            let own = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("can't read a key from {}", key.display()))?;
            builder.with_client_auth_cert(read(cert)?, own)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_what_etcdctl_takes() {
        let address = |host: &str, port, tls| Address { host: host.into(), port, tls };
        assert_eq!(parse("10.0.0.1:2379").unwrap(), address("10.0.0.1", 2379, false));
        assert_eq!(parse("http://a.example").unwrap(), address("a.example", 2379, false));
        assert_eq!(parse("https://[::1]:99/").unwrap(), address("::1", 99, true));
        assert_eq!(parse("https://[::1]").unwrap(), address("::1", 2379, true));
        for wrong in ["ftp://a:1", "http://", "http://a:b", "a/b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
