//! Network namespaces: one bridge, and on it the control plane and the nodes. No route leads out.

use std::path::Path;

use anyhow::Result;

use super::layout::{CONTROL_PLANE, Layout, NODES, PREFIX, control_plane_namespace, fabric_namespace};
use crate::command::run;

/// Creates all of them.
pub(super) fn create(_: &Layout) -> Result<()> {
    let fabric = fabric_namespace();
    namespace(&fabric)?;
    run(["ip", "-n", &fabric, "link", "add", "br0", "type", "bridge"])?;
    run(["ip", "-n", &fabric, "link", "set", "br0", "up"])?;
    let control_plane = control_plane_namespace();
    attach(&fabric, &control_plane, "vcp", CONTROL_PLANE)?;
    for node in &NODES {
        attach(&fabric, &node.namespace(), &format!("v{}", node.name), &node.address())?;
    }
    for node in &NODES {
        let others = NODES.iter().filter(|other| other.number != node.number).map(super::Node::namespace);
        for namespace in others.chain([control_plane.clone()]) {
            let (range, address) = (node.pod_range(), node.address());
            run(["ip", "-n", &namespace, "route", "add", &range, "via", &address])?;
        }
        run(["ip", "-n", &node.namespace(), "route", "add", "default", "via", CONTROL_PLANE])?;
    }
    run(["ip", "-n", &control_plane, "route", "add", "blackhole", "default"])
}

fn namespace(name: &str) -> Result<()> {
    run(["ip", "netns", "add", name])?;
    run(["ip", "-n", name, "link", "set", "lo", "up"])
}

fn attach(fabric: &str, name: &str, port: &str, address: &str) -> Result<()> {
    namespace(name)?;
    run(["ip", "-n", fabric, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name])?;
    run(["ip", "-n", fabric, "link", "set", port, "master", "br0", "up"])?;
    run(["ip", "-n", name, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
    run(["ip", "-n", name, "link", "set", "eth0", "up"])?;
    let net = format!("--net=/run/netns/{name}");
    run(["nsenter", &net, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
}

/// Takes off every mount below the cluster's folders.
pub(super) fn unmount(layout: &Layout) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let ours =
        |path: &&str| Path::new(path).starts_with(&layout.root) || Path::new(path).starts_with(&layout.run);
    let mut paths: Vec<&str> =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(ours).collect();
    paths.reverse();
    for path in paths {
        // Lazily: a process of a pod may end a moment later.
        run(["umount", "-l", path])?;
    }
    Ok(())
}

/// Removes the namespaces; what runs in them must have ended.
pub(super) fn remove() -> Result<()> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) {
            run(["ip", "netns", "del", &name])?;
        }
    }
    Ok(())
}
