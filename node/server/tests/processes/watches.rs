//! Real processes on loopback: what one stream tells its watches, and in what order.

use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::watch_client::WatchClient;
use quorate_api::etcdserverpb::watch_request::RequestUnion;
use quorate_api::etcdserverpb::{
    CompactionRequest, PutRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::support::{Member, STEP_TIMEOUT, members_with, put};

/// Progress comes every 100 ms: a minute of it.
const SKIPPED_MAX: u32 = 600;

/// A stream of watches, and writes beside it.
struct Client {
    kv: KvClient<Channel>,
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Client {
    async fn connect(member: &Member) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let mut watch = WatchClient::connect(member.client.clone()).await.expect("a connection");
        let responses = watch.watch(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
        let kv = KvClient::connect(member.client.clone()).await.expect("a connection");
        Self { kv, requests, responses }
    }

    async fn ask(&self, request: RequestUnion) {
        self.requests.send(WatchRequest { request_union: Some(request) }).await.expect("the stream is open");
    }

    /// A watch of all keys that wants to hear of progress.
    async fn watch(&self, watch_id: i64, start_revision: i64) {
        let create = WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            watch_id,
            start_revision,
            progress_notify: true,
            ..Default::default()
        };
        self.ask(RequestUnion::CreateRequest(create)).await;
    }

    async fn next(&mut self) -> WatchResponse {
        let response = tokio::time::timeout(STEP_TIMEOUT, self.responses.message()).await;
        response.expect("an answer in time").expect("a sound stream").expect("no end")
    }

    /// The next answer but for progress of single watches, which may come in between and says `heard`.
    async fn answer(&mut self, heard: i64) -> WatchResponse {
        for _ in 0..SKIPPED_MAX {
            let response = self.next().await;
            let is_progress = response.events.is_empty() && !response.created && !response.canceled;
            if !is_progress || response.watch_id < 0 {
                return response;
            }
            assert_eq!(revision(&response), heard, "{response:?}");
        }
        panic!("{SKIPPED_MAX} notifications, and no answer");
    }

    /// Gives the revision.
    async fn put(&mut self, key: &str) -> i64 {
        let request = PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
        let response = self.kv.put(request).await.expect("a put").into_inner();
        response.header.expect("a header").revision
    }
}

fn revision(response: &WatchResponse) -> i64 {
    response.header.as_ref().expect("a header").revision
}

/// The revisions of its events.
fn events(response: &WatchResponse) -> Vec<i64> {
    response.events.iter().map(|event| event.kv.as_ref().expect("a key").mod_revision).collect()
}

async fn started(folder: &tempfile::TempDir) -> Vec<Member> {
    let often = |_| vec!["--watch-progress-notify-interval=100ms".to_owned()];
    let members = members_with(folder.path(), 1, "Raft", often);
    put(&members[0], "a").await;
    members
}

/// etcd #15220 and #20221: progress that runs ahead of events, or is told to a watch that begins later, makes a client go on at the
/// wrong place when it comes to another member.
#[tokio::test(flavor = "multi_thread")]
async fn progress_is_what_a_watch_has_heard() {
    let folder = tempfile::tempdir().expect("a folder");
    let members = started(&folder).await;
    let mut client = Client::connect(&members[0]).await;
    let now = client.put("a").await;
    client.watch(1, now + 1).await;
    client.watch(2, now + 3).await;
    for id in [1, 2] {
        let response = client.answer(now).await;
        assert!(response.created && response.watch_id == id, "{response:?}");
    }
    client.ask(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    // Both would have been told by now, and the stream.
    for _ in 0..3 {
        let response = client.next().await;
        assert_eq!(
            (response.watch_id, revision(&response)),
            (1, now),
            "the other begins later: {response:?}"
        );
    }
    for _ in 0..3 {
        client.put("a").await;
    }
    let (mut heard, mut told) = ([now, now + 2], [now, now + 2]);
    for _ in 0..SKIPPED_MAX {
        let response = client.next().await;
        let watches = if response.watch_id == -1 { vec![0, 1] } else { vec![response.watch_id as usize - 1] };
        for at in watches {
            for event in events(&response) {
                assert_eq!(event, heard[at] + 1, "{response:?}");
                heard[at] = event;
            }
            assert_eq!(revision(&response), heard[at], "{response:?}");
            told[at] = if response.events.is_empty() { heard[at] } else { told[at] };
        }
        if told == [now + 3, now + 3] {
            return;
        }
    }
    panic!("{told:?} after {SKIPPED_MAX} answers, of {}", now + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_for_each_of_its_watches() {
    let folder = tempfile::tempdir().expect("a folder");
    let members = started(&folder).await;
    let mut client = Client::connect(&members[0]).await;
    let mut newest = 0;
    for _ in 0..4 {
        newest = client.put("a").await;
    }
    let compaction = CompactionRequest { revision: newest - 1, physical: true };
    client.kv.compact(compaction).await.expect("a compaction");

    client.watch(7, newest).await;
    assert!(client.answer(newest).await.created);
    let response = client.answer(newest).await;
    assert_eq!((response.watch_id, events(&response)), (7, vec![newest]));
    client.watch(7, newest).await;
    let response = client.answer(newest).await;
    assert!(response.created && response.canceled, "{response:?}");
    assert!(response.cancel_reason.contains("duplicate watch ID"), "{response:?}");
    client.watch(6, newest - 1).await;
    assert!(client.answer(newest).await.created, "the compacted revision itself is there");
    let response = client.answer(newest).await;
    assert_eq!((response.watch_id, events(&response)), (6, vec![newest - 1, newest]));
    client.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 6 })).await;
    assert!(client.answer(newest).await.canceled);
    client.watch(8, 2).await;
    assert!(client.answer(newest).await.created);
    let response = client.answer(newest).await;
    assert!(response.canceled && response.watch_id == 8, "{response:?}");
    assert_eq!(response.compact_revision, newest - 1);
    client.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 })).await;
    let response = client.answer(newest).await;
    assert!(response.canceled && response.watch_id == 7, "{response:?}");
    client.ask(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    let response = client.answer(newest).await;
    assert_eq!((response.watch_id, revision(&response)), (-1, newest), "nobody is behind: {response:?}");
}
