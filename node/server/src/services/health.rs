//! gRPC's health service: a member that answers serves; whether the cluster does, `/readyz` says.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use quorate_api::health::health_check_response::ServingStatus;
use quorate_api::health::health_server::Health;
use quorate_api::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};

/// The service.
#[derive(Debug)]
pub(super) struct HealthService;

fn serving(service: &str) -> Result<HealthCheckResponse, Status> {
    if service.is_empty() || service.starts_with("etcdserverpb.") {
        return Ok(HealthCheckResponse { status: ServingStatus::Serving.into() });
    }
    Err(Status::not_found("unknown service"))
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        serving(&request.into_inner().service).map(Response::new)
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Ok(Response::new(HealthListResponse { statuses: [(String::new(), serving("")?)].into() }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
        let first = serving(&request.into_inner().service).unwrap_or(unknown);
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(first)).chain(tokio_stream::pending()))))
    }
}
