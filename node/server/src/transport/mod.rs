//! Between members: one stream of messages in each direction, and streams of snapshots.
//!
//! Messages may be lost; nothing is sent twice. A slow or absent peer costs a bounded queue: at its limit the newest
//! messages are dropped, since protocols send anew what was not acknowledged.

pub mod dial;
pub mod receiver;
mod sender;
pub mod service;
mod snapshot;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use quorate_api::peer::GroupMessage;
use quorate_consensus::id::MemberId;
use quorate_consensus::membership::Membership;
use quorate_replica::event::Event;

use crate::driver::{Message, Outgoing};
use crate::metrics::METRICS;
use crate::node::Node;
use crate::tls::Tls;

/// Messages waiting for one peer, at most.
const PEER_QUEUE_MAX: usize = 4_096;
/// The largest frame between members: a batch may hold one entry of the largest request's size, and more.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// What this version understands.
pub const FEATURE_LEVEL: u32 = quorate_state::machine::LEVEL;

struct Peer {
    urls: Vec<String>,
    queue: mpsc::Sender<GroupMessage>,
    _sender: Task,
}

/// Ends when it is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes what the driver sends to the peers of the membership in force. Ends with the driver.
pub async fn run(node: Arc<Node>, tls: Option<Arc<Tls>>, mut outgoing: mpsc::Receiver<Outgoing>) {
    let mut membership = node.shows.membership.subscribe();
    // The driver may have told it before this task began to look.
    membership.mark_changed();
    let mut peers: BTreeMap<MemberId, Peer> = BTreeMap::new();
    // One for each receiver: the protocol waits for the newest, and one that it does not wait for any more ends.
    let mut snapshots: BTreeMap<MemberId, Task> = BTreeMap::new();
    loop {
        tokio::select! {
            changed = membership.changed() => {
                if changed.is_err() {
                    return;
                }
                let present = membership.borrow_and_update().clone();
                follow(&node, tls.as_ref(), &mut peers, &present);
            }
            next = outgoing.recv() => match next {
                None => return,
                Some(Outgoing::Message { group, to, payload }) => {
                    let message = GroupMessage { group_id: group.0, payload };
                    let sent = peers.get(&to).is_some_and(|peer| peer.queue.try_send(message).is_ok());
                    if !sent {
                        METRICS.peer_send_failures.with_label_values(&[&format!("{:x}", to.0)]).inc();
                    }
                }
                Some(Outgoing::Snapshot { group, to, snapshot }) => {
                    let urls = peers.get(&to).map(|peer| peer.urls.clone()).unwrap_or_default();
                    let (node, tls) = (Arc::clone(&node), tls.clone());
                    let task = tokio::spawn(async move {
                        let (index, sent) = (snapshot.index.0, snapshot::send(&node, tls, &urls, group, to, *snapshot).await);
                        match &sent {
                            Ok(bytes) => tracing::info!(to = to.0, index, bytes, "sent a snapshot"),
                            Err(error) => tracing::warn!(to = to.0, index, error, "a snapshot was not taken"),
                        }
                        node.deliver(Message::Event(group, Event::SnapshotSent { to, ok: sent.is_ok() })).await;
                    });
                    snapshots.retain(|_, task| !task.0.is_finished());
                    snapshots.insert(to, Task(task));
                }
            }
        }
    }
}

fn follow(
    node: &Arc<Node>,
    tls: Option<&Arc<Tls>>,
    peers: &mut BTreeMap<MemberId, Peer>,
    present: &Membership,
) {
    let wanted: BTreeMap<MemberId, Vec<String>> = present
        .receivers()
        .into_iter()
        .filter(|&id| id != node.id)
        .filter_map(|id| Some((id, present.member(id)?.peer_urls.clone())))
        .collect();
    peers.retain(|id, peer| wanted.get(id) == Some(&peer.urls));
    for (id, urls) in wanted {
        peers.entry(id).or_insert_with(|| {
            let (queue, messages) = mpsc::channel(PEER_QUEUE_MAX);
            let sender =
                tokio::spawn(sender::run(Arc::clone(node), tls.cloned(), id, urls.clone(), messages));
            Peer { urls, queue, _sender: Task(sender) }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::flags::Values;
    use quorate_consensus::id::{Epoch, Index};
    use quorate_consensus::membership::{Member, Role};
    use quorate_replica::event::GroupId;
    use quorate_replica::snapshot::Snapshot;
    use quorate_storage::backend::memory::MemoryBackend;
    use quorate_storage::backend::{Backend as _, Table};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    /// Longer than a busy machine takes.
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

    /// A node with one peer, which listens there.
    fn node(peer: &TcpListener) -> Arc<Node> {
        let url = format!("http://{}", peer.local_addr().expect("an address"));
        let values = Values::read(std::iter::empty(), |_| None).expect("the defaults");
        let config = Config::from_values(&values).expect("the defaults");
        let node = Node::new(config, 1, MemberId(1), Arc::new(MemoryBackend::default())).unwrap();
        let member = |id| Member {
            id,
            name: String::new(),
            peer_urls: vec![url.clone()],
            client_urls: Vec::new(),
            role: Role::Voter,
            zone: String::new(),
            leader_priority: 0,
        };
        let members = [MemberId(1), MemberId(2)].map(|id| (id, member(id)));
        let membership = Membership { members: members.into(), ..Membership::default() };
        node.shows.membership.send_replace(membership);
        node
    }

    #[tokio::test]
    async fn members_known_before_it_starts_are_dialled() {
        let peer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (_outgoing, messages) = mpsc::channel(1);
        let run = tokio::spawn(run(node(&peer), None, messages));
        let dialled = tokio::time::timeout(TIMEOUT, peer.accept()).await;
        assert!(dialled.is_ok(), "nobody dialled the peer");
        run.abort();
    }

    #[tokio::test]
    async fn a_second_snapshot_ends_the_first_ones_stream() {
        let peer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (outgoing, messages) = mpsc::channel(1);
        let run = tokio::spawn(run(node(&peer), None, messages));
        let (sender, _) = peer.accept().await.expect("the stream of messages");
        let mut streams = Vec::new();
        for _ in 0..2 {
            let view = MemoryBackend::default().view();
            let snapshot = Snapshot::new(Index(1), Epoch(1), &Table::ALL, view);
            let snapshot =
                Outgoing::Snapshot { group: GroupId(1), to: MemberId(2), snapshot: Box::new(snapshot) };
            outgoing.send(snapshot).await.expect("the transport runs");
            streams.push(peer.accept().await.expect("a stream").0);
        }
        let mut said = Vec::new();
        // One to a peer as silent as this ends by itself, after twice that.
        let ended = tokio::time::timeout(dial::KEEP_ALIVE, streams[0].read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "two snapshots are on their way");
        run.abort();
        drop(sender);
    }
}
