//! The etcd v3 services over one [`Node`]: each checks a request, asks the replica and shapes the answer.

mod check;
mod cluster;
mod convert;
mod health;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::sync::Arc;

use tonic::service::Routes;

use quorate_api::etcdserverpb::cluster_server::ClusterServer;
use quorate_api::etcdserverpb::kv_server::KvServer;
use quorate_api::etcdserverpb::lease_server::LeaseServer;
use quorate_api::etcdserverpb::maintenance_server::MaintenanceServer;
use quorate_api::etcdserverpb::watch_server::WatchServer;
use quorate_api::health::health_server::HealthServer;

use crate::node::Node;

/// What gRPC's framing may add to the largest request (etcd: 512 KiB).
const OVERHEAD_BYTES: usize = 512 << 10;

/// Every service for clients.
#[must_use]
pub fn routes(node: &Arc<Node>) -> Routes {
    let largest = node.config.request_bytes_max + OVERHEAD_BYTES;
    let node = || Arc::clone(node);
    Routes::new(KvServer::new(kv::KvService(node())).max_decoding_message_size(largest))
        .add_service(WatchServer::new(watch::WatchService(node())).max_decoding_message_size(largest))
        .add_service(LeaseServer::new(lease::LeaseService(node())))
        .add_service(ClusterServer::new(cluster::ClusterService(node())))
        .add_service(MaintenanceServer::new(maintenance::MaintenanceService(node())))
        .add_service(HealthServer::new(health::HealthService))
        .prepare()
}
