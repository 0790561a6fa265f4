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
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when it is dropped.
struct SnapshotTask(JoinHandle<()>);

impl Drop for SnapshotTask {
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
    let mut snapshots: BTreeMap<MemberId, SnapshotTask> = BTreeMap::new();
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
                    snapshots.insert(to, SnapshotTask(task));
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
            let task = tokio::spawn(sender::run(Arc::clone(node), tls.cloned(), id, urls.clone(), messages));
            Peer { urls, queue, task }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::flags::Values;
    use quorate_consensus::membership::{Member, Role};
    use quorate_storage::backend::memory::MemoryBackend;

    #[tokio::test]
    async fn members_known_before_it_starts_are_dialled() {
        let peer = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
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
        let (_outgoing, messages) = mpsc::channel(1);
        let run = tokio::spawn(run(Arc::clone(&node), None, messages));
        let dialled = tokio::time::timeout(std::time::Duration::from_secs(60), peer.accept()).await;
        assert!(dialled.is_ok(), "nobody dialled the peer");
        run.abort();
    }
}
