//! A CA of each cluster's own, a certificate for its members and one for its clients.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::names::Names;

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// Why none was made.
#[derive(Debug, thiserror::Error)]
#[error("certificate: {0}")]
pub struct CertificateError(#[from] rcgen::Error);

/// A new CA.
///
/// # Errors
/// The system has no randomness.
pub fn authority(names: &Names) -> Result<Pair, CertificateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, format!("{}.{} CA", names.cluster, names.namespace));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// What members show to each other and to clients.
///
/// # Errors
/// The CA's PEM is not one.
pub fn server(names: &Names, authority: &Pair) -> Result<Pair, CertificateError> {
    let (peers, client, namespace) = (names.peers(), names.client(), &names.namespace);
    let mut hosts =
        vec!["localhost".to_owned(), "127.0.0.1".to_owned(), client.clone(), format!("{client}.{namespace}")];
    for suffix in ["svc", "svc.cluster.local"] {
        hosts.push(format!("{client}.{namespace}.{suffix}"));
        hosts.push(format!("*.{peers}.{namespace}.{suffix}"));
    }
    let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    signed(hosts, &client, &both, authority)
}

/// What clients show.
///
/// # Errors
/// The CA's PEM is not one.
pub fn client(names: &Names, authority: &Pair) -> Result<Pair, CertificateError> {
    let name = format!("{}-admin", names.cluster);
    signed(Vec::new(), &name, &[ExtendedKeyUsagePurpose::ClientAuth], authority)
}

fn signed(
    hosts: Vec<String>,
    name: &str,
    usages: &[ExtendedKeyUsagePurpose],
    authority: &Pair,
) -> Result<Pair, CertificateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages.to_vec();
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    Ok(Pair { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}
