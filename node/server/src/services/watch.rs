//! Watch: one task for each stream of watches.
//!
//! What each watch hears is [`Stream`]'s part; here its requests come in, the events that it wants are read, and its answers go out.
//! A client that reads slowly holds up its own stream only, and costs one cursor for each watch, not a queue of events.

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
use quorate_state::event::Event;
use quorate_state::watch::stream::{Created, Delivery, Limits, Step, Stream, WatchError, WatchId};
use quorate_state::watch::wanted::Wanted;

use super::convert;
use crate::api_error;
use crate::node::Node;
use crate::scans::Ended;

/// Responses that the connection has not taken, at most; then this stream's cursors wait.
const RESPONSES_MAX: usize = 16;
/// A watch costs a cursor; a read holds up its stream's requests.
const LIMITS: Limits = Limits { watches_max: 100_000, revisions_max: 512 };

/// Events by revision, or all in one.
type Revisions = Vec<Arc<Vec<Event>>>;
/// etcd's id of no watch.
const NO_WATCH: WatchId = WatchId(-1);

/// The service.
#[derive(Debug)]
pub(super) struct WatchService(pub(super) Arc<Node>);

/// The client is gone.
struct Gone;

/// One client's stream.
struct Connection {
    node: Arc<Node>,
    stream: Stream,
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
        let connection = Connection { node: Arc::clone(&self.0), stream: Stream::new(LIMITS), responses };
        tokio::spawn(connection.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Connection {
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
                    Ok(()) => { published.mark_unchanged(); self.go_on().await.map(|_| ()) }
                    Err(_) => return,
                },
                _ = progress.tick() => self.tell_progress().await,
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

    fn response(&self, watch: WatchId, revision: i64) -> WatchResponse {
        WatchResponse { header: self.node.header(revision), watch_id: watch.0, ..Default::default() }
    }

    async fn request(&mut self, request: WatchRequest) -> Result<(), Gone> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await?,
            Some(RequestUnion::CancelRequest(cancel)) => {
                let id = WatchId(cancel.watch_id);
                if self.stream.cancel(id) {
                    let response = self.response(id, self.node.revision());
                    self.send(WatchResponse { canceled: true, ..response }).await?;
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => self.stream.ask_progress(self.node.revision()),
            None => {}
        }
        self.go_on().await.map(|_| ())
    }

    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Gone> {
        let revision = self.node.revision();
        let id = Some(request.watch_id).filter(|id| *id != 0).map(WatchId);
        let from = if request.start_revision > 0 { request.start_revision } else { revision + 1 };
        let compacted = self.compacted();
        match self.stream.create(id, wanted(request), from, compacted) {
            Ok(Created { id, ended }) => {
                self.send(WatchResponse { created: true, ..self.response(id, revision) }).await?;
                if ended {
                    self.tell_compacted(id, compacted).await?;
                }
                Ok(())
            }
            Err(error) => {
                let refused = WatchResponse {
                    created: true,
                    canceled: true,
                    cancel_reason: reason(error).to_owned(),
                    ..self.response(NO_WATCH, revision)
                };
                self.send(refused).await
            }
        }
    }

    async fn tell_progress(&mut self) -> Result<(), Gone> {
        let revision = self.go_on().await?;
        for id in self.stream.tick(revision) {
            self.send(self.response(id, revision)).await?;
        }
        Ok(())
    }

    /// Tells what there is to tell up to the revision that is newest now; gives that.
    async fn go_on(&mut self) -> Result<i64, Gone> {
        let newest = self.node.revision();
        loop {
            let (from, to) = match self.stream.step(newest) {
                Step::Read { from, to } => (from, to),
                Step::Progress { revision } => {
                    self.send(self.response(NO_WATCH, revision)).await?;
                    continue;
                }
                Step::Rest => return Ok(newest),
            };
            let error = match self.events(from, to).await {
                Ok(Ok(revisions)) => {
                    self.deliver(&revisions, from, to).await?;
                    continue;
                }
                Ok(Err(ReadError::Refused(ApplyError::Compacted))) => {
                    self.cancel_compacted(from).await?;
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
        let recent = self.node.ring().read(from, to);
        if let Some(recent) = recent {
            return Ok(Ok(recent));
        }
        let reader = self.node.local_reader().ok_or(Ended)?;
        let events = self.node.scans.run(move || reader.events(from, to)).await?;
        Ok(events.map(|events| vec![Arc::new(events)]))
    }

    async fn deliver(&mut self, revisions: &[Arc<Vec<Event>>], from: i64, to: i64) -> Result<(), Gone> {
        for Delivery { watch, prev_kv, fragment, events } in self.stream.deliver(revisions, from, to) {
            let events = events.into_iter().map(|event| convert::event(event, prev_kv)).collect();
            let limit = if fragment { self.node.config.request_bytes_max } else { usize::MAX };
            let mut parts = split(events, limit).into_iter().peekable();
            while let Some(events) = parts.next() {
                let fragment = parts.peek().is_some();
                self.send(WatchResponse { events, fragment, ..self.response(watch, to) }).await?;
            }
        }
        Ok(())
    }

    fn compacted(&self) -> i64 {
        self.node.local_reader().map_or(0, |reader| reader.compacted())
    }

    async fn cancel_compacted(&mut self, from: i64) -> Result<(), Gone> {
        let compacted = self.compacted();
        for id in self.stream.compacted(from) {
            self.tell_compacted(id, compacted).await?;
        }
        Ok(())
    }

    /// The client may begin anew at the compacted revision.
    async fn tell_compacted(&self, id: WatchId, compacted: i64) -> Result<(), Gone> {
        self.send(WatchResponse {
            canceled: true,
            compact_revision: compacted,
            cancel_reason: api_error::COMPACTED.text.to_owned(),
            ..self.response(id, self.node.revision())
        })
        .await
    }
}

/// No key is the first one, as in etcd.
fn wanted(request: WatchCreateRequest) -> Wanted {
    let filters: Vec<FilterType> = request.filters().collect();
    Wanted {
        no_put: filters.contains(&FilterType::Noput),
        no_delete: filters.contains(&FilterType::Nodelete),
        prev_kv: request.prev_kv,
        fragment: request.fragment,
        progress: request.progress_notify,
        key: if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key },
        range_end: request.range_end,
    }
}

/// etcd's words where it has some.
fn reason(error: WatchError) -> &'static str {
    match error {
        WatchError::EmptyRange => "mvcc: watcher range is empty",
        WatchError::TooMany => "quorate: too many watches on one stream: open another",
        WatchError::Duplicate(_) => "mvcc: duplicate watch ID provided on the WatchStream",
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
