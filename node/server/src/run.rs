//! A member's life: find out who it is, open its data, serve, hand leadership over, end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::service::Routes;

use quorate_api::peer::peer_server::PeerServer;
use quorate_consensus::config::Config as Consensus;
use quorate_consensus::id::Time;
use quorate_consensus::membership::Role;
use quorate_replica::change::MembershipChange;
use quorate_replica::error::BootError;
use quorate_replica::event::{GroupId, Request};
use quorate_replica::host::{Host, HostConfig, Retention};
use quorate_storage::backend::tree::{Engine, EngineConfig};
use quorate_storage::backend::{Backend, BackendError};
use quorate_storage::disk::{Disk, DiskError, RealDisk};
use quorate_storage::wal;

use crate::bootstrap::{BootstrapError, Identity, identify};
use crate::config::Config;
use crate::driver::{self, OUTGOING_MAX};
use crate::http::Front;
use crate::listen;
use crate::node::{HANDOVER_TIMEOUT, Node};
use crate::services::Services;
use crate::tls::{Tls, TlsError};
use crate::transport::receiver::PeerFront;
use crate::transport::service::PeerService;
use crate::transport::{self, FRAME_BYTES_MAX};

/// Between two tries to tell the cluster this member's name and client URLs.
const PUBLISH_PAUSE: Duration = Duration::from_millis(200);

/// Why a member could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// TLS files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address that can't be listened on, or no threads.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The data directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The engine.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Who this member is.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// What lies on the disk.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// It was removed.
    #[error("this member was removed from the cluster: its data directory is of no use any more")]
    Removed,
}

/// Runs a member until SIGTERM, SIGINT or its removal.
///
/// # Errors
/// Why it could not start, or that it was removed.
pub async fn run(config: Config) -> Result<(), RunError> {
    let client_tls = config.client_tls.clone().map(Tls::load).transpose()?;
    let peer_tls = config.peer_tls.clone().map(Tls::load).transpose()?;
    let start = Instant::now();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&config.data_dir)?);
    let identity = identify(&config, Arc::clone(&disk), peer_tls.clone()).await?;
    let engine = Engine::new(&config.data_dir.join("state"), EngineConfig::default());
    let backend: Arc<dyn Backend> = Arc::new(engine.group(GroupId::DEFAULT.0)?);
    // Not before the data is open: a port that takes connections and does not answer keeps others waiting.
    let clients = listen::bind(&config.listen_client).await?;
    let peers = listen::bind(&config.listen_peer).await?;
    let metrics = listen::bind(&config.listen_metrics).await?;
    let host = Host::open(host_config(&config, &identity), disk, Arc::clone(&backend), Time(0))?;
    tracing::info!(
        cluster = format!("{:x}", identity.cluster_id),
        member = format!("{:x}", identity.member_id.0),
        name = config.name,
        consensus = %config.protocol,
        "opened"
    );
    let streams_max = config.streams_max;
    let node = Node::new(config, identity.cluster_id, identity.member_id, backend)?;
    let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
    let driver = driver::start(host, Arc::clone(&node), start, outgoing)?;
    tokio::spawn(transport::run(Arc::clone(&node), peer_tls.clone(), messages));

    let mut servers = JoinSet::new();
    let peer_service = PeerServer::new(PeerService::new(Arc::clone(&node)))
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
    let peer_front = PeerFront::new(Arc::clone(&node), Routes::new(peer_service).prepare());
    for bound in peers {
        let stopping = node.stopping.subscribe();
        servers.spawn(listen::serve(bound, peer_tls.clone(), streams_max, peer_front.clone(), stopping));
    }
    let services = Services::new(&node);
    for (bound, services) in clients
        .into_iter()
        .map(|bound| (bound, Some(services.clone())))
        .chain(metrics.into_iter().map(|bound| (bound, None)))
    {
        let front = Front::new(Arc::clone(&node), services);
        servers.spawn(listen::serve(
            bound,
            client_tls.clone(),
            streams_max,
            front,
            node.stopping.subscribe(),
        ));
    }
    tokio::spawn(publish(Arc::clone(&node)));

    let result = end(&node).await;
    node.stopping.send_replace(true);
    while servers.join_next().await.is_some() {}
    driver.stop().await;
    tracing::info!("ended");
    result
}

fn host_config(config: &Config, identity: &Identity) -> HostConfig {
    let mut consensus = Consensus::new(identity.member_id, identity.member_id.0 ^ driver::unix_nanoseconds());
    consensus.election_timeout_ms = config.election_ms;
    consensus.heartbeat_interval_ms = config.heartbeat_ms;
    HostConfig {
        cluster_id: identity.cluster_id,
        protocol: config.protocol,
        consensus,
        wal: wal::Config::default(),
        retention: Retention::default(),
        feature_level: crate::transport::FEATURE_LEVEL,
        initial: identity.initial.clone(),
    }
}

/// Tells the cluster this member's name, client URLs and zone until it knows them.
async fn publish(node: Arc<Node>) {
    let config = &node.config;
    loop {
        let known = node.is_known();
        if known && node.has_leader() {
            tracing::info!("ready to serve client requests");
            return;
        }
        let change = MembershipChange::Publish {
            id: node.id,
            name: config.name.clone(),
            client_urls: config.advertise_client_urls.clone(),
            zone: config.zone.clone(),
            leader_priority: config.leader_priority,
        };
        if !known
            && node.has_leader()
            && let Err(error) = node.ask(Request::Change(change)).await
        {
            tracing::debug!(error = error.text, "the cluster was not told this member's name yet");
        }
        tokio::time::sleep(PUBLISH_PAUSE).await;
    }
}

/// Waits for the end, and prepares the others for it.
async fn end(node: &Arc<Node>) -> Result<(), RunError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut removed = node.shows.removed.subscribe();
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to end (SIGTERM)"),
        _ = interrupt.recv() => tracing::info!("told to end (SIGINT)"),
        () = crate::node::ended(&mut removed) => return Err(RunError::Removed),
    }
    let others = {
        let membership = node.shows.membership.borrow();
        membership.members.values().any(|member| member.id != node.id && member.role == Role::Voter)
    };
    if others && node.shows.leadership.borrow().leader == Some(node.id) {
        match node.ask_within(Request::Transfer(None), HANDOVER_TIMEOUT).await {
            Ok(_) => tracing::info!("handed leadership over"),
            Err(error) => tracing::warn!(error = error.text, "leadership could not be handed over"),
        }
    }
    Ok(())
}
