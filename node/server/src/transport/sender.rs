//! The stream of messages to one peer: connects, shakes hands, sends batches, and again after a failure.

use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use quorate_api::peer::peer_frame::Frame;
use quorate_api::peer::{Batch, GroupMessage, Hello, PeerFrame, RefusalCode};
use quorate_consensus::id::MemberId;
use quorate_replica::event::{Event, GroupId};

use super::FEATURE_LEVEL;
use super::dial::dial_stream;
use super::stream::{FrameReader, FrameWriter};
use crate::driver::Message;
use crate::metrics::METRICS;
use crate::node::Node;
use crate::tls::Tls;

/// Messages in one frame, at most.
const BATCH_MESSAGES_MAX: usize = 512;
/// Payload of one frame, about at most; one larger message still travels alone.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// For the handshake.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
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
            Ok((input, output)) => {
                reset = true;
                tracing::info!(peer = format!("{:x}", to.0), url, "connected to a peer");
                (backoff, said) = (BACKOFF_MIN, String::new());
                pump(&mut messages, output, input, to).await;
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

type Input = FrameReader<ReadHalf<TokioIo<Upgraded>>>;
type Output = FrameWriter<WriteHalf<TokioIo<Upgraded>>>;

async fn open(
    node: &Node,
    tls: Option<Arc<Tls>>,
    to: MemberId,
    url: &str,
) -> Result<(Input, Output), String> {
    let (input, output) = tokio::io::split(dial_stream(url, tls).await?);
    let (mut input, mut output) = (FrameReader::new(input), FrameWriter::new(output));
    let hello = Hello {
        cluster_id: node.cluster_id,
        member_id: node.id.0,
        target_member_id: to.0,
        protocol: node.config.protocol.to_string(),
        feature_level: FEATURE_LEVEL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let hello = PeerFrame { frame: Some(Frame::Hello(hello)) };
    let handshake = async {
        output.send(&hello).await?;
        input.next().await
    };
    let reply = tokio::time::timeout(HELLO_TIMEOUT, handshake)
        .await
        .map_err(|_| format!("{url} did not shake hands in time"))?
        .map_err(|error| format!("{url} ended the stream: {error}"))?;
    let Some(Frame::HelloReply(reply)) = reply.and_then(|frame| frame.frame) else {
        return Err(format!("{url} did not answer the handshake"));
    };
    if reply.refusal_code == RefusalCode::RefusalRemoved as u32 {
        node.shows.removed.send_replace(true);
    }
    if !reply.refusal.is_empty() {
        return Err(format!("{url} refused: {}", reply.refusal));
    }
    Ok((input, output))
}

async fn pump(
    messages: &mut mpsc::Receiver<GroupMessage>,
    mut output: Output,
    mut input: Input,
    to: MemberId,
) {
    let sent = METRICS.peer_sent_bytes.with_label_values(&[&format!("{:x}", to.0)]);
    loop {
        let first = tokio::select! {
            biased;
            message = messages.recv() => message,
            // Nothing follows the handshake: this is the end.
            _ = input.next() => return,
        };
        let Some(first) = first else { return };
        let mut bytes = first.payload.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(message) = messages.try_recv() else { break };
            bytes += message.payload.len();
            batch.push(message);
        }
        sent.inc_by(u64::try_from(bytes).unwrap_or(0));
        let frame = PeerFrame { frame: Some(Frame::Batch(Batch { messages: batch })) };
        if let Err(error) = output.send(&frame).await {
            tracing::debug!(
                peer = format!("{:x}", to.0),
                error = &error as &dyn std::error::Error,
                "a frame did not leave"
            );
            return;
        }
    }
}
