//! Looking: Kubernetes objects and members' answers, turned into facts.

pub mod kubernetes;
pub mod members;
pub mod zones;

use std::collections::BTreeMap;

use crate::crd::StoreClusterSpec;
use crate::desired::config::Record;
use crate::names::Names;
use crate::placement::{self, Place, place, places};
use crate::plan::{Facts, StoreFacts};

/// Puts together what was seen.
#[must_use]
pub fn facts(
    names: &Names,
    spec: &StoreClusterSpec,
    record: &Record,
    seen: kubernetes::Seen,
    store: Option<StoreFacts>,
) -> Facts {
    let kubernetes::Seen { pods, claims, replicas } = seen;
    let wanted = places(names, &record.zones, spec.members);
    let known = pods
        .keys()
        .chain(claims.keys())
        .chain(store.iter().flat_map(|store| store.members.iter().map(|m| &m.pod)));
    let mut all: BTreeMap<String, Place> = known
        .filter_map(|pod| place(names, &record.zones, pod))
        .map(|place| (place.pod.clone(), place))
        .collect();
    all.extend(wanted.iter().map(|place: &placement::Place| (place.pod.clone(), place.clone())));
    Facts {
        founders: record.founders.clone(),
        bootstrapped: record.cluster_id.is_some(),
        wanted,
        witness_zones: spec.witness_zones(),
        places: all,
        pods,
        claims,
        replicas,
        store,
    }
}
