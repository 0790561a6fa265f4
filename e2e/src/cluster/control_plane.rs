//! etcd, API server, controllers, scheduler, and the way in for the host.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::layout::{API_PORT, CONTROL_PLANE, Layout, control_plane_namespace};
use super::processes::Processes;
use crate::command;

/// The API server makes its own objects on its first start.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts all parts; `port` is where the host is let in.
pub(super) fn start(processes: &Processes<'_>, layout: &Layout, port: u16) -> Result<()> {
    let (namespace, bin, pki) = (control_plane_namespace(), layout.bin(), layout.pki());
    let (pki, config) = (pki.display(), layout.inner_kubeconfig());
    let config = config.display();
    let run =
        |name: &str, arguments: Vec<String>| processes.start(name, &namespace, &bin.join(name), &arguments);
    run(
        "etcd",
        vec![
            format!("--data-dir={}/etcd", layout.root.display()),
            "--log-level=error".into(),
            // A lab does not outlive the machine.
            "--unsafe-no-fsync".into(),
        ],
    )?;
    run(
        "kube-apiserver",
        vec![
            "--etcd-servers=http://127.0.0.1:2379".into(),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            format!("--tls-cert-file={pki}/api.crt"),
            format!("--tls-private-key-file={pki}/api.key"),
            format!("--client-ca-file={pki}/ca.crt"),
            format!("--cert-dir={pki}/api"),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={pki}/sa.pub"),
            format!("--service-account-signing-key-file={pki}/sa.key"),
            format!("--token-auth-file={pki}/tokens.csv"),
            "--authorization-mode=Node,RBAC".into(),
            "--allow-privileged=true".into(),
            format!("--advertise-address={CONTROL_PLANE}"),
            format!("--secure-port={API_PORT}"),
            "--kubelet-preferred-address-types=InternalIP".into(),
        ],
    )?;
    processes.start_own(
        "proxy",
        &[
            "proxy",
            &format!("--listen=127.0.0.1:{port}"),
            &format!("--namespace={namespace}"),
            &format!("--to={CONTROL_PLANE}:{API_PORT}"),
        ],
    )?;
    run(
        "kube-controller-manager",
        vec![
            format!("--kubeconfig={config}"),
            "--leader-elect=false".into(),
            format!("--cert-dir={pki}/controllers"),
            format!("--service-account-private-key-file={pki}/sa.key"),
            format!("--root-ca-file={pki}/ca.crt"),
            format!("--cluster-signing-cert-file={pki}/ca.crt"),
            format!("--cluster-signing-key-file={pki}/ca.key"),
            "--use-service-account-credentials=true".into(),
            // Lost nodes are noticed soon, as the tests wait for it.
            "--node-monitor-grace-period=16s".into(),
        ],
    )?;
    run(
        "kube-scheduler",
        vec![
            format!("--kubeconfig={config}"),
            "--leader-elect=false".into(),
            format!("--cert-dir={pki}/scheduler"),
        ],
    )?;
    command::until("the API server", READY_TIMEOUT, || {
        for part in ["etcd", "kube-apiserver", "proxy"] {
            if !processes.runs(part) {
                bail!("{part} has ended: {}", processes.last_words(part));
            }
        }
        let mut kubectl = std::process::Command::new(bin.join("kubectl"));
        kubectl
            .arg(format!("--kubeconfig={}", layout.kubeconfig().display()))
            .args(["get", "--raw", "/readyz"]);
        command::output(&mut kubectl).context("/readyz")
    })
    .map(|_| ())
}
