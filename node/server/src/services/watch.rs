//! Watch: one task for each stream, with a cursor for each of its watches.
//!
//! Events come from the shared ring; a cursor that fell behind it reads the history in the backend. A client that reads
//! slowly holds up its own stream only, and costs one cursor for each watch, not a queue of events.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use quorate_api::etcdserverpb::watch_create_request::FilterType;
use quorate_api::etcdserverpb::watch_request::RequestUnion;
use quorate_api::etcdserverpb::watch_server::Watch;
use quorate_api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use quorate_api::mvccpb;
use quorate_state::error::{ApplyError, ReadError};
use quorate_state::event::{Event, EventKind};

use super::convert;
use crate::api_error;
use crate::node::Node;
use crate::scans::Ended;

/// Responses that the connection has not taken, at most; then this stream's cursors wait.
const RESPONSES_MAX: usize = 16;
/// Revisions read at a time.
const REVISIONS_MAX: i64 = 512;
/// Watches on one stream, at most.
const WATCHES_MAX: usize = 100_000;

/// The events of whole revisions, and the last revision that they are complete up to.
type Revisions = (Vec<Arc<Vec<Event>>>, i64);
/// etcd's id of no watch.
const NO_WATCH: i64 = -1;

/// The service.
#[derive(Debug)]
pub(super) struct WatchService(pub(super) Arc<Node>);

/// The client is gone.
struct Gone;

struct Cursor {
    key: Bytes,
    range_end: Bytes,
    /// The first revision that was not looked at yet.
    next: i64,
    prev_kv: bool,
    no_put: bool,
    no_delete: bool,
    fragment: bool,
    progress_notify: bool,
    /// Whether something was sent since the last progress.
    active: bool,
}

impl Cursor {
    fn wants(&self, event: &Event) -> bool {
        let key = &event.kv.key;
        let inside = match self.range_end.as_ref() {
            b"" => *key == self.key,
            b"\0" => *key >= self.key,
            end => *key >= self.key && key.as_ref() < end,
        };
        let filtered = match event.kind {
            EventKind::Put => self.no_put,
            EventKind::Delete => self.no_delete,
        };
        inside && !filtered
    }
}

struct Stream {
    node: Arc<Node>,
    cursors: BTreeMap<i64, Cursor>,
    next_id: i64,
    responses: mpsc::Sender<Result<WatchResponse, Status>>,
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if request.metadata().contains_key("hasleader") && !self.0.has_leader() {
            return Err(api_error::NO_LEADER.into());
        }
        let (responses, receiver) = mpsc::channel(RESPONSES_MAX);
        let stream = Stream { node: Arc::clone(&self.0), cursors: BTreeMap::new(), next_id: 0, responses };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Stream {
    async fn run(mut self, mut requests: Streaming<WatchRequest>) {
        let mut published = self.node.shows.published.subscribe();
        let mut stopping = self.node.stopping.subscribe();
        let mut progress = tokio::time::interval(
            self.node.config.progress_interval.max(std::time::Duration::from_millis(100)),
        );
        progress.reset();
        loop {
            let done = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request).await,
                    Ok(None) | Err(_) => return,
                },
                changed = published.changed() => match changed {
                    Ok(()) => { published.mark_unchanged(); self.catch_up().await }
                    Err(_) => return,
                },
                _ = progress.tick() => self.progress_notify().await,
                () = self.responses.closed() => return,
                () = crate::node::ended(&mut stopping) => {
                    // The client may have gone; then nobody waits for this.
                    let _ = self.responses.send(Err(api_error::STOPPED.into())).await;
                    return;
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn send(&self, response: WatchResponse) -> Result<(), Gone> {
        self.responses.send(Ok(response)).await.map_err(|_| Gone)
    }

    fn response(&self, watch_id: i64) -> WatchResponse {
        WatchResponse { header: self.node.header(self.node.revision()), watch_id, ..Default::default() }
    }

    async fn request(&mut self, request: WatchRequest) -> Result<(), Gone> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => {
                if self.cursors.remove(&cancel.watch_id).is_some() {
                    let response = self.response(cancel.watch_id);
                    self.send(WatchResponse { canceled: true, ..response }).await?;
                }
                Ok(())
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                // Everything up to the header's revision must have been sent before.
                let revision = self.node.revision();
                self.catch_up().await?;
                let header = self.node.header(revision);
                self.send(WatchResponse { header, watch_id: NO_WATCH, ..Default::default() }).await
            }
            None => Ok(()),
        }
    }

    async fn refuse(&self, why: &str) -> Result<(), Gone> {
        let response = self.response(NO_WATCH);
        self.send(WatchResponse { created: true, canceled: true, cancel_reason: why.to_owned(), ..response })
            .await
    }

    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Gone> {
        let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key.clone() };
        let range_end = request.range_end.clone();
        if !range_end.is_empty() && range_end.as_ref() != b"\0" && key >= range_end {
            return self.refuse("mvcc: watcher range is empty").await;
        }
        if self.cursors.len() >= WATCHES_MAX {
            return self.refuse("quorate: too many watches on one stream: open another").await;
        }
        let id = match request.watch_id {
            0 => {
                while self.cursors.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
            given if self.cursors.contains_key(&given) => {
                return self.refuse("mvcc: duplicate watch ID provided on the WatchStream").await;
            }
            given => given,
        };
        let revision = self.node.revision();
        let filters: Vec<FilterType> = request.filters().collect();
        let cursor = Cursor {
            key,
            range_end,
            next: if request.start_revision > 0 { request.start_revision } else { revision + 1 },
            prev_kv: request.prev_kv,
            no_put: filters.contains(&FilterType::Noput),
            no_delete: filters.contains(&FilterType::Nodelete),
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            active: true,
        };
        self.cursors.insert(id, cursor);
        let header = self.node.header(revision);
        self.send(WatchResponse { header, watch_id: id, created: true, ..Default::default() }).await?;
        self.catch_up().await
    }

