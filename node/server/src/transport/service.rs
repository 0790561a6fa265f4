//! What this member serves to its peers.
//!
//! Mutual TLS says that the other side belongs to the cluster; which member it is, it says itself.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use tonic::{Request, Response, Status, Streaming};

use quorate_api::peer::peer_server::Peer;
use quorate_api::peer::snapshot_chunk::Chunk;
use quorate_api::peer::{
    ForwardReply, ForwardRequest, Member, MembersReply, MembersRequest, ReadIndexReply, ReadIndexRequest,
    RefusalCode, SnapshotAck, SnapshotChunk, SnapshotHeader, member,
};
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::membership::Role;
use quorate_replica::event::GroupId;

use super::{FEATURE_LEVEL, snapshot};
use crate::driver::Message;
use crate::node::Node;

/// The peer service.
#[derive(Debug)]
pub struct PeerService {
    node: Arc<Node>,
    /// Snapshots are received one at a time: each is held in memory until it is whole.
    receiving: Semaphore,
}

/// Why a peer is refused, for programs and for people.
pub(super) type Refusal = (RefusalCode, String);

impl PeerService {
    /// A service of this node.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, receiving: Semaphore::new(1) }
    }

    async fn take_snapshot(&self, stream: &mut Streaming<SnapshotChunk>) -> Result<u64, Refusal> {
        let damaged = |text: String| (RefusalCode::RefusalDamaged, text);
        let first = stream.message().await.map_err(|status| damaged(status.message().to_owned()))?;
        let Some(Chunk::Header(header)) = first.and_then(|chunk| chunk.chunk) else {
            return Err(damaged("a snapshot starts with a header".into()));
        };
        let SnapshotHeader { cluster_id, from, to, group_id, protocol, epoch, index, .. } = header;
        check(&self.node, cluster_id, from, to, &protocol)?;
        let busy = |_| (RefusalCode::RefusalOverloaded, "another snapshot is being received".to_owned());
        let _permit = self.receiving.try_acquire().map_err(busy)?;
        let received = snapshot::receive(stream).await.map_err(damaged)?;
        let (done, installed) = oneshot::channel();
        let mark = (Index(index), Epoch(epoch));
        let install = Message::Install { group: GroupId(group_id), mark, chunks: received.chunks, done };
        let failed = || (RefusalCode::RefusalFailed, "the member could not install it".to_owned());
        if !self.node.tell(install) {
            return Err(failed());
        }
        installed.await.map_err(|_| failed())?;
        tracing::info!(index, bytes = received.bytes, "installed a snapshot");
        Ok(received.bytes)
    }
}

/// Whether a peer that says this of itself and of this member is one.
pub(super) fn check(node: &Node, cluster: u64, from: u64, to: u64, protocol: &str) -> Result<(), Refusal> {
    if cluster != node.cluster_id {
        let text = format!("this is cluster {:x}, not {cluster:x}", node.cluster_id);
        return Err((RefusalCode::RefusalCluster, text));
    }
    if to != node.id.0 {
        return Err((RefusalCode::RefusalTarget, format!("this is member {:x}, not {to:x}", node.id.0)));
    }
    if protocol != node.config.protocol.to_string() {
        let text = format!("this cluster runs {}, not {protocol}", node.config.protocol);
        return Err((RefusalCode::RefusalProtocol, text));
    }
    if node.shows.membership.borrow().removed.contains(&MemberId(from)) {
        return Err((RefusalCode::RefusalRemoved, format!("member {from:x} was removed from the cluster")));
    }
    Ok(())
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotAck>, Status> {
        let ack = match self.take_snapshot(&mut request.into_inner()).await {
            Ok(received_bytes) => SnapshotAck { received_bytes, ..SnapshotAck::default() },
            Err((code, refusal)) => SnapshotAck { received_bytes: 0, refusal, refusal_code: code as u32 },
        };
        Ok(Response::new(ack))
    }

    async fn forward(&self, _: Request<ForwardRequest>) -> Result<Response<ForwardReply>, Status> {
        Err(crate::api_error::not_there_yet("Forward as a request (proposals travel in the stream)"))
    }

    async fn read_index(&self, _: Request<ReadIndexRequest>) -> Result<Response<ReadIndexReply>, Status> {
        Err(crate::api_error::not_there_yet("ReadIndex as a request (reads travel in the stream)"))
    }

    async fn members(&self, _: Request<MembersRequest>) -> Result<Response<MembersReply>, Status> {
        let node = &self.node;
        let membership = node.shows.membership.borrow().clone();
        let role = |role| match role {
            Role::Voter => member::Role::Voter,
            Role::Learner => member::Role::Learner,
            Role::Witness => member::Role::Witness,
        };
        let members = membership.members.into_values().map(|member| Member {
            id: member.id.0,
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            role: role(member.role) as i32,
            zone: member.zone,
            leader_priority: member.leader_priority,
        });
        Ok(Response::new(MembersReply {
            cluster_id: node.cluster_id,
            member_id: node.id.0,
            protocol: node.config.protocol.to_string(),
            feature_level: FEATURE_LEVEL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            members: members.collect(),
            removed: membership.removed.into_iter().map(|id| id.0).collect(),
            leader_id: node.shows.leadership.borrow().leader.map_or(0, |id| id.0),
        }))
    }
}
