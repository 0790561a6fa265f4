//! Watchers of all keys: every put reaches each of them, and carries the moment it was sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use quorate_api::etcdserverpb::watch_request::RequestUnion;
use quorate_api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use tokio::task::JoinSet;

use crate::bench::connection::Stream;
use crate::bench::grpc::{self, CallError, Method};
use crate::bench::keys::Names;
use crate::bench::recorder::Recorder;
use crate::bench::slot::Slot;
use crate::bench::target::Target;

/// The class of events that reached a watcher.
const DELIVERY: &str = "delivery";
/// Bytes of a value that hold when it was sent.
pub(in crate::bench) const STAMP_BYTES: usize = 8;

/// Moments in values, as nanoseconds after a beginning that only this process knows.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Stamp(Instant);

impl Stamp {
    pub(in crate::bench) fn new() -> Self {
        Self(Instant::now())
    }

    /// The value with this moment in front.
    pub(in crate::bench) fn onto(self, value: &Bytes) -> Bytes {
        let now_ns = u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut stamped = BytesMut::from(&value[..]);
        stamped[..STAMP_BYTES].copy_from_slice(&now_ns.to_be_bytes());
        stamped.freeze()
    }

    /// How long ago the value was sent; nothing for a value of somebody else.
    fn age(self, value: &[u8]) -> Option<Duration> {
        let sent = Duration::from_nanos(u64::from_be_bytes(*value.first_chunk()?));
        self.0.elapsed().checked_sub(sent)
    }
}

/// Watchers that listen.
#[derive(Debug)]
pub(in crate::bench) struct Watchers {
    readers: JoinSet<()>,
    count: u64,
    recorder: Arc<Recorder>,
}

impl Watchers {
    /// Opens streams and creates the watchers on them.
    ///
    /// # Errors
    /// The server refuses one.
    pub(in crate::bench) async fn open(
        target: &Target,
        slots: &[Arc<Slot>],
        names: &Names,
        recorder: &Arc<Recorder>,
        stamp: Stamp,
        (watchers, streams): (u32, u32),
    ) -> Result<Self> {
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: names.begin(),
                range_end: names.end(),
                ..Default::default()
            })),
        };
        let create = grpc::frame(&create);
        let streams = streams.min(watchers);
        let mut readers = JoinSet::new();
        for number in 0..streams {
            let (_, mut connection) = slots[number as usize % slots.len()].current().await;
            let own = watchers / streams + u32::from(number < watchers % streams);
            let opening = async {
                let mut stream = connection.stream(Method::Watch, create.clone()).await?;
                for at in 0..own {
                    if at > 0 {
                        stream.send(create.clone())?;
                    }
                    let created: WatchResponse = grpc::decode(stream.next().await?)?;
                    if !created.created {
                        return Err(CallError::Foreign(created.cancel_reason));
                    }
                }
                Ok(stream)
            };
            let opened = tokio::time::timeout(target.timeout, opening).await;
            let stream = opened.context("watchers were not created in time")??;
            readers.spawn(read(stream, Arc::clone(recorder), stamp));
        }
        Ok(Self { readers, count: watchers.into(), recorder: Arc::clone(recorder) })
    }

    /// Waits until all puts have reached all watchers; those that did not in time are failures.
    pub(in crate::bench) async fn end(self, puts: u64, timeout: Duration) {
        /// Between two looks.
        const LOOK: Duration = Duration::from_millis(5);
        let (began, expected) = (Instant::now(), puts * self.count);
        let mut delivered = self.recorder.parts_of(DELIVERY);
        while delivered < expected && began.elapsed() < timeout && !self.readers.is_empty() {
            tokio::time::sleep(LOOK).await;
            delivered = self.recorder.parts_of(DELIVERY);
        }
        if delivered < expected {
            let kind = format!("not delivered within {} ms after the load", timeout.as_millis());
            self.recorder.failures(DELIVERY, kind, expected - delivered);
        }
    }
}

async fn read(mut stream: Stream, recorder: Arc<Recorder>, stamp: Stamp) {
    loop {
        let response = stream.next().await.and_then(grpc::decode::<WatchResponse>);
        let response = match response {
            Ok(response) if response.canceled => Err(CallError::Foreign(response.cancel_reason)),
            other => other,
        };
        match response {
            Ok(response) => {
                for event in response.events {
                    if let Some(age) = event.kv.and_then(|kv| stamp.age(&kv.value)) {
                        recorder.part(DELIVERY, age);
                    }
                }
            }
            Err(error) => return recorder.failure(DELIVERY, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_a_values_age() {
        let stamp = Stamp::new();
        let value = stamp.onto(&Bytes::from_static(&[7; 12]));
        assert_eq!((value.len(), &value[8..]), (12, &[7; 4][..]));
        assert!(stamp.age(&value).unwrap() < Duration::from_secs(60));
        assert_eq!(stamp.age(b"short"), None);
        assert_eq!(stamp.age(&[255; 8]), None);
    }
}
