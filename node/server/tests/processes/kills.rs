//! Real processes that are killed under load, again and again: every client's history must be linearizable, and no
//! acknowledged write lost. `KILLS` says how often for each protocol.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::request_op::Request;
use quorate_api::etcdserverpb::watch_client::WatchClient;
use quorate_api::etcdserverpb::watch_request::RequestUnion;
use quorate_api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};
use quorate_api::mvccpb;
use quorate_sim::check::linearizability;
use quorate_sim::check::witness::Witness;
use quorate_sim::history::{Moment, Operation, Outcome, Record};
use quorate_sim::random::Random;
use quorate_state::command::CommandKind;
use quorate_state::event::{Event, EventKind, KeyValue};
use quorate_state::request as state;
use quorate_state::response::{Body, RangeResponse, Response, TxnResponse};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};

use super::support::{STEP_TIMEOUT, leader, members};

/// Kills per protocol unless `KILLS` says otherwise.
const KILLS: u64 = 12;
const CLIENTS: u64 = 8;
const KEYS: u64 = 5;
/// After it an operation's outcome is unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Acknowledgements between two kills.
const BETWEEN: u64 = 150;
/// One kill in so many is of two members at once: there is no quorum until they are back.
const OF_TWO: u64 = 10;

/// What all clients share.
#[derive(Default)]
struct History {
    /// The order of what was asked and answered.
    moment: AtomicU64,
    acknowledged: AtomicU64,
    values: AtomicU64,
    records: Mutex<Vec<Record>>,
    stop: AtomicBool,
}

fn kv(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

fn key(number: u64) -> Bytes {
    format!("key-{number}").into()
}

fn put(key: &Bytes, value: &Bytes) -> state::Put {
    state::Put { key: key.clone(), value: value.clone(), ..state::Put::default() }
}

/// A put if the key was last changed in this revision.
fn swap(key: &Bytes, value: &Bytes, expected: i64) -> state::Txn {
    let compare = state::Compare {
        relation: state::Relation::Equal.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target: Some(state::Target::Mod(expected)),
    };
    let success = state::Operation { kind: Some(state::OperationKind::Put(put(key, value))) };
    state::Txn { compares: vec![compare], success: vec![success], failure: Vec::new() }
}

/// Asks for what the history says. A transaction is always a swap.
async fn perform(channel: Channel, operation: &Operation) -> Option<Outcome> {
    let mut client = KvClient::new(channel);
    match operation {
        Operation::Command(CommandKind::Put(state::Put { key, value, .. })) => {
            let request = PutRequest { key: key.clone(), value: value.clone(), ..Default::default() };
            let revision = client.put(request).await.ok()?.into_inner().header?.revision;
            Some(Outcome::Applied(Response { revision, body: Body::Put { prev_kv: None } }))
        }
        Operation::Command(CommandKind::Txn(txn)) => {
            let response = client.txn(swap_request(txn)).await.ok()?.into_inner();
            let revision = response.header?.revision;
            let put = Response { revision, body: Body::Put { prev_kv: None } };
            let responses = if response.succeeded { vec![put] } else { Vec::new() };
            let body = Body::Txn(TxnResponse { succeeded: response.succeeded, responses });
            Some(Outcome::Applied(Response { revision, body }))
        }
        Operation::Read { range, .. } => {
            let request = RangeRequest { key: range.key.clone(), ..Default::default() };
            let response = client.range(request).await.ok()?.into_inner();
            let (more, count) = (response.more, response.count);
            let kvs = response.kvs.into_iter().map(kv).collect();
            Some(Outcome::Read(response.header?.revision, RangeResponse { kvs, more, count }))
        }
        Operation::Command(_) | Operation::KeepAlive { .. } => panic!("no client asks for {operation:?}"),
    }
}

fn swap_request(txn: &state::Txn) -> TxnRequest {
    let Some(state::Compare { key, target: Some(state::Target::Mod(expected)), .. }) = txn.compares.first()
    else {
        panic!("not a swap: {txn:?}")
    };
    let Some(state::OperationKind::Put(put)) = &txn.success[0].kind else { panic!("not a swap: {txn:?}") };
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(*expected)),
        ..Default::default()
    };
    let put = PutRequest { key: put.key.clone(), value: put.value.clone(), ..Default::default() };
    let success = vec![RequestOp { request: Some(Request::RequestPut(put)) }];
    TxnRequest { compare: vec![compare], success, failure: Vec::new() }
}

