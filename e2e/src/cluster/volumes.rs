//! Local volumes, as disks of the nodes: made beforehand, and made anew once they are released.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::layout::{Layout, NODES, Node};
use crate::image::NON_ROOT;

/// Per node; more pods with volumes than this wait.
const PER_NODE: u8 = 12;
/// Between two looks for released ones.
const PAUSE: Duration = Duration::from_millis(500);
const MANAGER: &str = "quorate-lab";

fn disks() -> impl Iterator<Item = (&'static Node, String)> {
    NODES
        .iter()
        .flat_map(|node| (0..PER_NODE).map(move |number| (node, format!("{}-disk-{number}", node.name))))
}

fn folder(layout: &Layout, node: &Node, name: &str) -> PathBuf {
    layout.node(node).join("disks").join(name)
}

fn make_empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    // As a file system made for a pod's group would be.
    std::os::unix::fs::chown(folder, Some(NON_ROOT), Some(NON_ROOT))?;
    Ok(())
}

/// Makes every disk.
pub(super) fn create(layout: &Layout) -> Result<()> {
    for (node, name) in disks() {
        make_empty(&folder(layout, node, &name))?;
    }
    Ok(())
}

/// Offers every disk, and again after its claim is gone; until killed.
///
/// # Errors
/// There is no kubeconfig.
pub async fn serve(layout: &Layout) -> Result<()> {
    let config = kube::config::Kubeconfig::read_from(layout.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
    let volumes: Api<PersistentVolume> = Api::all(Client::try_from(config)?);
    loop {
        // The API server may be away for a moment.
        if let Err(error) = round(layout, &volumes).await {
            eprintln!("{error:#}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn round(layout: &Layout, volumes: &Api<PersistentVolume>) -> Result<()> {
    let present = volumes.list(&ListParams::default()).await?;
    for (node, name) in disks() {
        let phase =
            present.items.iter().find(|volume| volume.name_any() == name).map(|volume| {
                volume.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default()
            });
        let path = folder(layout, node, &name);
        match phase.as_deref() {
            Some("Released" | "Failed") => {
                volumes.delete(&name, &DeleteParams::default()).await?;
                make_empty(&path).with_context(|| format!("can't empty {}", path.display()))?;
            }
            Some(_) => {}
            None => {
                let patch = Patch::Apply(volume(node, &name, &path));
                volumes.patch(&name, &PatchParams::apply(MANAGER), &patch).await?;
            }
        }
    }
    Ok(())
}

fn volume(node: &Node, name: &str, path: &Path) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "standard",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]},
            ]}]}},
        },
    })
}
