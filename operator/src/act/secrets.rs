//! The Secrets: made once each, never overwritten.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::certificates::{self, Pair};
use crate::desired::Basis;
use crate::reconcile::ReconcileError;
use crate::store::Credentials;

/// Makes what is missing; gives back what the operator shows to members.
///
/// # Errors
/// The API server's; a Secret of ours that lacks a key.
pub async fn ensure(client: &Client, basis: &Basis<'_>) -> Result<Credentials, ReconcileError> {
    let names = &basis.names;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &names.namespace);
    let make_ca = || {
        let pair = certificates::authority(names)?;
        Ok([("ca.crt", pair.certificate), ("ca.key", pair.key)].into())
    };
    let ca = get_or_make(&secrets, basis, &names.ca(), "Opaque", make_ca).await?;
    let authority = Pair { certificate: text(&ca, "ca.crt")?, key: text(&ca, "ca.key")? };
    let content = |pair: Pair| {
        [("ca.crt", authority.certificate.clone()), ("tls.crt", pair.certificate), ("tls.key", pair.key)]
            .into()
    };
    let make = || Ok(content(certificates::server(names, &authority)?));
    get_or_make(&secrets, basis, &names.server_tls(), "kubernetes.io/tls", make).await?;
    let make = || Ok(content(certificates::client(names, &authority)?));
    let own = get_or_make(&secrets, basis, &names.client_tls(), "kubernetes.io/tls", make).await?;
    Ok(Credentials {
        ca: text(&own, "ca.crt")?.into_bytes(),
        certificate: text(&own, "tls.crt")?.into_bytes(),
        key: text(&own, "tls.key")?.into_bytes(),
    })
}

fn text(secret: &Secret, key: &str) -> Result<String, ReconcileError> {
    let value = secret.data.as_ref().and_then(|data| data.get(key)).map(|ByteString(value)| value.clone());
    let name = || secret.metadata.name.clone().unwrap_or_default();
    value
        .and_then(|value| String::from_utf8(value).ok())
        .ok_or_else(|| ReconcileError::Secret(name(), key.into()))
}

async fn get_or_make(
    secrets: &Api<Secret>,
    basis: &Basis<'_>,
    name: &str,
    kind: &str,
    make: impl FnOnce() -> Result<BTreeMap<&'static str, String>, ReconcileError>,
) -> Result<Secret, ReconcileError> {
    if let Some(secret) = secrets.get_opt(name).await? {
        return Ok(secret);
    }
    let secret = serde_json::from_value(serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": basis.metadata(name),
        "type": kind,
        "stringData": make()?,
    }))?;
    match secrets.create(&PostParams::default(), &secret).await {
        // The server answers with the data that it made from the strings.
        Ok(made) => Ok(made),
        // Another operator was faster: its Secret counts.
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(secrets.get(name).await?),
        Err(error) => Err(error.into()),
    }
}
