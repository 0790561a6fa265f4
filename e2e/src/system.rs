//! What the machine must have.

use std::path::Path;

use anyhow::{Result, bail};

use crate::command;

/// Program and the Debian package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/bin/containerd", "containerd"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/sbin/ip", "iproute2"),
    ("/usr/sbin/iptables", "iptables"),
    ("/usr/sbin/ipset", "ipset"),
    ("/usr/sbin/conntrack", "conntrack"),
    ("/usr/bin/nsenter", "util-linux"),
    ("/usr/bin/socat", "socat"),
    ("/bin/busybox", "busybox-static"),
];

/// Refuses to go on without root.
///
/// # Errors
/// Not root.
pub fn need_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the embedded Kubernetes needs root (network namespaces, containerd): run it with sudo, or set KUBECONFIG \
               to use a Kubernetes that is there already"
        );
    }
    Ok(())
}

/// Installs what is missing.
///
/// # Errors
/// Not Debian 12, or apt fails.
pub fn install_packages() -> Result<()> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.lines().any(|line| line == "ID=debian") || !release.contains("VERSION_ID=\"12\"") {
        bail!(
            "missing on this system: {}. They are installed by name on Debian 12 only; install them and try again",
            missing.join(", ")
        );
    }
    println!("installing Debian packages: {}", missing.join(" "));
    let mut install = std::process::Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    // Package lists may be absent or old: then once more with new ones.
    if command::output(&mut install).is_err() {
        command::run(["apt-get", "update", "-qq"])?;
        command::output(&mut install)?;
    }
    // The packages start services of their own; the lab runs its own copies.
    Ok(())
}
