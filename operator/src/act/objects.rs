//! Applying manifests, only when they differ from what was applied last.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use crate::names::MANAGER;

/// An object that somebody else changed is put right after this time at the latest.
const RENEW_AFTER: Duration = Duration::from_secs(60);

type Key = (String, String, String);

/// What was applied, and when.
#[derive(Debug, Default)]
pub struct Applied(Mutex<BTreeMap<Key, (u64, Instant)>>);

impl Applied {
    fn is_fresh(&self, key: &Key, hash: u64) -> bool {
        let applied = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        applied.get(key).is_some_and(|(last, at)| *last == hash && at.elapsed() < RENEW_AFTER)
    }

    fn note(&self, key: Key, hash: u64) {
        let mut applied = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        applied.retain(|_, (_, at)| at.elapsed() < RENEW_AFTER);
        applied.insert(key, (hash, Instant::now()));
    }

    /// Applies a manifest by server-side apply. It must have apiVersion, kind, name and namespace.
    ///
    /// # Errors
    /// The API server's.
    pub async fn apply(&self, client: &Client, manifest: Value) -> Result<(), kube::Error> {
        let text = |path: &str| manifest.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let mut hasher = DefaultHasher::new();
        manifest.to_string().hash(&mut hasher);
        let (key, hash) = ((kind.clone(), namespace.clone(), name.clone()), hasher.finish());
        if self.is_fresh(&key, hash) {
            return Ok(());
        }
        let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        // Forced: fields that we name are ours; others may own the rest.
        api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(manifest)).await?;
        self.note(key, hash);
        Ok(())
    }
}
