//! `quorate-lab`: the embedded Kubernetes from the command line.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use quorate_e2e::cluster::{Cluster, proxy, volumes};
use quorate_e2e::product;

/// A whole Kubernetes (control plane, three nodes in three zones, DNS, Services, volumes) on this machine, and Quorate on it.
#[derive(Parser)]
#[command(name = "quorate-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kubernetes, the operator and a StoreCluster; with KUBECONFIG set, on that Kubernetes
    Up {
        /// How members agree
        #[arg(long, default_value = "Raft", value_parser = ["Raft", "MultiPaxos", "Zab"])]
        consensus: String,
    },
    /// Remove everything that `up` made
    Down,
    /// The embedded Kubernetes alone
    KubernetesUp,
    /// End the embedded Kubernetes; no process, mount, namespace, cgroup or file stays
    KubernetesDown,
    /// Write the images as OCI archives to target/images
    Images,
    /// Part of the embedded Kubernetes: lets the host's loopback in
    #[command(hide = true)]
    Proxy {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        namespace: String,
        #[arg(long)]
        to: SocketAddr,
    },
    /// Part of a test: ends the embedded Kubernetes when the test's process, which holds this one's input, has ended
    #[command(hide = true)]
    Keeper {
        #[arg(long)]
        owner: String,
    },
    /// Part of the embedded Kubernetes: offers volumes
    #[command(hide = true)]
    Volumes,
}

fn run(command: Command) -> Result<()> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match command {
        Command::Up { consensus } => product::up(&consensus),
        Command::Down => product::down(),
        Command::KubernetesUp => {
            let cluster = Cluster::new();
            cluster.up()?;
            println!("export KUBECONFIG={}", cluster.layout().kubeconfig().display());
            println!("export PATH={}:$PATH", cluster.layout().bin().display());
            Ok(())
        }
        Command::KubernetesDown => Cluster::new().down(),
        Command::Images => product::images().map(|_| ()),
        Command::Proxy { listen, namespace, to } => runtime()?.block_on(proxy::serve(listen, &namespace, to)),
        Command::Keeper { owner } => Cluster::new().end_after(&owner),
        Command::Volumes => runtime()?.block_on(volumes::serve(Cluster::new().layout())),
    }
}

fn main() -> ExitCode {
    // Fails only if a provider was installed before, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
