//! This project's own images and charts on a Kubernetes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cluster::Cluster;
use crate::image::Image;
use crate::tools::{self, repository};
use crate::{command, digest};

/// A ready three-member cluster, images loaded, takes far less.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
/// The name of the cluster that `up` makes.
pub const DEMO: &str = "demo";

/// A product image that was written.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its name without a tag.
    pub repository: String,
    /// Its tag, from its content.
    pub tag: String,
    /// Its archive.
    pub archive: PathBuf,
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Builds the release binaries.
///
/// # Errors
/// The compiler's.
pub fn build() -> Result<()> {
    println!("building the release binaries (minutes the first time)");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(repository()).args(["build", "--release", "--locked", "--quiet"]);
    cargo.args(["-p", "quorate-server", "-p", "quorate-cli", "-p", "quorate-operator"]);
    command::visible(&mut cargo)
}

/// Writes the images of node, operator and tools to target/images.
///
/// # Errors
/// A binary is missing.
pub fn images() -> Result<[Built; 3]> {
    build()?;
    let (release, folder) = (target().join("release"), target().join("images"));
    std::fs::create_dir_all(&folder)?;
    let etcd = tools::ETCD.built()?;
    let node = Image::new(&["/usr/local/bin/quorate-node"])
        .program(&release.join("quorate-node"), "/usr/local/bin/quorate-node")?;
    let operator = Image::new(&["/usr/local/bin/quorate-operator"])
        .program(&release.join("quorate-operator"), "/usr/local/bin/quorate-operator")?;
    let mut toolbox = Image::new(&["/bin/busybox", "sleep", "infinity"])
        .program(Path::new("/bin/busybox"), "/bin/busybox")?
        .program(&etcd.join("etcdctl"), "/usr/local/bin/etcdctl")?;
    for applet in ["sh", "sleep", "cat", "ls", "nslookup", "wget", "env"] {
        toolbox = toolbox.link(&format!("/bin/{applet}"), "/bin/busybox");
    }
    Ok([
        written("node", &node, &folder)?,
        written("operator", &operator, &folder)?,
        written("tools", &toolbox, &folder)?,
    ])
}

fn written(name: &str, image: &Image, folder: &Path) -> Result<Built> {
    let (repository, archive) = (format!("quorate/{name}"), folder.join(format!("{name}.tar")));
    // The tag follows the content, which only the archive knows: written once to learn it, once with it.
    let content = image.write(&format!("{repository}:dev"), &archive)?;
    let tag = format!("dev-{}", &digest::of_bytes(content.as_bytes())[..12]);
    image.write(&format!("{repository}:{tag}"), &archive)?;
    println!("image {repository}:{tag} in {}", archive.display());
    Ok(Built { repository, tag, archive })
}

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
                     registry.example.com/quorate); push target/images/*.tar there with skopeo or docker, tagged dev"
                );
            };
            Ok(Place::Given { registry })
        }
    }
}

/// Everything, up to a ready StoreCluster.
///
/// # Errors
/// What is missing or went wrong.
pub fn up() -> Result<()> {
    let place = place()?;
    let began = Instant::now();
    match &place {
        Place::Embedded(cluster) => {
            cluster.up()?;
            let [node, operator, tools] = images()?;
            println!("loading images on the nodes");
            for image in [&node, &operator, &tools] {
                cluster.load(&image.archive)?;
            }
            let on = Target::embedded(cluster);
            on.install(&operator.repository, &operator.tag, &format!("{}:{}", node.repository, node.tag))?;
            on.toolbox(&format!("{}:{}", tools.repository, tools.tag))?;
            on.demo()?;
            write_environment(cluster)?;
        }
        Place::Given { registry } => {
            let on = Target::given()?;
            on.install(&format!("{registry}/operator"), "dev", &format!("{registry}/node:dev"))?;
            on.demo()?;
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

/// kubectl and helm for one Kubernetes.
struct Target {
    kubectl: PathBuf,
    helm: PathBuf,
    kubeconfig: PathBuf,
}

impl Target {
    fn embedded(cluster: &Cluster) -> Self {
        let (bin, kubeconfig) = (cluster.layout().bin(), cluster.layout().kubeconfig());
        Self { kubectl: bin.join("kubectl"), helm: bin.join("helm"), kubeconfig }
    }

    fn given() -> Result<Self> {
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

    fn install(&self, operator: &str, tag: &str, node: &str) -> Result<()> {
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

    fn toolbox(&self, image: &str) -> Result<()> {
        let manifest = include_str!("cluster/manifests/toolbox.yaml").replace("IMAGE", image);
        let file = std::env::temp_dir().join(format!("quorate-toolbox-{}.yaml", std::process::id()));
        std::fs::write(&file, manifest)?;
        let applied = self.kubectl(&["apply", "-f", &file.to_string_lossy()]);
        std::fs::remove_file(file)?;
        applied.map(|_| ())
    }

    fn demo(&self) -> Result<()> {
        let file = repository().join("charts/demo.yaml");
        println!("applying the StoreCluster of {}", file.display());
        self.kubectl(&["apply", "-f", &file.to_string_lossy()])?;
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

    fn uninstall(&self) -> Result<()> {
        self.kubectl(&["delete", "storecluster", DEMO, "--ignore-not-found", "--wait"])?;
        self.helm(&["uninstall", "quorate-operator", "--namespace=quorate-system", "--ignore-not-found"])?;
        Ok(())
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
