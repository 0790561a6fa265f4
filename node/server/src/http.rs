//! The client port: gRPC by content type, and etcd's HTTP endpoints.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tonic::body::Body;
use tower::Service;

use crate::health::{self, Check};
use crate::metrics::METRICS;
use crate::node::Node;
use crate::rpc::Rpc;
use crate::services::Services;

/// etcd's version that this store answers as.
pub const ETCD_VERSION: &str = "3.7.3";

/// The service on a client port; without services, on a metrics port.
#[derive(Clone, Debug)]
pub struct Front {
    node: Arc<Node>,
    services: Option<Services>,
}

impl Front {
    /// HTTP, and gRPC if there are services.
    #[must_use]
    pub fn new(node: Arc<Node>, services: Option<Services>) -> Self {
        Self { node, services }
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        match self.services.clone() {
            Some(services) if grpc => Box::pin(grpc_call(Arc::clone(&self.node), services, request)),
            Some(_) | None => {
                let node = Arc::clone(&self.node);
                Box::pin(async move { Ok(answer(&node, request.method(), request.uri()).await) })
            }
        }
    }
}

async fn grpc_call(
    node: Arc<Node>,
    mut services: Services,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let rpc = Rpc::of(request.uri().path());
    if let Some(status) = rpc.refusal(&node) {
        return Ok(status.into_http());
    }
    let began = Instant::now();
    rpc.began();
    let response = services.call(request).await;
    let code =
        response.as_ref().ok().and_then(|response| grpc_code(response.headers())).unwrap_or(tonic::Code::Ok);
    rpc.answered(began.elapsed(), code);
    response
}

fn grpc_code(headers: &HeaderMap) -> Option<tonic::Code> {
    headers.get("grpc-status").map(|value| tonic::Code::from_bytes(value.as_bytes()))
}

async fn answer(node: &Arc<Node>, method: &Method, uri: &http::Uri) -> Response<Body> {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if path.starts_with("/v3/") || path.starts_with("/v3beta/") {
        let text = "{\"error\":\"quorate: the JSON gateway is not there yet: use gRPC\",\"code\":12}\n";
        return reply(StatusCode::NOT_IMPLEMENTED, "application/json", text);
    }
    if method != Method::GET && method != Method::HEAD {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "Method Not Allowed\n");
    }
    match path {
        "/health" => health::health(node, query).await,
        "/version" => version(),
        "/metrics" => reply(StatusCode::OK, "text/plain; version=0.0.4", METRICS.render(node)),
        _ => match path.trim_start_matches('/').split_once('/') {
            None if path == "/livez" => health::checks(node, "livez", Check::LIVE, query).await,
            None if path == "/readyz" => health::checks(node, "readyz", Check::READY, query).await,
            Some(("livez", name)) => health::one(node, Check::LIVE, name).await,
            Some(("readyz", name)) => health::one(node, Check::READY, name).await,
            None | Some(_) => {
                reply(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
            }
        },
    }
}

fn version() -> Response<Body> {
    let cluster = "3.7.0";
    let text = serde_json::json!({
        "etcdserver": ETCD_VERSION, "etcdcluster": cluster, "storage": cluster, "quorate": env!("CARGO_PKG_VERSION"),
    });
    reply(StatusCode::OK, "application/json", text.to_string())
}

/// A whole answer.
#[must_use]
pub fn reply(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_full(body.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

fn http_body_full(bytes: bytes::Bytes) -> http_body_util::Full<bytes::Bytes> {
    http_body_util::Full::new(bytes)
}
