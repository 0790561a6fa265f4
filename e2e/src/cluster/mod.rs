//! A whole Kubernetes on one Linux machine: control plane, three nodes in three zones, DNS, Services, volumes.
//!
//! Every part is a process in a network namespace of its own; nothing is routed out of them. Everything that was started is
//! written down in the state folder first, so that `down` finds it after a crash half-way too.

mod addons;
mod cgroups;
mod control_plane;
mod faults;
mod keeper;
mod layout;
mod network;
mod node;
mod pki;
mod processes;
pub mod proxy;
pub mod volumes;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{command, system, tools};
pub use layout::{Layout, NODES, Node};
use processes::Processes;

/// Nodes become ready once their kubelets have found the network plugin.
const NODES_TIMEOUT: Duration = Duration::from_secs(120);
/// The first pod of all needs its image unpacked.
const DNS_TIMEOUT: Duration = Duration::from_secs(120);

/// The embedded Kubernetes of this machine.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
}

impl Cluster {
    /// The cluster at its usual place; nothing is started.
    #[must_use]
    pub fn new() -> Self {
        Self { layout: Layout::default() }
    }

    /// Where its files are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether every process of it runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.layout.ready_file().exists() && Processes::of(&self.layout).all_run()
    }

    /// Starts it if it does not run; what a crash left behind goes first.
    ///
    /// # Errors
    /// What is missing or went wrong.
    pub fn up(&self) -> Result<()> {
        system::need_root()?;
        let _lock = lock()?;
        if self.is_up() {
            println!("the embedded Kubernetes is up");
            return Ok(());
        }
        if self.layout.root.exists() || self.layout.run.exists() {
            println!("clearing what an earlier run left behind");
            self.end()?;
            self.layout.remove()?;
        }
        system::install_packages()?;
        let began = Instant::now();
        let (kubernetes, etcd) = (tools::KUBERNETES.built()?, tools::ETCD.built()?);
        let (coredns, helm) = (tools::COREDNS.built()?, tools::HELM.built()?);
        let layout = &self.layout;
        layout.create()?;
        std::fs::write(layout.owner_file(), keeper::this_process())?;
        layout.link_tools(&kubernetes, &etcd, &helm)?;
        addons::images(layout, &coredns)?;
        network::create(layout)?;
        let access = pki::create(layout)?;
        let processes = Processes::of(layout);
        println!("starting the control plane");
        control_plane::start(&processes, layout, access.port)?;
        for node in &NODES {
            println!("starting node {} in {}", node.name, node.zone);
            node::start(&processes, layout, node)?;
        }
        volumes::create(layout)?;
        processes.start_own("volumes", &["volumes"])?;
        addons::apply(self)?;
        println!("waiting for nodes and DNS");
        self.wait(NODES_TIMEOUT, &["--for=condition=Ready", "node", "--all"])?;
        self.kubectl(&["-n", "kube-system", "rollout", "status", "deploy/coredns", &timeout(DNS_TIMEOUT)])?;
        std::fs::write(layout.ready_file(), "")?;
        println!("the embedded Kubernetes is up after {} s", began.elapsed().as_secs());
        Ok(())
    }

    /// Ends everything and removes every trace, whatever state it was left in.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn down(&self) -> Result<()> {
        system::need_root()?;
        let _lock = lock()?;
        self.end()?;
        self.layout.remove()
    }

    /// Ends everything; files stay.
    fn end(&self) -> Result<()> {
        let layout = &self.layout;
        let processes = Processes::of(layout);
        processes.end_all()?;
        processes.end_around()?;
        cgroups::end_all()?;
        network::unmount(layout)?;
        network::remove()?;
        cgroups::remove()
    }

    /// Imports an image archive on every node.
    ///
    /// # Errors
    /// containerd refuses it.
    pub fn load(&self, archive: &std::path::Path) -> Result<()> {
        let imports: Vec<_> = NODES
            .iter()
            .map(|node| {
                let (socket, archive) = (self.layout.socket(node), archive.to_path_buf());
                std::thread::spawn(move || node::import(&socket, &archive))
            })
            .collect();
        for import in imports {
            match import.join() {
                Ok(result) => result?,
                Err(_) => bail!("an import ended without a result"),
            }
        }
        Ok(())
    }

    /// Runs kubectl and gives back what it prints.
    ///
    /// # Errors
    /// kubectl's.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output(self.kubectl_command().args(arguments))
    }

    /// A kubectl that talks to this cluster.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        let mut kubectl = Command::new(self.layout.bin().join("kubectl"));
        kubectl.env("KUBECONFIG", self.layout.kubeconfig());
        kubectl
    }

    /// `kubectl wait`, asked again while there is nothing to wait for yet.
    ///
    /// # Errors
    /// The time is over.
    pub fn wait(&self, limit: Duration, arguments: &[&str]) -> Result<()> {
        let began = Instant::now();
        command::until(&format!("wait {}", arguments.join(" ")), limit, || {
            let left = limit.saturating_sub(began.elapsed()).max(Duration::from_secs(1));
            self.kubectl(&[&["wait", &timeout(left)], arguments].concat())
        })
        .map(|_| ())
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// kubectl's.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let file = self.layout.root.join(format!("apply-{}.yaml", std::process::id()));
        std::fs::write(&file, manifest)?;
        let applied = self.kubectl(&["apply", "-f", &file.to_string_lossy()]).context("kubectl apply");
        std::fs::remove_file(file)?;
        applied.map(|_| ())
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

/// Held while the cluster starts or ends: a keeper may be ending what the next one is about to start.
fn lock() -> Result<std::fs::File> {
    tools::lock("lab")
}

fn timeout(limit: Duration) -> String {
    format!("--timeout={}s", limit.as_secs())
}