async fn client(seed: u64, addresses: Vec<String>, history: Arc<History>) {
    let mut random = Random::new(seed);
    let mut known = [0_i64; KEYS as usize];
    let mut channel: Option<Channel> = None;
    while !history.stop.load(Ordering::Relaxed) {
        let Some(open) = channel.clone() else {
            let address = addresses[random.below(addresses.len() as u64) as usize].clone();
            let endpoint = Endpoint::from_shared(address).expect("an address");
            channel = endpoint.connect_timeout(REQUEST_TIMEOUT).timeout(REQUEST_TIMEOUT).connect().await.ok();
            continue;
        };
        let number = random.below(KEYS) as usize;
        let key = key(number as u64);
        let value: Bytes = history.values.fetch_add(1, Ordering::Relaxed).to_string().into();
        let operation = match random.below(4) {
            0 | 1 => Operation::Command(CommandKind::Put(put(&key, &value))),
            2 => Operation::Command(CommandKind::Txn(swap(&key, &value, known[number]))),
            _ => Operation::Read { range: state::Range { key, ..Default::default() }, serializable: false },
        };
        let asked = history.now();
        let outcome = perform(open, &operation).await;
        // What got no answer may take effect at any time from now on.
        let answered = if outcome.is_some() { history.now() } else { Moment::NEVER };
        match &outcome {
            Some(Outcome::Read(_, read)) => {
                known[number] = read.kvs.first().map_or(0, |kv| kv.mod_revision);
            }
            Some(_) => {}
            // Another member may serve.
            None => channel = None,
        }
        history.acknowledged.fetch_add(u64::from(outcome.is_some()), Ordering::Relaxed);
        let outcome = outcome.unwrap_or(Outcome::Unknown);
        history.records.lock().expect("never poisoned").push(Record { asked, answered, operation, outcome });
    }
}

impl History {
    fn now(&self) -> Moment {
        Moment { order: self.moment.fetch_add(1, Ordering::SeqCst), ms: 0 }
    }

    /// Waits until so many more operations succeeded. How long there was none.
    async fn wait_for(&self, more: u64) -> Duration {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + more;
        let (began, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
        let mut seen = self.acknowledged.load(Ordering::Relaxed);
        while seen < wanted {
            assert!(began.elapsed() < STEP_TIMEOUT, "{seen} of {wanted} operations succeeded");
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = self.acknowledged.load(Ordering::Relaxed);
            if now > seen {
                gap = gap.max(last.elapsed());
                (last, seen) = (Instant::now(), now);
            }
        }
        gap
    }
}

/// Every event from the first revision on.
async fn events(address: &str, revision: i64) -> Vec<Event> {
    let create = WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: 1,
        prev_kv: true,
        ..Default::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::once(create).chain(tokio_stream::pending());
    let mut client = WatchClient::connect(address.to_owned()).await.expect("a connection");
    let mut stream = client.watch(requests).await.expect("a watch").into_inner();
    let mut events: Vec<Event> = Vec::new();
    while events.last().map_or(1, |event| event.kv.mod_revision) < revision {
        let response = tokio::time::timeout(STEP_TIMEOUT, stream.message()).await.expect("in time");
        for event in response.expect("a sound stream").expect("no end").events {
            assert_eq!(event.r#type(), mvccpb::event::EventType::Put);
            let prev_kv = event.prev_kv.map(kv);
            let kv = kv(event.kv.expect("a key"));
            events.push(Event { kind: EventKind::Put, kv, prev_kv });
        }
    }
    events
}

/// Writes that were acknowledged, and of which nothing happened in the revision that their clients were told.
fn lost<'a>(records: &'a [Record], events: &[Event]) -> Vec<&'a Record> {
    let happened: BTreeSet<(i64, &Bytes, &Bytes)> =
        events.iter().map(|event| (event.kv.mod_revision, &event.kv.key, &event.kv.value)).collect();
    let written = |record: &&Record| match acknowledged(record) {
        Some((revision, put)) => !happened.contains(&(revision, &put.key, &put.value)),
        None => false,
    };
    records.iter().filter(written).collect()
}

