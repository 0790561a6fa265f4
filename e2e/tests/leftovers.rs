//! `down` leaves nothing behind, after a crash half-way too. Ends the embedded Kubernetes of this machine.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use quorate_e2e::cluster::Cluster;
use quorate_e2e::command::until;

const START_TIMEOUT: Duration = Duration::from_secs(300);

fn assert_nothing_is_left(cluster: &Cluster) -> Result<()> {
    let layout = cluster.layout();
    for folder in [&layout.root, &layout.run] {
        ensure!(!folder.exists(), "{} is left", folder.display());
    }
    let ours = [layout.root.to_string_lossy().into_owned(), layout.run.to_string_lossy().into_owned()];
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    ensure!(!ours.iter().any(|path| mounts.contains(path.as_str())), "mounts are left: {mounts}");
    for folder in ["/run/netns", "/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            ensure!(!name.starts_with("quorate-"), "{folder}/{name} is left");
        }
    }
    for process in std::fs::read_dir("/proc")?.flatten() {
        // Threads of the kernel and those that have ended have no command line.
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        ensure!(!ours.iter().any(|path| line.contains(path.as_str())), "a process is left: {line}");
    }
    Ok(())
}

fn lab() -> Result<Command> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
    Ok(Command::new(folder.join("quorate-lab")))
}

#[test]
#[ignore = "needs root: make test"]
fn nothing_is_left_behind() -> Result<()> {
    let cluster = Cluster::new();
    cluster.down()?;
    assert_nothing_is_left(&cluster)?;
    stopped_half_way(&cluster)?;
    let mut orphan = without_a_parent(&cluster)?;
    cluster.down()?;
    assert_nothing_is_left(&cluster)?;
    orphan.wait()?;
    stopped_half_way(&cluster)?;
    a_keeper_ends_what_its_owner_started(&cluster)?;
    cluster.up()?;
    cluster.down()?;
    assert_nothing_is_left(&cluster)
}

/// Starts it, and is killed on the way.
fn stopped_half_way(cluster: &Cluster) -> Result<()> {
    let mut up = lab()?.arg("kubernetes-up").stdout(Stdio::null()).spawn()?;
    // Half-way: a containerd runs, nothing is ready.
    let list = cluster.layout().root.join("processes");
    let started = until("the first node to start", START_TIMEOUT, || {
        ensure!(std::fs::read_to_string(&list)?.contains("containerd-n1"), "not yet");
        Ok(())
    });
    up.kill()?;
    up.wait()?;
    started?;
    ensure!(!cluster.is_up(), "half a cluster does not count as one");
    Ok(())
}

/// A `ctr` does not end with its parent if that is killed before it has asked for it. This one waits for a containerd that it can't find.
fn without_a_parent(cluster: &Cluster) -> Result<Child> {
    let socket = cluster.layout().run.join("n1.sock");
    let ended = cluster.layout().root.join("no-such.sock");
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(ended).arg("--connect-timeout=1h").args(["run", "no-image"]).arg(socket);
    Ok(ctr.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

fn a_keeper_ends_what_its_owner_started(cluster: &Cluster) -> Result<()> {
    let layout = cluster.layout();
    let owner = std::fs::read_to_string(layout.root.join("owner"))?;
    let keep = |owner: &str| {
        // Its input has ended already, as when the owner has.
        let kept = lab()?.args(["keeper", "--owner", owner]).stdin(Stdio::null()).output()?;
        ensure!(kept.status.success(), "{}", String::from_utf8_lossy(&kept.stderr));
        Ok(String::from_utf8_lossy(&kept.stdout).into_owned())
    };
    let said = keep("1 1")?;
    ensure!(said.is_empty() && layout.root.join("processes").exists(), "it ended another's: {said}");
    let said = keep(&owner)?;
    ensure!(said.contains("its logs stay in"), "{said}");
    ensure!(layout.logs().join("containerd-n1").exists(), "the logs are gone");
    std::fs::remove_dir_all(&layout.root)?;
    assert_nothing_is_left(cluster)
}
