//! What a Kubernetes needs beside its own parts: DNS, a storage class, and their images.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Cluster;
use super::layout::Layout;
use crate::image::Image;

/// The image of pods' sandboxes.
pub(super) const PAUSE: &str = "lab/pause:1";
const COREDNS: &str = "lab/coredns:1";

/// Makes the images.
pub(super) fn images(layout: &Layout, coredns: &Path) -> Result<()> {
    let folder = layout.images();
    Image::new(&["/bin/busybox", "sleep", "infinity"])
        .program(Path::new("/bin/busybox"), "/bin/busybox")?
        .write(PAUSE, &folder.join("pause.tar"))?;
    Image::new(&["/coredns"])
        .program(&coredns.join("coredns"), "/coredns")?
        .write(COREDNS, &folder.join("coredns.tar"))?;
    Ok(())
}

/// Their archives.
pub(super) fn archives(layout: &Layout) -> [PathBuf; 2] {
    ["pause.tar", "coredns.tar"].map(|name| layout.images().join(name))
}

/// Applies the manifests.
pub(super) fn apply(cluster: &Cluster) -> Result<()> {
    cluster.apply(include_str!("manifests/dns.yaml"))?;
    cluster.apply(include_str!("manifests/storage.yaml"))
}
