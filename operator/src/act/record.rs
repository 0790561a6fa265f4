//! The record in the ConfigMap: made once, changed by compare-and-set, so that two operators at once do no harm.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::crd::ZoneRole;
use crate::desired::Basis;
use crate::desired::config::Record;
use crate::names::NO_ZONE;
use crate::observe::{kubernetes, zones};
use crate::placement::{Place, places};
use crate::reconcile::ReconcileError;

/// The record with the object it came from.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What it says.
    pub record: Record,
    object: ConfigMap,
}

/// Reads the record, or makes it when there is none.
///
/// # Errors
/// The API server's; a record that can't be read is never replaced.
pub async fn open(client: &Client, basis: &Basis<'_>) -> Result<Kept, ReconcileError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &basis.names.namespace);
    let name = basis.names.config();
    if let Some(object) = maps.get_opt(&name).await? {
        let data = object.data.clone().unwrap_or_default();
        let record = Record::read(&basis.names, &data).ok_or(ReconcileError::Record(name))?;
        return Ok(Kept { record, object });
    }
    let zones = chosen_zones(client, basis).await?;
    let founders = places(&basis.names, &zones, basis.spec.members);
    let record = Record { zones, founders, cluster_id: None };
    let object = serde_json::from_value(serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": basis.metadata(&name),
        "data": record.data(&basis.names, &basis.spec.witness_zones(), &[]),
    }))?;
    // Created, not applied: of two operators one fails here and reads the other's record next time.
    let object = maps.create(&PostParams::default(), &object).await?;
    Ok(Kept { record, object })
}

async fn chosen_zones(client: &Client, basis: &Basis<'_>) -> Result<Vec<String>, kube::Error> {
    match &basis.spec.zones {
        Some(zones) if !zones.is_empty() => {
            // Witnesses last: any number of members has more with data than without.
            let (witnesses, data): (Vec<_>, Vec<_>) =
                zones.iter().partition(|zone| zone.role == ZoneRole::Witness);
            Ok(data.into_iter().chain(witnesses).map(|zone| zone.name.clone()).collect())
        }
        Some(_) | None => {
            let zones = zones::zones(client).await?;
            let fit = |zone: &String| {
                zone.len() <= 40
                    && zone
                        .chars()
                        .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
            };
            // Names of pods are made from names of zones; ones that don't fit are as good as none.
            if !zones.iter().all(fit) {
                return Ok(vec![NO_ZONE.to_owned()]);
            }
            let claims = kubernetes::look(client, &basis.names).await?.claims.into_keys().collect();
            Ok(zones::where_claims_are(&basis.names, zones, &claims))
        }
    }
}

/// Writes the record with these members, if that changes it.
///
/// # Errors
/// Somebody else changed it meanwhile; the API server's.
pub async fn keep(
    client: &Client,
    basis: &Basis<'_>,
    kept: &Kept,
    members: &[Place],
) -> Result<(), kube::Error> {
    let data: BTreeMap<String, String> = kept.record.data(&basis.names, &basis.spec.witness_zones(), members);
    if kept.object.data.as_ref() == Some(&data) {
        return Ok(());
    }
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &basis.names.namespace);
    let object = ConfigMap { data: Some(data), ..kept.object.clone() };
    maps.replace(&basis.names.config(), &PostParams::default(), &object).await?;
    Ok(())
}
