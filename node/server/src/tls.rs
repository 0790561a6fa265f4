//! TLS settings from files, read again when the files change: certificates and trust bundles need no restart.
//!
//! A change that can't be read keeps what was valid before, with a warning.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// How often the files are looked at, at most.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The files, and what is asked of the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose certificates are taken.
    pub trusted: Option<PathBuf>,
    /// Whether the other side must have one.
    pub require_client_certificate: bool,
    /// Whether TLS 1.2 is let in.
    pub tls12: bool,
}

/// Files that make no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path} can't be read as PEM")]
    Pem {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file without certificates.
    #[error("{0} holds no certificate")]
    Empty(String),
    /// Parts that don't fit.
    #[error("the certificate, its key or the trust bundle can't be used")]
    Unusable(#[from] rustls::Error),
    /// A trust bundle that can't verify.
    #[error("the trust bundle can't be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The newest settings of both sides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For accepting.
    pub server: Arc<ServerConfig>,
    /// For dialling peers; with the same certificate.
    pub client: Arc<ClientConfig>,
}

#[derive(Debug)]
struct Loaded {
    settings: Settings,
    stamps: Vec<Option<(SystemTime, u64)>>,
    checked: Instant,
}

/// Settings that follow their files.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    loaded: Mutex<Loaded>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(files: Files) -> Result<Arc<Self>, TlsError> {
        let stamps = stamps(&files);
        let settings = settings(&files)?;
        Ok(Arc::new(Self { files, loaded: Mutex::new(Loaded { settings, stamps, checked: Instant::now() }) }))
    }

    /// The settings for a new connection.
    #[must_use]
    pub fn current(&self) -> Settings {
        // Only this module's short sections hold the lock, and none can leave half a value.
        let mut loaded: MutexGuard<'_, Loaded> = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.checked.elapsed() >= CHECK_INTERVAL {
            loaded.checked = Instant::now();
            let stamps = stamps(&self.files);
            if stamps != loaded.stamps {
                match settings(&self.files) {
                    Ok(settings) => {
                        tracing::info!(certificate = %self.files.certificate.display(), "reloaded TLS files");
                        *loaded = Loaded { settings, stamps, checked: Instant::now() };
                    }
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "changed TLS files can't be used; keeping the ones before"
                    ),
                }
            }
        }
        loaded.settings.clone()
    }
}

fn stamps(files: &Files) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let all = [Some(&files.certificate), Some(&files.key), files.trusted.as_ref()];
    all.into_iter().flatten().map(|path| stamp(path)).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.display().to_string(), source };
    let all: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if all.is_empty() {
        return Err(TlsError::Empty(path.display().to_string()));
    }
    Ok(all)
}

fn settings(files: &Files) -> Result<Settings, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = if files.tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::Pem { path: files.key.display().to_string(), source })?;
    let mut roots = RootCertStore::empty();
    if let Some(trusted) = &files.trusted {
        for certificate in certificates(trusted)? {
            roots.add(certificate)?;
        }
    }
    let roots = Arc::new(roots);
    let server =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
    let server = if files.require_client_certificate {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build()?;
        server.with_client_cert_verifier(verifier)
    } else {
        server.with_no_client_auth()
    };
    let mut server = server.with_single_cert(chain.clone(), key.clone_key())?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Settings { server: Arc::new(server), client: Arc::new(client) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_files_are_read_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let signed = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            std::fs::write(folder.path().join("c"), signed.cert.pem()).unwrap();
            std::fs::write(folder.path().join("k"), signed.signing_key.serialize_pem()).unwrap();
        };
        write("a");
        let files = Files {
            certificate: folder.path().join("c"),
            key: folder.path().join("k"),
            trusted: Some(folder.path().join("c")),
            require_client_certificate: true,
            tls12: false,
        };
        let tls = Tls::load(files).unwrap();
        let first = tls.current().server;
        let age = |tls: &Tls| tls.loaded.lock().unwrap().checked -= CHECK_INTERVAL;
        std::fs::write(folder.path().join("c"), "broken").unwrap();
        age(&tls);
        assert!(Arc::ptr_eq(&first, &tls.current().server));
        write("another-name");
        age(&tls);
        assert!(!Arc::ptr_eq(&first, &tls.current().server));
    }
}
