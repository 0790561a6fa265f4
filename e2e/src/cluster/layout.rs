//! Names, addresses and paths of the embedded Kubernetes.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One node.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Its zone.
    pub zone: &'static str,
    /// Its place; part of its addresses.
    pub number: u8,
}

/// The nodes, one in each zone.
pub const NODES: [Node; 3] = [
    Node { name: "n1", zone: "zone-a", number: 1 },
    Node { name: "n2", zone: "zone-b", number: 2 },
    Node { name: "n3", zone: "zone-c", number: 3 },
];

/// The parts' names of network namespaces start with this, so that others' are left alone.
pub(super) const PREFIX: &str = "quorate-";
/// The control plane's address.
pub(super) const CONTROL_PLANE: &str = "172.31.7.10";
/// The API server's port.
pub(super) const API_PORT: u16 = 6443;
/// A node's folder of its pods' logs.
const PODS: &str = "pods";
/// The address of the cluster's DNS.
pub(super) const DNS: &str = "10.96.0.10";

impl Node {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("172.31.7.{}", 10 + self.number)
    }

    /// The addresses of its pods.
    pub(super) fn pod_range(&self) -> String {
        format!("10.244.{}.0/24", self.number)
    }

    /// Its network namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// Its cgroup in every hierarchy.
    pub(super) fn cgroup(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }
}

/// The control plane's network namespace.
pub(super) fn control_plane_namespace() -> String {
    format!("{PREFIX}cp")
}

/// The network namespace of the bridge between all others.
pub(super) fn fabric_namespace() -> String {
    format!("{PREFIX}fabric")
}

/// Where a cluster keeps its files.
#[derive(Clone, Debug)]
pub struct Layout {
    /// State.
    pub root: PathBuf,
    /// Sockets and mounts; their paths must be short.
    pub run: PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self { root: "/var/lib/quorate-lab".into(), run: "/run/quorate-lab".into() }
    }
}

impl Layout {
    pub(super) fn create(&self) -> Result<()> {
        for folder in
            [self.root.clone(), self.bin(), self.logs(), self.images(), self.pki(), self.run.clone()]
        {
            std::fs::create_dir_all(&folder).with_context(|| format!("can't create {}", folder.display()))?;
        }
        Ok(())
    }

    pub(super) fn remove(&self) -> Result<()> {
        for folder in [&self.root, &self.run] {
            match std::fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("can't remove {}", folder.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes everything but what parts and pods said.
    pub(super) fn remove_all_but_logs(&self) -> Result<()> {
        let nodes = NODES.iter().map(|node| self.node(node));
        let kept: Vec<PathBuf> = nodes.clone().map(|node| node.join(PODS)).chain([self.logs()]).collect();
        let partly = nodes.chain([self.root.clone()]);
        for folder in partly.clone() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry?.path();
                if kept.contains(&path) || partly.clone().any(|partly| partly == path) {
                    continue;
                }
                let removed = if path.is_symlink() || !path.is_dir() {
                    std::fs::remove_file(&path)
                } else {
                    std::fs::remove_dir_all(&path)
                };
                removed.with_context(|| format!("can't remove {}", path.display()))?;
            }
        }
        match std::fs::remove_dir_all(&self.run) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Where the logs of parts and pods are, for people.
    pub(super) fn kept_logs(&self) -> [String; 2] {
        [self.logs().display().to_string(), format!("{}/n*/{PODS}", self.root.display())]
    }

    /// Where a node keeps what its pods said.
    pub(super) fn pod_logs(&self, node: &Node) -> PathBuf {
        self.node(node).join(PODS)
    }

    pub(super) fn link_tools(&self, kubernetes: &Path, etcd: &Path, helm: &Path) -> Result<()> {
        let parts = [
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        ];
        for part in parts {
            symlink(kubernetes.join("kubernetes"), self.bin().join(part))?;
        }
        for tool in ["etcd", "etcdctl", "etcdutl"] {
            symlink(etcd.join(tool), self.bin().join(tool))?;
        }
        symlink(helm.join("helm"), self.bin().join("helm"))?;
        Ok(())
    }

    /// The programs, kubectl, etcdctl and helm among them.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// What every part says.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(super) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(super) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// For programs on the host: through a port on loopback.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// For the parts inside.
    pub(super) fn inner_kubeconfig(&self) -> PathBuf {
        self.root.join("inner-kubeconfig")
    }

    pub(super) fn ready_file(&self) -> PathBuf {
        self.root.join("ready")
    }

    /// Which process started it.
    pub(super) fn owner_file(&self) -> PathBuf {
        self.root.join("owner")
    }

    pub(super) fn process_list(&self) -> PathBuf {
        self.root.join("processes")
    }

    /// A node's folder.
    #[must_use]
    pub fn node(&self, node: &Node) -> PathBuf {
        self.root.join(node.name)
    }

    pub(super) fn socket(&self, node: &Node) -> PathBuf {
        self.run.join(format!("{}.sock", node.name))
    }
}
