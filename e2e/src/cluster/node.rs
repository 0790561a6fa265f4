//! A node: containerd, kubelet, kube-proxy.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::layout::{DNS, Layout, Node};
use super::processes::Processes;
use super::{addons, cgroups};
use crate::command;

const CONTAINERD_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts a node.
pub(super) fn start(processes: &Processes<'_>, layout: &Layout, node: &Node) -> Result<()> {
    let folder = layout.node(node);
    std::fs::create_dir_all(folder.join("cni"))?;
    std::fs::write(folder.join("containerd.toml"), containerd(layout, node))?;
    std::fs::write(folder.join("cni/10-lab.conflist"), cni(layout, node))?;
    std::fs::write(folder.join("kubelet.yaml"), kubelet(layout, node))?;
    std::fs::write(folder.join("proxy.yaml"), proxy(layout, node))?;
    cgroups::create(node)?;
    let (name, namespace, path) = (node.name, node.namespace(), folder.display());
    let containerd = format!("containerd-{name}");
    let arguments = ["-c".to_owned(), format!("{path}/containerd.toml")];
    processes.start(&containerd, &namespace, Path::new("/usr/bin/containerd"), &arguments)?;
    let socket = layout.socket(node);
    command::until(&containerd, CONTAINERD_TIMEOUT, || {
        if !processes.runs(&containerd) {
            bail!("it has ended: {}", processes.last_words(&containerd));
        }
        command::output(ctr(&socket).arg("version"))
    })?;
    for image in addons::archives(layout) {
        import(&socket, &image)?;
    }
    let bin = layout.bin();
    processes.start(
        &format!("kubelet-{name}"),
        &namespace,
        &bin.join("kubelet"),
        &[
            format!("--config={path}/kubelet.yaml"),
            format!("--kubeconfig={}", layout.inner_kubeconfig().display()),
            format!("--root-dir={path}/kubelet"),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", node.address()),
            format!("--cert-dir={path}/pki"),
            format!("--node-labels=topology.kubernetes.io/zone={}", node.zone),
        ],
    )?;
    let arguments = [format!("--config={path}/proxy.yaml")];
    processes.start(&format!("proxy-{name}"), &namespace, &bin.join("kube-proxy"), &arguments)
}

/// It asks for seconds on a socket that nobody serves yet, and ends with this program: one that was killed leaves none behind.
fn ctr(socket: &Path) -> Command {
    let mut ctr = Command::new("setpriv");
    ctr.args(["--pdeathsig", "KILL", "ctr", "--address"]).arg(socket).args(["--namespace", "k8s.io"]);
    ctr
}

/// Imports an image archive.
pub(super) fn import(socket: &Path, archive: &Path) -> Result<()> {
    command::output(ctr(socket).args(["image", "import"]).arg(archive))
        .with_context(|| format!("import of {}", archive.display()))
        .map(|_| ())
}

fn containerd(layout: &Layout, node: &Node) -> String {
    let (folder, run) = (layout.node(node), layout.run.join(node.name));
    let (folder, run, socket) = (folder.display(), run.display(), layout.socket(node));
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "{run}"
[grpc]
  address = "{}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{}"
  # Needed where CAP_SYS_RESOURCE is missing.
  restrict_oom_score_adj = true
  # Below our own folder, so that the end finds them.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"#,
        socket.display(),
        addons::PAUSE
    )
}

fn cni(layout: &Layout, node: &Node) -> String {
    let (folder, range) = (layout.node(node), node.pod_range());
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "lab", "plugins": [
  {{"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {{"type": "host-local", "dataDir": "{}/ipam", "ranges": [[{{"subnet": "{range}"}}]]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
"#,
        folder.display()
    )
}

fn kubelet(layout: &Layout, node: &Node) -> String {
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /{}
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
clusterDNS: [{DNS}]
clusterDomain: cluster.local
resolvConf: {}/resolv.conf
containerRuntimeEndpoint: unix://{}
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
evictionHard: {{memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 4s
podLogsDir: {}
"#,
        node.cgroup(),
        resolver(layout, node),
        layout.socket(node).display(),
        layout.pod_logs(node).display()
    )
}

/// Pods inherit nothing of the host's resolver: nothing outside is reachable.
fn resolver(layout: &Layout, node: &Node) -> String {
    let folder = layout.node(node);
    // An unwritable folder shows at the next file.
    let _ = std::fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n");
    folder.display().to_string()
}

fn proxy(layout: &Layout, node: &Node) -> String {
    format!(
        r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
hostnameOverride: {}
clientConnection: {{kubeconfig: {}}}
clusterCIDR: 10.244.0.0/16
conntrack: {{maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"#,
        node.name,
        layout.inner_kubeconfig().display()
    )
}
