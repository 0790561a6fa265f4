//! Programs that exist in Go only, built from the modules in `e2e/tools` and kept in the user's cache by the digest of
//! everything they are built from.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{command, digest};

/// One Go module: what to build of it.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its folder under `e2e/tools`.
    pub name: &'static str,
    packages: &'static [&'static str],
    /// What Go calls a result, and what it is called here.
    renames: &'static [(&'static str, &'static str)],
    linker_flags: &'static str,
    /// Measured on two cores with nothing cached.
    minutes: u32,
}

/// etcd's server and its command line tools.
pub const ETCD: Set = Set {
    name: "etcd",
    packages: &["go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3"],
    renames: &[("server", "etcd")],
    linker_flags: "-s -w",
    minutes: 1,
};

/// etcd's own generator of load.
pub const ETCD_BENCHMARK: Set = Set {
    name: "etcd-benchmark",
    packages: &["go.etcd.io/etcd/v3/tools/benchmark"],
    renames: &[],
    linker_flags: "-s -w",
    minutes: 1,
};

/// Kubernetes: every part in one binary, told apart by the name it is called by.
pub const KUBERNETES: Set = Set {
    name: "kubernetes",
    packages: &["."],
    renames: &[],
    linker_flags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.35.4 -X k8s.io/component-base/version.gitMajor=1 \
                   -X k8s.io/component-base/version.gitMinor=35",
    minutes: 7,
};

/// The cluster's DNS.
pub const COREDNS: Set =
    Set { name: "coredns", packages: &["."], renames: &[], linker_flags: "-s -w", minutes: 2 };

/// Helm.
pub const HELM: Set = Set {
    name: "helm",
    packages: &["helm.sh/helm/v4/cmd/helm"],
    renames: &[],
    linker_flags: "-s -w",
    minutes: 2,
};

/// The repository's folder, known when this was compiled.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_path_buf()
}

fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map_or(PathBuf::from("/root"), PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    cache.join("quorate").join("tools")
}

/// A lock among this machine's processes; it goes with the file.
pub(crate) fn lock(name: &str) -> Result<std::fs::File> {
    std::fs::create_dir_all(cache())?;
    let lock = std::fs::File::create(cache().join(format!("{name}.lock")))?;
    lock.lock()?;
    Ok(lock)
}

impl Set {
    /// The folder with the built programs; builds them if they are not there.
    ///
    /// # Errors
    /// Go is missing, or a build fails.
    pub fn built(&self) -> Result<PathBuf> {
        let module = repository().join("e2e/tools").join(self.name);
        let mut sources = vec![module.join("go.mod"), module.join("go.sum")];
        sources.extend([module.join("main.go")].into_iter().filter(|file| file.exists()));
        let sources: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
        let inputs =
            digest::of_files(&sources).with_context(|| format!("can't read {}", module.display()))?;
        let key = digest::of_bytes(format!("{inputs}{}{:?}", self.linker_flags, self.packages).as_bytes());
        let folder = cache().join(format!("{}-{}", self.name, &key[..16]));
        if folder.is_dir() {
            return Ok(folder);
        }
        // Whoever wants the same set meanwhile waits here; the lock goes with the file, also when the process ends.
        let _lock = lock(self.name)?;
        if folder.is_dir() {
            return Ok(folder);
        }
        println!("building {} from Go modules (once; about {} min on two cores)", self.name, self.minutes);
        let began = Instant::now();
        // Built beside and renamed: a build that was cut short is never taken for a whole one.
        let partial = cache().join(format!("{}.partial", self.name));
        if partial.exists() {
            std::fs::remove_dir_all(&partial)?;
        }
        std::fs::create_dir(&partial)?;
        let mut build = Command::new("go");
        build.current_dir(&module).env("CGO_ENABLED", "0").args([
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-mod=mod",
        ]);
        build
            .args(["-ldflags", self.linker_flags, "-o"])
            .arg(format!("{}/", partial.display()))
            .args(self.packages);
        command::output(&mut build).context("Go 1.25 or newer must be installed")?;
        for (from, to) in self.renames {
            std::fs::rename(partial.join(from), partial.join(to))?;
        }
        std::fs::rename(&partial, &folder)?;
        println!("built {} in {} s", self.name, began.elapsed().as_secs());
        Ok(folder)
    }
}
