//! The etcd v3 services over one [`Node`]: each checks a request, asks the replica and shapes the answer.

mod check;
mod cluster;
mod convert;
mod health;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::service::Routes;
use tower::Service;

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
#[derive(Clone, Debug)]
pub struct Services {
    /// The busiest is found without a router.
    kv: KvServer<kv::KvService>,
    others: Routes,
}

impl Services {
    /// Over a node.
    #[must_use]
    pub fn new(node: &Arc<Node>) -> Self {
        let largest = node.config.request_bytes_max + OVERHEAD_BYTES;
        let node = || Arc::clone(node);
        let watch = WatchServer::new(watch::WatchService(node())).max_decoding_message_size(largest);
        let others = Routes::new(watch)
            .add_service(LeaseServer::new(lease::LeaseService(node())))
            .add_service(ClusterServer::new(cluster::ClusterService(node())))
            .add_service(MaintenanceServer::new(maintenance::MaintenanceService(node())))
            .add_service(HealthServer::new(health::HealthService))
            .prepare();
        Self { kv: KvServer::new(kv::KvService(node())).max_decoding_message_size(largest), others }
    }
}

impl Service<Request<Incoming>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if request.uri().path().starts_with("/etcdserverpb.KV/") {
            self.kv.call(request)
        } else {
            Box::pin(self.others.call(request))
        }
    }
}
