//! `quorate-operator`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::Config;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use quorate_operator::crd::StoreCluster;
use quorate_operator::http;
use quorate_operator::lease::Contender;
use quorate_operator::metrics::METRICS;
use quorate_operator::names::{CLUSTER_LABEL, MANAGER};
use quorate_operator::reconcile::{Context, reconcile, retry};

/// Looks at once: each holds a few connections.
const CONCURRENCY: u16 = 8;

/// Runs StoreClusters: replicated stores with etcd's API, spread over zones.
#[derive(Parser)]
#[command(name = "quorate-operator", version)]
struct Arguments {
    /// Look after this namespace only; all of them without it
    #[arg(long, env = "QUORATE_WATCH_NAMESPACE")]
    namespace: Option<String>,
    /// The node's image where a StoreCluster names none
    #[arg(long, env = "QUORATE_NODE_IMAGE", default_value = "quorate/node:dev")]
    node_image: String,
    /// Where /metrics, /livez and /readyz are served
    #[arg(long, env = "QUORATE_ADDRESS", default_value = "0.0.0.0:8080")]
    address: SocketAddr,
    /// The namespace of the Lease by which operators choose one among them
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// The Lease's name
    #[arg(long, default_value = "quorate-operator")]
    lease_name: String,
    /// This process's name in the Lease
    #[arg(long, env = "POD_NAME", default_value = "quorate-operator")]
    identity: String,
    /// error | warn | info | debug | trace
    #[arg(long, env = "QUORATE_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Fails only if a provider was installed before, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    let filter = format!("warn,quorate_operator={}", arguments.log_level);
    tracing_subscriber::fmt().json().with_env_filter(filter).init();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator must end");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let client =
        Client::try_default().await.context("no Kubernetes: neither a pod's account nor a kubeconfig")?;
    client.apiserver_version().await.context("the API server can't be reached")?;
    let (ready, is_ready) = watch::channel(true);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut contender = Contender::new(
        client.clone(),
        &arguments.lease_namespace,
        &arguments.lease_name,
        &arguments.identity,
    );
    let work = async {
        let since = contender.acquire().await;
        tracing::info!("leading");
        METRICS.leading.set(1);
        // What `control` has under way ends with it, at the next answer it waits for.
        tokio::select! {
            biased;
            () = contender.hold(since) => tracing::warn!("the lease was lost, or not renewed in time"),
            () = control(&arguments, client) => {}
        }
    };
    let lost = tokio::select! {
        result = http::serve(arguments.address, is_ready) => {
            result.with_context(|| format!("can't listen on {}", arguments.address))?;
            false
        }
        () = work => true,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    drop(ready);
    contender.release().await;
    // A new process starts with nothing remembered.
    anyhow::ensure!(!lost, "the lease was lost");
    tracing::info!("ended");
    Ok(())
}

async fn control(arguments: &Arguments, client: Client) {
    fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
    let namespace = arguments.namespace.as_deref();
    let reporter = Reporter { controller: MANAGER.into(), instance: Some(arguments.identity.clone()) };
    let context = Arc::new(Context {
        client: client.clone(),
        node_image: arguments.node_image.clone(),
        recorder: Recorder::new(client.clone(), reporter),
        applied: Default::default(),
        attempts: Default::default(),
    });
    let ours = watcher::Config::default().labels(CLUSTER_LABEL);
    let of_pod = |pod: Pod| {
        let cluster = pod.labels().get(CLUSTER_LABEL)?;
        Some(ObjectRef::<StoreCluster>::new(cluster).within(&pod.namespace()?))
    };
    Controller::new(api::<StoreCluster>(&client, namespace), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns(api::<StatefulSet>(&client, namespace), ours.clone())
        .watches(api::<Pod>(&client, namespace), ours, of_pod)
        .run(reconcile, retry, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "controller");
            }
        })
        .await;
}
