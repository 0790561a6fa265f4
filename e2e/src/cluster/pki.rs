//! Keys, certificates, the token and the two kubeconfigs.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::layout::{API_PORT, CONTROL_PLANE, Layout};
use crate::digest;

/// How the host reaches the API server.
pub(super) struct Access {
    /// A port on loopback.
    pub(super) port: u16,
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// Makes everything anew.
pub(super) fn create(layout: &Layout) -> Result<Access> {
    let folder = layout.pki();
    let (ca_key, api_key, accounts) = (KeyPair::generate()?, KeyPair::generate()?, KeyPair::generate()?);
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "quorate-lab");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let names = [
        CONTROL_PLANE,
        "127.0.0.1",
        "10.96.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut api = CertificateParams::new(names.map(str::to_owned).to_vec())?;
    api.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    let api_pem = api.signed_by(&api_key, &Issuer::from_params(&ca, &ca_key))?.pem();
    write(&folder.join("ca.crt"), &ca_pem)?;
    write(&folder.join("ca.key"), &ca_key.serialize_pem())?;
    write(&folder.join("api.crt"), &api_pem)?;
    write(&folder.join("api.key"), &api_key.serialize_pem())?;
    write(&folder.join("sa.key"), &accounts.serialize_pem())?;
    write(&folder.join("sa.pub"), &accounts.public_key_pem())?;
    // As hard to guess as the key it is made from.
    let token = digest::of_bytes(KeyPair::generate()?.serialized_der());
    write(&folder.join("tokens.csv"), &format!("{token},admin,1,\"system:masters\"\n"))?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    write(&layout.kubeconfig(), &kubeconfig(&folder, &format!("127.0.0.1:{port}"), &token))?;
    let inner = format!("{CONTROL_PLANE}:{API_PORT}");
    write(&layout.inner_kubeconfig(), &kubeconfig(&folder, &inner, &token))?;
    Ok(Access { port })
}

fn kubeconfig(pki: &Path, server: &str, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: quorate-lab, cluster: {{server: \"https://{server}\", certificate-authority: {}/ca.crt}}}}]
users: [{{name: admin, user: {{token: {token}}}}}]
contexts: [{{name: quorate-lab, context: {{cluster: quorate-lab, user: admin}}}}]
current-context: quorate-lab
",
        pki.display()
    )
}
