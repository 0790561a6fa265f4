//! The stream of messages to one peer: connects, shakes hands, sends batches, and again after a failure.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use quorate_api::peer::peer_frame::Frame;
use quorate_api::peer::{Batch, GroupMessage, Hello, PeerFrame, RefusalCode};
use quorate_consensus::id::MemberId;
use quorate_replica::event::{Event, GroupId};

use super::dial::dial;
use super::{FEATURE_LEVEL, FRAME_BYTES_MAX};
use crate::driver::Message;
use crate::metrics::METRICS;
use crate::node::Node;
use crate::tls::Tls;

/// Messages in one frame, at most.
const BATCH_MESSAGES_MAX: usize = 512;
/// Payload of one frame, about at most; one larger message still travels alone.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Frames handed to HTTP/2 that it has not taken yet.
const FRAMES_MAX: usize = 4;
/// For the handshake, and for a frame to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failure: doubling between these.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Sends to `to` until aborted.
pub(super) async fn run(
    node: Arc<Node>,
    tls: Option<Arc<Tls>>,
    to: MemberId,
    urls: Vec<String>,
    mut messages: mpsc::Receiver<GroupMessage>,
) {
    let mut backoff = BACKOFF_MIN;
    let mut said = String::new();
    for url in urls.iter().cycle() {
        let mut reset = false;
        match open(&node, tls.clone(), to, url).await {
            Ok((frames, answers)) => {
                reset = true;
                tracing::info!(peer = format!("{:x}", to.0), url, "connected to a peer");
                (backoff, said) = (BACKOFF_MIN, String::new());
                pump(&mut messages, &frames, answers, to).await;
                tracing::info!(peer = format!("{:x}", to.0), "the connection to a peer ended");
            }
            Err(why) => {
                if why != said {
                    tracing::warn!(peer = format!("{:x}", to.0), why, "a peer can't be reached");
                    said = why;
                }
            }
        }
        node.tell(Message::Event(GroupId::DEFAULT, Event::Unreachable { peer: to, reset }));
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        // What waited is old now; the protocol sends anew.
        while messages.try_recv().is_ok() {}
    }
}

async fn open(
    node: &Node,
    tls: Option<Arc<Tls>>,
    to: MemberId,
    url: &str,
) -> Result<(mpsc::Sender<PeerFrame>, Streaming<PeerFrame>), String> {
    let mut client = dial(url, tls).await?;
    let (frames, receiver) = mpsc::channel(FRAMES_MAX);
    let hello = Hello {
        cluster_id: node.cluster_id,
        member_id: node.id.0,
        target_member_id: to.0,
        protocol: node.config.protocol.to_string(),
        feature_level: FEATURE_LEVEL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let hello = PeerFrame { frame: Some(Frame::Hello(hello)) };
    frames.send(hello).await.map_err(|error| error.to_string())?;
    let handshake = async {
        let mut answers = client.messages(ReceiverStream::new(receiver)).await?.into_inner();
        Ok::<_, tonic::Status>((answers.message().await?, answers))
    };
    let (reply, answers) = tokio::time::timeout(SEND_TIMEOUT, handshake)
        .await
        .map_err(|_| format!("{url} did not shake hands in time"))?
        .map_err(|status| format!("{url} refused the stream: {}", status.message()))?;
    let Some(Frame::HelloReply(reply)) = reply.and_then(|frame| frame.frame) else {
        return Err(format!("{url} did not answer the handshake"));
    };
    if reply.refusal_code == RefusalCode::RefusalRemoved as u32 {
        node.shows.removed.send_replace(true);
    }
    if !reply.refusal.is_empty() {
        return Err(format!("{url} refused: {}", reply.refusal));
    }
    Ok((frames, answers))
}

async fn pump(
    messages: &mut mpsc::Receiver<GroupMessage>,
    frames: &mpsc::Sender<PeerFrame>,
    mut answers: Streaming<PeerFrame>,
    to: MemberId,
) {
    let sent = METRICS.peer_sent_bytes.with_label_values(&[&format!("{:x}", to.0)]);
    loop {
        let first = tokio::select! {
            message = messages.recv() => message,
            // Nothing follows the handshake: this is the end.
            _ = answers.message() => return,
        };
        let Some(first) = first else { return };
        let mut bytes = first.payload.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(message) = messages.try_recv() else { break };
            bytes += message.payload.len();
            batch.push(message);
        }
        debug_assert!(bytes < FRAME_BYTES_MAX);
        sent.inc_by(u64::try_from(bytes).unwrap_or(0));
        let frame = PeerFrame { frame: Some(Frame::Batch(Batch { messages: batch })) };
        match tokio::time::timeout(SEND_TIMEOUT, frames.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
