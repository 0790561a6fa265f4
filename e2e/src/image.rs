//! OCI archives of a few files, without a container engine. The same input gives the same bytes. The archive is both an
//! OCI layout and what `docker save` writes, so containerd, skopeo and docker load it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::{command, digest};

/// The user of our images; any id without a name on the host serves.
pub const NON_ROOT: u32 = 65_532;

#[derive(Clone, Debug)]
enum Content {
    Host(PathBuf),
    Text(String),
    Link(String),
    Folder(u32),
}

/// What goes into an image.
#[derive(Clone, Debug, Default)]
pub struct Image {
    files: BTreeMap<String, Content>,
    entrypoint: Vec<String>,
    user: String,
}

impl Image {
    /// An image with a non-root user, a `/tmp`, and this entry point.
    #[must_use]
    pub fn new(entrypoint: &[&str]) -> Self {
        let mut image = Self {
            files: BTreeMap::new(),
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            user: format!("{NON_ROOT}:{NON_ROOT}"),
        };
        let users = format!("root:x:0:0::/:/bin/sh\nquorate:x:{NON_ROOT}:{NON_ROOT}::/:/bin/false\n");
        image.files.insert("etc/passwd".into(), Content::Text(users));
        image.files.insert("etc/group".into(), Content::Text(format!("root:x:0:\nquorate:x:{NON_ROOT}:\n")));
        image.files.insert("tmp".into(), Content::Folder(0o1777));
        image
    }

    /// Adds a program, and the shared libraries that it names.
    ///
    /// # Errors
    /// It is not there, or `ldd` finds no library for a name.
    pub fn program(mut self, host: &Path, path: &str) -> Result<Self> {
        for library in libraries(host)? {
            let inside = library.to_string_lossy().trim_start_matches('/').to_owned();
            self.files.insert(inside, Content::Host(library));
        }
        self.files.insert(path.trim_start_matches('/').to_owned(), Content::Host(host.to_path_buf()));
        Ok(self)
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.files.insert(path.trim_start_matches('/').to_owned(), Content::Link(target.to_owned()));
        self
    }

    /// Writes the archive as `name`; gives back the image's digest.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn write(&self, name: &str, to: &Path) -> Result<String> {
        let layer = self.layer()?;
        let layer_digest = digest::of_bytes(&layer);
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "User": self.user,
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
            "history": [{"created_by": "quorate-lab images"}],
        })
        .to_string();
        let config_digest = digest::of_bytes(config.as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": format!("sha256:{config_digest}"),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{layer_digest}"),
                "size": layer.len(),
            }],
        })
        .to_string();
        let manifest_digest = digest::of_bytes(manifest.as_bytes());
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{manifest_digest}"),
                "size": manifest.len(),
                "annotations": {
                    "io.containerd.image.name": format!("docker.io/{name}"),
                    "org.opencontainers.image.ref.name": tag,
                },
            }],
        });
        let blob = |digest: &str| format!("blobs/sha256/{digest}");
        let saved = json!([{
            "Config": blob(&config_digest),
            "RepoTags": [name],
            "Layers": [blob(&layer_digest)],
        }]);
        let file = File::create(to).with_context(|| format!("can't write {}", to.display()))?;
        let mut archive = Builder::new(BufWriter::new(file));
        for (path, bytes) in [
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
            ("manifest.json".to_owned(), saved.to_string().into_bytes()),
            (blob(&manifest_digest), manifest.into_bytes()),
            (blob(&config_digest), config.into_bytes()),
            (blob(&layer_digest), layer),
        ] {
            append(&mut archive, &path, 0o644, &bytes)?;
        }
        archive.into_inner()?.flush()?;
        Ok(manifest_digest)
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for folder in self.parents() {
            let mut header = header(EntryType::Directory, 0o755, 0);
            archive.append_data(&mut header, format!("{folder}/"), std::io::empty())?;
        }
        for (path, content) in &self.files {
            match content {
                Content::Host(host) => {
                    let bytes =
                        std::fs::read(host).with_context(|| format!("can't read {}", host.display()))?;
                    append(&mut archive, path, 0o755, &bytes)?;
                }
                Content::Text(text) => append(&mut archive, path, 0o644, text.as_bytes())?,
                Content::Link(target) => {
                    archive.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)?;
                }
                Content::Folder(mode) => {
                    let mut header = header(EntryType::Directory, *mode, 0);
                    archive.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
            }
        }
        Ok(archive.into_inner()?)
    }

    fn parents(&self) -> BTreeSet<String> {
        let ancestors = |path: &String| {
            let folders =
                Path::new(path).ancestors().skip(1).map(|folder| folder.to_string_lossy().into_owned());
            folders.filter(|folder| !folder.is_empty()).collect::<Vec<_>>()
        };
        self.files.keys().flat_map(ancestors).collect()
    }
}

/// Kubernetes and OCI call architectures as Go does.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn header(kind: EntryType, mode: u32, size_bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size_bytes);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append<W: std::io::Write>(archive: &mut Builder<W>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

/// The shared libraries that the dynamic loader would take, the loader included; none for a static program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    if !program.exists() {
        bail!("{} is not there: build it first (make build)", program.display());
    }
    let Ok(list) = command::output(Command::new("ldd").arg(program)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for line in list.lines() {
        if line.contains("not found") {
            bail!("{} needs a library that is not there: {}", program.display(), line.trim());
        }
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        found.extend(path.map(PathBuf::from));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_gives_the_same_archive_and_brings_its_libraries() {
        let folder = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let image = || Image::new(&["/it"]).program(&program, "/it").unwrap().link("/also", "/it");
        let (one, two) = (folder.path().join("1.tar"), folder.path().join("2.tar"));
        assert_eq!(image().write("a/b:c", &one).unwrap(), image().write("a/b:c", &two).unwrap());
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(&two).unwrap());
        let listed = command::output(Command::new("tar").arg("-tf").arg(&two)).unwrap();
        assert!(listed.contains("oci-layout") && listed.contains("manifest.json"));
        assert!(
            image().files.keys().any(|path| path.contains("libc.so")),
            "the test program is linked to libc"
        );
    }
}