    async fn progress_notify(&mut self) -> Result<(), Gone> {
        let revision = self.node.revision();
        self.catch_up().await?;
        let idle: Vec<i64> = self
            .cursors
            .iter()
            .filter(|(_, cursor)| cursor.progress_notify && !cursor.active)
            .map(|(id, _)| *id)
            .collect();
        for cursor in self.cursors.values_mut() {
            cursor.active = false;
        }
        for watch_id in idle {
            let header = self.node.header(revision);
            self.send(WatchResponse { header, watch_id, ..Default::default() }).await?;
        }
        Ok(())
    }

    /// Brings every cursor to the newest revision.
    async fn catch_up(&mut self) -> Result<(), Gone> {
        loop {
            let newest = self.node.revision();
            let Some(from) =
                self.cursors.values().map(|cursor| cursor.next).min().filter(|next| *next <= newest)
            else {
                return Ok(());
            };
            let to = newest.min(from + REVISIONS_MAX - 1);
            let error = match self.events(from, to).await {
                Ok(Ok((revisions, last))) => {
                    self.deliver(&revisions, from, last).await?;
                    continue;
                }
                Ok(Err(ReadError::Refused(ApplyError::Compacted))) => {
                    self.cancel_compacted().await?;
                    continue;
                }
                Ok(Err(error)) => api_error::read(&error),
                Err(Ended) => api_error::STOPPED.into(),
            };
            // The client resumes elsewhere from what it has seen.
            let _ = self.responses.send(Err(error)).await;
            return Err(Gone);
        }
    }

    async fn events(&self, from: i64, to: i64) -> Result<Result<Revisions, ReadError>, Ended> {
        let most = usize::try_from(REVISIONS_MAX).unwrap_or(1);
        if let Some(found) = self.node.ring.read(from, to, most) {
            return Ok(Ok(found));
        }
        let reader = self.node.local_reader().ok_or(Ended)?;
        let events = self.node.scans.run(move || reader.events(from, to)).await?;
        Ok(events.map(|events| (vec![Arc::new(events)], to)))
    }

    async fn deliver(&mut self, revisions: &[Arc<Vec<Event>>], from: i64, last: i64) -> Result<(), Gone> {
        let mut ready = Vec::new();
        for (id, cursor) in &mut self.cursors {
            if cursor.next > last || cursor.next < from {
                continue;
            }
            let events: Vec<mvccpb::Event> = revisions
                .iter()
                .flat_map(|events| events.iter())
                .filter(|event| event.kv.mod_revision >= cursor.next && cursor.wants(event))
                .map(|event| convert::event(event, cursor.prev_kv))
                .collect();
            cursor.next = last + 1;
            if !events.is_empty() {
                cursor.active = true;
                ready.push((*id, cursor.fragment, events));
            }
        }
        for (watch_id, fragment, events) in ready {
            let limit = if fragment { self.node.config.request_bytes_max } else { usize::MAX };
            let mut parts = split(events, limit).into_iter().peekable();
            while let Some(events) = parts.next() {
                let (header, fragment) = (self.node.header(last), parts.peek().is_some());
                self.send(WatchResponse { header, watch_id, events, fragment, ..Default::default() }).await?;
            }
        }
        Ok(())
    }

    async fn cancel_compacted(&mut self) -> Result<(), Gone> {
        let compacted = self.node.local_reader().map_or(0, |reader| reader.compacted());
        let lost: Vec<i64> =
            self.cursors.iter().filter(|(_, cursor)| cursor.next <= compacted).map(|(id, _)| *id).collect();
        for watch_id in lost {
            self.cursors.remove(&watch_id);
            let response = self.response(watch_id);
            let cancel_reason = api_error::COMPACTED.text.to_owned();
            self.send(WatchResponse {
                canceled: true,
                compact_revision: compacted,
                cancel_reason,
                ..response
            })
            .await?;
        }
        Ok(())
    }
}

/// Parts of about `limit_bytes`, none empty.
fn split(events: Vec<mvccpb::Event>, limit_bytes: usize) -> Vec<Vec<mvccpb::Event>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for event in events {
        let size = event.encoded_len();
        if !part.is_empty() && bytes + size > limit_bytes {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.push(event);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_every_event_once() {
        let event = |size| mvccpb::Event {
            kv: Some(mvccpb::KeyValue { value: vec![0; size].into(), ..Default::default() }),
            ..Default::default()
        };
        let parts = split(vec![event(10), event(100), event(10), event(10)], 50);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2]);
        assert!(split(Vec::new(), 1).is_empty());
    }
}
