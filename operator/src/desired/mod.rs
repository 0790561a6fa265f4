//! The objects that should be there. Pure: a StoreCluster and facts in, manifests out.

pub mod access;
pub mod config;
pub mod services;
pub mod stateful_set;

use serde_json::{Value, json};

use crate::crd::{StoreCluster, StoreClusterSpec};
use crate::names::Names;

/// What manifests are made from.
#[derive(Clone, Debug)]
pub struct Basis<'a> {
    /// Names.
    pub names: Names,
    /// The wish.
    pub spec: &'a StoreClusterSpec,
    /// The StoreCluster's uid.
    pub uid: String,
    /// The image to run.
    pub image: String,
}

impl<'a> Basis<'a> {
    /// From a StoreCluster; `default_image` serves if it names none.
    #[must_use]
    pub fn new(cluster: &'a StoreCluster, default_image: &str) -> Self {
        let metadata = &cluster.metadata;
        Self {
            names: Names {
                cluster: metadata.name.clone().unwrap_or_default(),
                namespace: metadata.namespace.clone().unwrap_or_default(),
            },
            spec: &cluster.spec,
            uid: metadata.uid.clone().unwrap_or_default(),
            image: cluster.spec.image.clone().unwrap_or_else(|| default_image.to_owned()),
        }
    }

    /// Metadata with labels and the owner.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name,
            "namespace": self.names.namespace,
            "labels": self.names.labels(),
            "ownerReferences": [{
                "apiVersion": "quorate.io/v1alpha1",
                "kind": "StoreCluster",
                "name": self.names.cluster,
                "uid": self.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        })
    }

    /// Whether some zone's members hold no data. Fixed for the cluster's life, as the zones are.
    #[must_use]
    pub fn has_witnesses(&self) -> bool {
        !self.spec.witness_zones().is_empty()
    }

    /// The scheme of client URLs.
    #[must_use]
    pub fn client_scheme(&self) -> &'static str {
        if self.spec.tls.client { "https" } else { "http" }
    }
}
