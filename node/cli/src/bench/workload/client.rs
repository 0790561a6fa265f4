//! One client of a load of calls: it takes a beginning from the schedule, performs an operation, and records how it went.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use quorate_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_api::etcdserverpb::request_op::Request;
use quorate_api::etcdserverpb::response_op::Response;
use quorate_api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};

use super::mix::{Mix, Operation};
use super::watch::Stamp;
use crate::bench::connection::Connection;
use crate::bench::grpc::{self, CallError, Method};
use crate::bench::keys::{Chooser, Names};
use crate::bench::recorder::Recorder;
use crate::bench::schedule::Schedule;
use crate::bench::slot::{Generation, Slot};
use crate::bench::target::Target;
use crate::bench::template::{Template, Values};

/// The single pages of a list.
const PAGE: &str = "list page";
/// Reads of keys that are not there.
const MISSES: &str = "keys not there";
/// Keys that ranges and lists brought.
const KEYS_READ: &str = "keys read";
/// Transactions whose comparison did not hold.
const CONFLICTS: &str = "lost comparisons";

/// What all clients know.
#[derive(Debug)]
pub(in crate::bench) struct Content {
    pub(in crate::bench) mix: Mix,
    pub(in crate::bench) names: Names,
    pub(in crate::bench) chooser: Chooser,
    pub(in crate::bench) values: Values,
    /// Puts carry the moment they were sent.
    pub(in crate::bench) stamp: Option<Stamp>,
    put: Template,
    get: [Template; 2],
}

impl Content {
    pub(in crate::bench) fn new(
        mix: Mix,
        names: Names,
        chooser: Chooser,
        values: Values,
        value_bytes: usize,
    ) -> Self {
        let put = Template::put(names.size_bytes(), value_bytes);
        let get = [false, true].map(|serializable| Template::get(names.size_bytes(), serializable));
        Self { mix, names, chooser, values, stamp: None, put, get }
    }
}

/// A client.
#[derive(Debug)]
pub(in crate::bench) struct Client {
    target: Arc<Target>,
    content: Arc<Content>,
    recorder: Arc<Recorder>,
    slot: Arc<Slot>,
    generation: Generation,
    connection: Connection,
    random: fastrand::Rng,
    /// By key, the revision this client last saw it written at.
    seen: HashMap<u64, i64>,
}

impl Client {
    pub(in crate::bench) async fn new(
        target: Arc<Target>,
        content: Arc<Content>,
        recorder: Arc<Recorder>,
        slot: Arc<Slot>,
        random: fastrand::Rng,
    ) -> Self {
        let (generation, connection) = slot.current().await;
        Self { target, content, recorder, slot, generation, connection, random, seen: HashMap::new() }
    }

    /// Performs operations until the schedule is over.
    ///
    /// # Errors
    /// The connection was lost and nobody can be reached any more.
    pub(in crate::bench) async fn run(mut self, schedule: Arc<Schedule>) -> Result<()> {
        while let Some(due) = schedule.next().await {
            let operation = self.content.mix.next(&mut self.random);
            match self.perform(operation).await {
                Ok(()) => self.recorder.success(operation.name(), due.elapsed()),
                Err(error) => {
                    self.recorder.failure(operation.name(), &error);
                    if let CallError::Lost(_) = error {
                        (self.generation, self.connection) =
                            self.slot.renew(&self.target, self.generation).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn call(&mut self, method: Method, frame: Bytes) -> Result<Bytes, CallError> {
        let timeout = self.target.timeout;
        match tokio::time::timeout(timeout, self.connection.unary(method, frame)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout(timeout.as_millis())),
        }
    }

    async fn perform(&mut self, operation: Operation) -> Result<(), CallError> {
        match operation {
            Operation::Put => {
                let content = &self.content;
                let key = content.names.name(content.chooser.next(&mut self.random));
                let value = content.values.next(&mut self.random);
                let value = content.stamp.map_or(value.clone(), |stamp| stamp.onto(&value));
                let frame = content.put.fill(&key, &value);
                self.call(Method::Put, frame).await.map(|_| ())
            }
            Operation::Get { serializable } => self.get(serializable).await,
            Operation::Range { keys, serializable } => self.range(keys, serializable).await,
            Operation::List { page } => self.list(page).await,
            Operation::Swap => self.swap().await,
        }
    }

    async fn get(&mut self, serializable: bool) -> Result<(), CallError> {
        let content = &self.content;
        let key = content.names.name(content.chooser.next(&mut self.random));
        let frame = content.get[usize::from(serializable)].fill(&key, &[]);
        let answer: RangeResponse = grpc::decode(self.call(Method::Range, frame).await?)?;
        if answer.kvs.is_empty() {
            self.recorder.note(MISSES, 1);
        }
        Ok(())
    }

    async fn range(&mut self, keys: u64, serializable: bool) -> Result<(), CallError> {
        let content = &self.content;
        let request = RangeRequest {
            key: content.names.name(content.chooser.next(&mut self.random)),
            range_end: content.names.end(),
            limit: i64::try_from(keys).unwrap_or(i64::MAX),
            serializable,
            ..Default::default()
        };
        let answer: RangeResponse = grpc::decode(self.call(Method::Range, grpc::frame(&request)).await?)?;
        self.recorder.note(KEYS_READ, answer.kvs.len() as u64);
        Ok(())
    }

    /// Kubernetes continues from the last key of a page and a zero byte, at the first page's revision.
    async fn list(&mut self, page: u64) -> Result<(), CallError> {
        let mut request = RangeRequest {
            key: self.content.names.begin(),
            range_end: self.content.names.end(),
            limit: i64::try_from(page).unwrap_or(i64::MAX),
            ..Default::default()
        };
        loop {
            let began = Instant::now();
            let answer: RangeResponse = grpc::decode(self.call(Method::Range, grpc::frame(&request)).await?)?;
            self.recorder.part(PAGE, began.elapsed());
            self.recorder.note(KEYS_READ, answer.kvs.len() as u64);
            let (Some(last), true) = (answer.kvs.last(), answer.more) else { return Ok(()) };
            request.key = [&last.key[..], &[0]].concat().into();
            if let (0, Some(header)) = (request.revision, &answer.header) {
                request.revision = header.revision;
            }
        }
    }

    async fn swap(&mut self) -> Result<(), CallError> {
        let content = &self.content;
        let number = content.chooser.next(&mut self.random);
        let (key, value) = (content.names.name(number), content.values.next(&mut self.random));
        let seen = self.seen.get(&number).copied().unwrap_or(0);
        let request = swap_request(key, value, seen);
        let answer: TxnResponse = grpc::decode(self.call(Method::Txn, grpc::frame(&request)).await?)?;
        let revision = if answer.succeeded {
            answer.header.map_or(0, |header| header.revision)
        } else {
            self.recorder.note(CONFLICTS, 1);
            let read = answer.responses.into_iter().next().and_then(|operation| operation.response);
            let Some(Response::ResponseRange(range)) = read else {
                return Err(CallError::Foreign("a transaction without its read".into()));
            };
            range.kvs.first().map_or(0, |kv| kv.mod_revision)
        };
        self.seen.insert(number, revision);
        Ok(())
    }
}

fn swap_request(key: Bytes, value: Bytes, seen: i64) -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(seen)),
        ..Default::default()
    };
    let put = PutRequest { key: key.clone(), value, ..Default::default() };
    let get = RangeRequest { key, ..Default::default() };
    TxnRequest {
        compare: vec![compare],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(get)) }],
    }
}
