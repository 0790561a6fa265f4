//! Bring-up, etcdctl, refusals.

use anyhow::{Result, ensure};
use quorate_e2e::command::until;
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::support::{CHANGE_TIMEOUT, READY_TIMEOUT, Store, lab};

#[test]
#[ignore = "needs root: make test"]
fn a_cluster_comes_up_and_serves_etcdctl_from_a_pod_and_from_the_host() -> Result<()> {
    let store = Store::ready("basics", 3)?;
    ensure!(store.get(".status.zoneLossSurvivable")? == "true");
    let zones = store.get(".status.members[*].zone")?;
    ensure!(zones == "zone-a zone-b zone-c", "{zones}");
    store.toolbox()?;
    let etcdctl = |arguments: &[&str]| {
        store.kubectl(&[&["exec", "deploy/toolbox", "--", "etcdctl"], arguments].concat())
    };
    ensure!(etcdctl(&["put", "hello", "world"])?.trim() == "OK");
    ensure!(etcdctl(&["get", "hello", "--print-value-only"])?.trim() == "world");
    ensure!(etcdctl(&["member", "list"])?.lines().count() == 3);
    let health = etcdctl(&["endpoint", "health", "--cluster"])?;
    ensure!(health.matches("is healthy").count() == 3, "{health}");
    ensure!(etcdctl(&["alarm", "list"])?.trim().is_empty());
    from_the_host(&store)
}

fn from_the_host(store: &Store) -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut forward = lab()
        .0
        .kubectl_command()
        .args(["-n", &store.namespace, "port-forward", "svc/store-client", &format!("{port}:2379")])
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let folder = tempfile::tempdir()?;
    let mut etcdctl = std::process::Command::new(lab().0.layout().bin().join("etcdctl"));
    etcdctl.arg(format!("--endpoints=https://localhost:{port}"));
    for (flag, key) in [("cacert", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")] {
        let query = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        let file = folder.path().join(key);
        std::fs::write(&file, store.kubectl(&["get", "secret", "store-client-tls", "-o", &query])?)?;
        etcdctl.arg(format!("--{flag}={}", file.display()));
    }
    etcdctl.args(["get", "hello", "--print-value-only"]);
    let got = until("etcdctl on the host", CHANGE_TIMEOUT, || quorate_e2e::command::output(&mut etcdctl));
    let snapshot = folder.path().join("snapshot");
    let mut save = std::process::Command::new(etcdctl.get_program());
    // The last three words are those of the get.
    let common: Vec<_> = etcdctl.get_args().collect();
    save.args(&common[..common.len() - 3]).args(["snapshot", "save"]).arg(&snapshot);
    let saved = quorate_e2e::command::output(&mut save);
    forward.kill()?;
    forward.wait()?;
    ensure!(got?.trim() == "world");
    saved?;
    let test = std::env::current_exe()?;
    let quorate = test.ancestors().nth(2).map(|folder| folder.join("quorate")).unwrap_or_default();
    let status = quorate_e2e::command::output(
        std::process::Command::new(quorate).args(["snapshot", "status"]).arg(&snapshot),
    )?;
    ensure!(status.contains("keys      1") && status.contains("all checksums are right"), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: make test"]
async fn clients_need_a_certificate_unless_tls_is_turned_off() -> Result<()> {
    let store = Store::ready("tls-on", 1)?;
    store.clients().await?.put_soon("w/k", "v").await?;
    let nameless = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(store.secret("ca.crt")?))
        .domain_name("localhost");
    ensure!(
        store.clients_with(Some(nameless)).await?.put("w/k", "v").await.is_err(),
        "no certificate was asked for"
    );
    ensure!(store.clients_with(None).await?.put("w/k", "v").await.is_err(), "clear text was taken");

    let store = Store::namespace("tls-off")?;
    store.apply(1, "  tls: {client: false}\n")?;
    store.wait_ready(1, READY_TIMEOUT)?;
    store.clients_with(None).await?.put_soon("w/k", "v").await
}

#[test]
#[ignore = "needs root: make test"]
fn invalid_specs_are_refused_with_what_to_do() -> Result<()> {
    let store = Store::namespace("refusals")?;
    let refused = |members: u32, more: &str, why: &str| {
        let said = store.apply(members, more).err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(said.contains(why), "{members} {more}: {said:?} does not say {why:?}");
        Ok(())
    };
    refused(2, "", "an even number survives no more failures")?;
    refused(0, "", "members must be 1, 3, 5, 7 or 9")?;
    refused(11, "", "members must be 1, 3, 5, 7 or 9")?;
    refused(3, "  consensus: Vr\n", "supported values: \"Raft\", \"MultiPaxos\", \"Zab\"")?;
    refused(3, "  consensus: Paxos\n", "supported values")?;
    refused(3, "  zones: [{name: a}, {name: a}]\n", "zones must have different names")?;
    let size = |size: &str| store.manifest(3, "").replace("1Gi", size);
    let said = lab().0.apply(&size("many")).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(said.contains("storage.size must be a positive quantity such as 10Gi"), "{said}");
    store.apply(1, "")?;
    let said = lab().0.apply(&size("512Mi")).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(said.contains("storage.size can't shrink"), "{said}");
    refused(1, "  zones: [{name: zone-a}]\n", "zones can't change yet")?;
    refused(1, "  tls: {client: false}\n", "tls can't change yet")
}
