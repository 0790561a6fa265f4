//! Leases that are kept alive: each client has some, and one stream.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use quorate_api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
};

use crate::bench::connection::{Connection, Stream};
use crate::bench::grpc::{self, CallError, Method};
use crate::bench::recorder::Recorder;
use crate::bench::schedule::Schedule;
use crate::bench::slot::{Generation, Slot};
use crate::bench::target::Target;

/// The class of results.
const KEEP_ALIVE: &str = "keep-alive";

/// One client.
#[derive(Debug)]
pub(in crate::bench) struct LeaseClient {
    target: Arc<Target>,
    recorder: Arc<Recorder>,
    slot: Arc<Slot>,
    generation: Generation,
    connection: Connection,
    leases: Vec<i64>,
    stream: Option<Stream>,
}

impl LeaseClient {
    /// Grants its leases.
    ///
    /// # Errors
    /// The server refuses.
    pub(in crate::bench) async fn new(
        target: Arc<Target>,
        recorder: Arc<Recorder>,
        slot: Arc<Slot>,
        leases: u64,
        ttl_s: i64,
    ) -> Result<Self> {
        let (generation, connection) = slot.current().await;
        let mut client =
            Self { target, recorder, slot, generation, connection, leases: Vec::new(), stream: None };
        let grant = grpc::frame(&LeaseGrantRequest { ttl: ttl_s, id: 0 });
        for _ in 0..leases {
            let answer =
                client.call(Method::LeaseGrant, grant.clone()).await.context("a lease is not granted")?;
            client.leases.push(grpc::decode::<LeaseGrantResponse>(answer)?.id);
        }
        Ok(client)
    }

    async fn call(&mut self, method: Method, frame: Bytes) -> Result<Bytes, CallError> {
        let timeout = self.target.timeout;
        match tokio::time::timeout(timeout, self.connection.unary(method, frame)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout(timeout.as_millis())),
        }
    }

    /// Keeps one lease after the other alive until the schedule is over, then gives them back.
    ///
    /// # Errors
    /// The connection was lost and nobody can be reached any more.
    pub(in crate::bench) async fn run(mut self, schedule: Arc<Schedule>) -> Result<()> {
        let leases = self.leases.clone();
        for lease in leases.iter().cycle() {
            let Some(due) = schedule.next().await else { break };
            let timeout = self.target.timeout;
            let kept = match tokio::time::timeout(timeout, self.keep_alive(*lease)).await {
                Ok(kept) => kept,
                Err(_) => Err(CallError::Timeout(timeout.as_millis())),
            };
            match kept {
                Ok(()) => self.recorder.success(KEEP_ALIVE, due.elapsed()),
                Err(error) => {
                    self.recorder.failure(KEEP_ALIVE, &error);
                    // A late answer must not be taken for the next one's.
                    self.stream = None;
                    if let CallError::Lost(_) = error {
                        (self.generation, self.connection) =
                            self.slot.renew(&self.target, self.generation).await?;
                    }
                }
            }
        }
        for lease in leases {
            if let Err(error) =
                self.call(Method::LeaseRevoke, grpc::frame(&LeaseRevokeRequest { id: lease })).await
            {
                self.recorder.failure("revoke", &error);
            }
        }
        Ok(())
    }

    async fn keep_alive(&mut self, lease: i64) -> Result<(), CallError> {
        let frame = grpc::frame(&LeaseKeepAliveRequest { id: lease });
        let stream = match &mut self.stream {
            Some(stream) => {
                stream.send(frame)?;
                stream
            }
            None => self.stream.insert(self.connection.stream(Method::LeaseKeepAlive, frame).await?),
        };
        let answer: LeaseKeepAliveResponse = grpc::decode(stream.next().await?)?;
        match answer.ttl {
            1.. => Ok(()),
            _ => Err(CallError::Foreign("the lease has ended".into())),
        }
    }
}
