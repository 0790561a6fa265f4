//! kubectl and helm for one Kubernetes, and what is installed with them.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::DEMO;
use crate::cluster::Cluster;
use crate::command;
use crate::tools::{self, repository};

/// A ready three-member cluster, images loaded, takes far less.
const READY_TIMEOUT: Duration = Duration::from_secs(180);

/// kubectl and helm for one Kubernetes.
#[derive(Debug)]
pub struct Target {
    kubectl: PathBuf,
    helm: PathBuf,
    kubeconfig: PathBuf,
}

impl Target {
    /// The embedded one.
    #[must_use]
    pub fn embedded(cluster: &Cluster) -> Self {
        let (bin, kubeconfig) = (cluster.layout().bin(), cluster.layout().kubeconfig());
        Self { kubectl: bin.join("kubectl"), helm: bin.join("helm"), kubeconfig }
    }

    pub(super) fn given() -> Result<Self> {
        let helm = tools::HELM.built()?.join("helm");
        let kubeconfig = std::env::var_os("KUBECONFIG").unwrap_or_default().into();
        Ok(Self { kubectl: "kubectl".into(), helm, kubeconfig })
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output(Command::new(&self.kubectl).env("KUBECONFIG", &self.kubeconfig).args(arguments))
    }

    fn helm(&self, arguments: &[&str]) -> Result<String> {
        command::output(Command::new(&self.helm).env("KUBECONFIG", &self.kubeconfig).args(arguments))
    }

    /// Installs definition and operator.
    ///
    /// # Errors
    /// kubectl's and helm's.
    pub fn install(&self, operator: &str, tag: &str, node: &str) -> Result<()> {
        println!("installing the operator");
        let repository = repository();
        let crds = repository.join("crds");
        self.kubectl(&["apply", "--server-side", "-f", &crds.to_string_lossy()])?;
        let chart = repository.join("charts/quorate-operator");
        self.helm(&[
            "upgrade",
            "--install",
            "quorate-operator",
            &chart.to_string_lossy(),
            "--namespace=quorate-system",
            "--create-namespace",
            "--skip-crds",
            &format!("--set=image.repository={operator}"),
            &format!("--set=image.tag={tag}"),
            &format!("--set=nodeImage={node}"),
            "--wait",
            "--timeout=120s",
        ])?;
        Ok(())
    }

    pub(super) fn toolbox(&self, image: &str) -> Result<()> {
        let manifest = include_str!("../cluster/manifests/toolbox.yaml").replace("IMAGE", image);
        self.apply_text("toolbox", &manifest)
    }

    fn apply_text(&self, name: &str, manifest: &str) -> Result<()> {
        let file = std::env::temp_dir().join(format!("quorate-{name}-{}.yaml", std::process::id()));
        std::fs::write(&file, manifest)?;
        let applied = self.kubectl(&["apply", "-f", &file.to_string_lossy()]);
        std::fs::remove_file(file)?;
        applied.map(|_| ())
    }

    pub(super) fn toolbox_ready(&self) -> Result<()> {
        self.kubectl(&["rollout", "status", "deploy/toolbox", "--timeout=120s"]).map(|_| ())
    }

    pub(super) fn demo(&self, consensus: &str) -> Result<()> {
        let query = "jsonpath={.spec.consensus}";
        let present = self.kubectl(&["get", "storecluster", DEMO, "--ignore-not-found", "-o", query])?;
        if !present.is_empty() && present != consensus {
            bail!(
                "StoreCluster {DEMO} runs {present}, and a cluster keeps its consensus: `make down` takes it away"
            );
        }
        let file = repository().join("charts/demo.yaml");
        println!("applying the StoreCluster of {}, consensus {consensus}", file.display());
        let manifest = std::fs::read_to_string(&file)?;
        let manifest = manifest.replace("consensus: Raft", &format!("consensus: {consensus}"));
        self.apply_text("demo", &manifest)?;
        let began = Instant::now();
        let mut said = String::new();
        command::until("the StoreCluster", READY_TIMEOUT, || {
            let query = "jsonpath={.status.phase} {range .status.members[?(@.healthy==true)]}{.name} {end}";
            let state = self.kubectl(&["get", "storecluster", DEMO, "-o", query])?;
            if state.trim() != said {
                println!("  {:>3} s  {}", began.elapsed().as_secs(), state.trim());
                state.trim().clone_into(&mut said);
            }
            if state.starts_with("Ready") { Ok(()) } else { bail!("it is {}", state.trim()) }
        })
    }

    pub(super) fn uninstall(&self) -> Result<()> {
        self.kubectl(&["delete", "storecluster", DEMO, "--ignore-not-found", "--wait"])?;
        self.helm(&["uninstall", "quorate-operator", "--namespace=quorate-system", "--ignore-not-found"])?;
        Ok(())
    }
}
