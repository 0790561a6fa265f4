//! This project's own images and charts on a Kubernetes.

pub mod images;
pub mod target;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::cluster::Cluster;
pub use images::images;
use target::Target;

/// The name of the cluster that `up` makes.
pub const DEMO: &str = "demo";

/// Where Quorate is to run.
enum Place {
    Embedded(Cluster),
    /// A Kubernetes that is there already, and the registry it takes images from.
    Given {
        registry: String,
    },
}

fn place() -> Result<Place> {
    let embedded = Cluster::new();
    match std::env::var_os("KUBECONFIG").filter(|given| *given != embedded.layout().kubeconfig().as_os_str())
    {
        None => Ok(Place::Embedded(embedded)),
        Some(given) => {
            println!("KUBECONFIG is set: using the Kubernetes of {}", given.to_string_lossy());
            let Ok(registry) = std::env::var("QUORATE_REGISTRY") else {
                bail!(
                    "QUORATE_REGISTRY must name the registry that this Kubernetes takes images from (for example \
                     registry.example.com/quorate); push target/images/*.tar (make images) there with skopeo or docker, and name \
                     their tag in QUORATE_TAG if it is not dev"
                );
            };
            Ok(Place::Given { registry })
        }
    }
}

/// Everything, up to a ready StoreCluster whose members agree by `consensus`.
///
/// # Errors
/// What is missing or went wrong.
pub fn up(consensus: &str) -> Result<()> {
    let place = place()?;
    let began = Instant::now();
    match &place {
        Place::Embedded(cluster) => {
            cluster.up()?;
            let on = Target::embedded(cluster);
            let images = images::load(cluster)?;
            on.install(&images.operator, &images.operator_tag, &images.node)?;
            on.toolbox(&images.tools)?;
            on.demo(consensus)?;
            on.toolbox_ready()?;
            write_environment(cluster)?;
        }
        Place::Given { registry } => {
            let on = Target::given()?;
            let tag = std::env::var("QUORATE_TAG").unwrap_or_else(|_| "dev".into());
            on.install(&format!("{registry}/operator"), &tag, &format!("{registry}/node:{tag}"))?;
            on.demo(consensus)?;
        }
    }
    println!("\nready after {} s. Next:\n", began.elapsed().as_secs());
    print!("{}", next_steps(matches!(place, Place::Embedded(_))));
    Ok(())
}

/// Takes everything away.
///
/// # Errors
/// Something can't be removed.
pub fn down() -> Result<()> {
    match place()? {
        Place::Embedded(cluster) => cluster.down(),
        Place::Given { .. } => Target::given()?.uninstall(),
    }
}

/// A file to source: tools in PATH, and the certificate that etcdctl needs.
fn write_environment(cluster: &Cluster) -> Result<()> {
    let root = &cluster.layout().root;
    for key in ["ca.crt", "tls.crt", "tls.key"] {
        let query = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        let secret = format!("{DEMO}-client-tls");
        let text = cluster.kubectl(&["get", "secret", &secret, "-o", &query])?;
        std::fs::write(root.join(format!("{DEMO}-{key}")), text)?;
    }
    let root = root.display();
    std::fs::write(
        cluster.layout().root.join("env"),
        format!(
            "export KUBECONFIG={root}/kubeconfig PATH={root}/bin:$PATH
export ETCDCTL_ENDPOINTS=https://localhost:2379 ETCDCTL_CACERT={root}/{DEMO}-ca.crt \
             ETCDCTL_CERT={root}/{DEMO}-tls.crt ETCDCTL_KEY={root}/{DEMO}-tls.key
"
        ),
    )?;
    Ok(())
}

fn next_steps(embedded: bool) -> String {
    let first = if embedded { "  source /var/lib/quorate-lab/env\n" } else { "" };
    let etcdctl = if embedded {
        "  kubectl exec deploy/toolbox -- etcdctl put hello world     # from a pod, through the Service
  kubectl exec deploy/toolbox -- etcdctl get hello
  kubectl port-forward svc/demo-client 2379 &                # from here
  etcdctl get hello\n"
    } else {
        "  kubectl port-forward svc/demo-client 2379 &\n"
    };
    format!(
        "{first}  kubectl get storecluster demo
{etcdctl}  kubectl delete pod $(kubectl get storecluster demo -o jsonpath='{{.status.leader}}')   # kill the leader ...
  kubectl get storecluster demo --watch                      # ... and watch
  make down\n"
    )
}
