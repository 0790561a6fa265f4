//! What comes in from peers: the upgrade of a connection to a stream of messages, and what it carries.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use quorate_api::peer::peer_frame::Frame;
use quorate_api::peer::{Hello, HelloReply, PeerFrame, RefusalCode};
use quorate_consensus::id::MemberId;
use quorate_replica::event::{Event, GroupId};

use super::FEATURE_LEVEL;
use super::service::{Refusal, check};
use super::stream::{FrameReader, FrameWriter, PATH, PROTOCOL};
use crate::driver::Message;
use crate::metrics::METRICS;
use crate::node::{HANDOVER_TIMEOUT, Node};

/// For the upgrade and the first frame of a stream.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The service on a peer port: streams of messages, and the peer service by gRPC.
#[derive(Clone, Debug)]
pub struct PeerFront {
    node: Arc<Node>,
    routes: Routes,
}

impl PeerFront {
    /// Streams go to `node`, everything else to `routes`.
    #[must_use]
    pub fn new(node: Arc<Node>, routes: Routes) -> Self {
        Self { node, routes }
    }
}

impl Service<Request<Incoming>> for PeerFront {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let wanted = request.headers().get(header::UPGRADE);
        if request.uri().path() == PATH && wanted.is_some_and(|name| name == PROTOCOL) {
            tokio::spawn(serve(Arc::clone(&self.node), hyper::upgrade::on(&mut request)));
            return Box::pin(std::future::ready(Ok(upgraded())));
        }
        let mut routes = self.routes.clone();
        Box::pin(async move { routes.call(request).await })
    }
}

fn upgraded() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

type Input = FrameReader<tokio::io::ReadHalf<TokioIo<Upgraded>>>;

async fn serve(node: Arc<Node>, upgrade: OnUpgrade) {
    let opened = tokio::time::timeout(HELLO_TIMEOUT, async {
        let (input, output) = tokio::io::split(TokioIo::new(upgrade.await.ok()?));
        let (mut input, output) = (FrameReader::new(input), FrameWriter::new(output));
        let PeerFrame { frame: Some(Frame::Hello(hello)) } = input.next().await.ok()?? else { return None };
        Some((input, output, hello))
    });
    let Ok(Some((input, mut output, hello))) = opened.await else {
        tracing::debug!("a peer's stream did not begin with Hello");
        return;
    };
    let Hello { cluster_id, member_id, target_member_id, protocol, .. } = hello;
    let checked = check(&node, cluster_id, member_id, target_member_id, &protocol);
    let accepted = checked.is_ok();
    if output.send(&hello_reply(&node, checked.err())).await.is_ok() && accepted {
        // The other side takes the end of either half for the end: `output` lives as long as the stream.
        pump(&node, MemberId(member_id), input).await;
    }
}

fn hello_reply(node: &Node, refusal: Option<Refusal>) -> PeerFrame {
    let (code, refusal) = refusal.unwrap_or((RefusalCode::RefusalNone, String::new()));
    let reply = HelloReply {
        cluster_id: node.cluster_id,
        member_id: node.id.0,
        protocol: node.config.protocol.to_string(),
        feature_level: FEATURE_LEVEL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        refusal,
        refusal_code: code as u32,
    };
    PeerFrame { frame: Some(Frame::HelloReply(reply)) }
}

/// Hands on every message of a stream until it ends or the member stops.
async fn pump(node: &Node, from: MemberId, mut input: Input) {
    let received = METRICS.peer_received_bytes.with_label_values(&[&format!("{:x}", from.0)]);
    let mut stopping = node.stopping.subscribe();
    // A member that is told to end still hands its leadership over: its streams last that much longer.
    let stopped = async {
        crate::node::ended(&mut stopping).await;
        tokio::time::sleep(HANDOVER_TIMEOUT).await;
    };
    tokio::pin!(stopped);
    loop {
        let next = tokio::select! {
            biased;
            next = input.next() => next,
            () = &mut stopped => return,
        };
        let frame = match next {
            Ok(Some(PeerFrame { frame })) => frame,
            Ok(None) => return,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(peer = format!("{:x}", from.0), error, "a peer's stream ended early");
                return;
            }
        };
        let Some(Frame::Batch(batch)) = frame else { return };
        for message in batch.messages {
            received.inc_by(u64::try_from(message.payload.len()).unwrap_or(0));
            let event = Event::Peer { from, payload: message.payload };
            // A full queue drops it, as the network might have.
            node.tell(Message::Event(GroupId(message.group_id), event));
        }
    }
}