/// The put that a client was told to have happened, and in which revision.
fn acknowledged(record: &Record) -> Option<(i64, &state::Put)> {
    let (Operation::Command(command), Outcome::Applied(response)) = (&record.operation, &record.outcome)
    else {
        return None;
    };
    let put = match (command, &response.body) {
        (CommandKind::Put(put), _) => put,
        (CommandKind::Txn(txn), Body::Txn(TxnResponse { succeeded: true, .. })) => {
            match &txn.success.first()?.kind {
                Some(state::OperationKind::Put(put)) => put,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some((response.revision, put))
}

async fn kill_under_load(protocol: &str) {
    let kills = std::env::var("KILLS").map_or(KILLS, |kills| kills.parse().expect("KILLS is a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut members = members(folder.path(), 3, protocol);
    leader(&members, None).await;
    let history = Arc::new(History::default());
    let addresses: Vec<String> = members.iter().map(|member| member.client.clone()).collect();
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(client(seed, addresses.clone(), Arc::clone(&history)));
    }
    let (mut gaps, mut of_two) = (Vec::new(), Vec::new());
    for kill in 0..kills {
        history.wait_for(BETWEEN).await;
        // Leaders matter most; now and then it is anybody.
        let victim = if kill % 3 == 2 { (kill / 3) as usize % 3 } else { leader(&members, None).await };
        members[victim].kill();
        if kill % OF_TWO == OF_TWO - 1 {
            let other = (victim + 1 + (kill / OF_TWO) as usize % 2) % 3;
            members[other].kill();
            members[victim].start();
            members[other].start();
            of_two.push(history.wait_for(BETWEEN).await.as_millis());
            continue;
        }
        gaps.push(history.wait_for(BETWEEN).await.as_millis());
        members[victim].start();
    }
    history.wait_for(BETWEEN).await;
    history.stop.store(true, Ordering::Relaxed);
    clients.join_all().await;
    let records = std::mem::take(&mut *history.records.lock().expect("never poisoned"));
    let range = RangeRequest { key: key(0), ..Default::default() };
    // The last victim may still be starting.
    let address = &addresses[leader(&members, None).await];
    let mut kv = KvClient::connect(address.clone()).await.expect("a connection");
    let revision = kv.range(range).await.expect("a read").into_inner().header.expect("a header").revision;
    let events = events(address, revision).await;
    let (count, lost) = (events.len(), lost(&records, &events));
    println!(
        "{protocol}: {kills} kills, {} operations, {count} events, {} acknowledged writes lost",
        records.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "{protocol}: acknowledged writes are gone: {lost:?}");
    linearizability::check(&records, &Witness::of(events))
        .unwrap_or_else(|error| panic!("{protocol}: {error}"));
    gaps.sort_unstable();
    println!(
        "{protocol}: gaps between acknowledgements, around a kill: median {} ms, longest {} ms",
        gaps[gaps.len() / 2],
        gaps[gaps.len() - 1]
    );
    assert_eq!(of_two.len() as u64, kills / OF_TWO, "kills of two members");
    println!("{protocol}: the same around kills of two members at once, in ms: {of_two:?}");
}

#[test]
fn an_acknowledged_write_without_its_event_is_counted_as_lost() {
    let (key, value) = (key(1), Bytes::from_static(b"7"));
    let record = |kind, body| Record {
        asked: Moment { order: 1, ms: 0 },
        answered: Moment { order: 2, ms: 0 },
        operation: Operation::Command(kind),
        outcome: Outcome::Applied(Response { revision: 5, body }),
    };
    let written = record(CommandKind::Put(put(&key, &value)), Body::Put { prev_kv: None });
    let not_swapped = TxnResponse { succeeded: false, responses: Vec::new() };
    let refused = record(CommandKind::Txn(swap(&key, &value, 3)), Body::Txn(not_swapped));
    let swapped = TxnResponse { succeeded: true, responses: Vec::new() };
    let swapped = record(CommandKind::Txn(swap(&key, &value, 3)), Body::Txn(swapped));
    let at = |mod_revision| Event {
        kind: EventKind::Put,
        kv: KeyValue { key: key.clone(), value: value.clone(), mod_revision, ..KeyValue::default() },
        prev_kv: None,
    };
    let records = [written, refused, swapped];
    assert_eq!(lost(&records, &[at(5)]).len(), 0);
    assert_eq!(lost(&records, &[at(4)]).len(), 2);
    assert_eq!(lost(&records, &[]).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_loses_nothing_when_members_are_killed_under_load() {
    kill_under_load("Raft").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn multi_paxos_loses_nothing_when_members_are_killed_under_load() {
    kill_under_load("MultiPaxos").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zab_loses_nothing_when_members_are_killed_under_load() {
    kill_under_load("Zab").await;
}
