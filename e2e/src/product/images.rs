//! Binaries and images of this project.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::image::Image;
use crate::tools::{self, repository};
use crate::{command, digest};

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

fn folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Builds the release binaries.
///
/// # Errors
/// The compiler's.
pub fn build() -> Result<()> {
    println!("building the release binaries (minutes the first time)");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(repository()).args(["build", "--release", "--locked"]);
    cargo.args(["-p", "quorate-server", "-p", "quorate-cli", "-p", "quorate-operator"]);
    command::visible(&mut cargo)
}

/// Writes the images of node, operator and tools to target/images.
///
/// # Errors
/// A binary is missing.
pub fn images() -> Result<[Built; 3]> {
    build()?;
    let (release, folder) = (folder().join("release"), folder().join("images"));
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

/// The images on an embedded Kubernetes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The node's, with its tag.
    pub node: String,
    /// The operator's, without.
    pub operator: String,
    /// The operator's tag.
    pub operator_tag: String,
    /// The one with etcdctl, with its tag.
    pub tools: String,
}

/// Builds the images and puts them on every node that does not have them yet.
///
/// # Errors
/// The compiler's, containerd's.
pub fn load(cluster: &Cluster) -> Result<Loaded> {
    let images = images()?;
    let list = cluster.layout().root.join("loaded");
    let mut loaded = std::fs::read_to_string(&list).unwrap_or_default();
    for image in &images {
        let name = format!("{}:{}\n", image.repository, image.tag);
        if !loaded.contains(&name) {
            println!("loading {} on the nodes", name.trim());
            cluster.load(&image.archive)?;
            loaded.push_str(&name);
            std::fs::write(&list, &loaded)?;
        }
    }
    let [node, operator, tools] = images;
    Ok(Loaded {
        node: format!("{}:{}", node.repository, node.tag),
        operator: operator.repository,
        operator_tag: operator.tag,
        tools: format!("{}:{}", tools.repository, tools.tag),
    })
}
