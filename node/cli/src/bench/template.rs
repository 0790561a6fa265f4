//! Requests that are encoded once and patched for every use: encoding anew would cost more than sending.

use bytes::{Bytes, BytesMut};
use prost::Message;
use quorate_api::etcdserverpb::{PutRequest, RangeRequest};

use super::grpc;

/// Bytes that values are cut from; more than compressors of engines look back, so that values don't compress each other away.
const POOL_BYTES: usize = 1 << 20;

/// A request's frame, and where its key and value stand in it.
#[derive(Clone, Debug)]
pub(super) struct Template {
    frame: Bytes,
    key_at: usize,
    value_at: usize,
}

/// How many bytes a field of this length takes before its content: tag and length.
fn field_head_bytes(length: usize) -> usize {
    1 + prost::length_delimiter_len(length)
}

impl Template {
    fn new(request: &impl Message, key_bytes: usize, value_bytes: usize) -> Self {
        // Fields stand in the order of their numbers: the key is the first, the value the second.
        let key_at = grpc::FRAME_HEAD_BYTES + field_head_bytes(key_bytes);
        let value_at = key_at + key_bytes + field_head_bytes(value_bytes);
        Self { frame: grpc::frame(request), key_at, value_at }
    }

    /// A Put with a key and a value of these lengths.
    pub(super) fn put(key_bytes: usize, value_bytes: usize) -> Self {
        let request = PutRequest {
            key: vec![0; key_bytes].into(),
            value: vec![0; value_bytes].into(),
            ..Default::default()
        };
        Self::new(&request, key_bytes, value_bytes)
    }

    /// A read of one key of this length.
    pub(super) fn get(key_bytes: usize, serializable: bool) -> Self {
        let request = RangeRequest { key: vec![0; key_bytes].into(), serializable, ..Default::default() };
        Self::new(&request, key_bytes, 0)
    }

    /// The frame with this key and value, which must be as long as the template was made for.
    pub(super) fn fill(&self, key: &[u8], value: &[u8]) -> Bytes {
        let mut frame = BytesMut::from(&self.frame[..]);
        for (at, content) in [(self.key_at, key), (self.value_at, value)] {
            if !content.is_empty() {
                frame[at..at + content.len()].copy_from_slice(content);
            }
        }
        frame.freeze()
    }
}

/// Values of one length that differ and do not compress.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pool: Bytes,
    size_bytes: usize,
}

impl Values {
    pub(super) fn new(size_bytes: usize, random: &mut fastrand::Rng) -> Self {
        let mut pool = vec![0; POOL_BYTES + size_bytes];
        random.fill(&mut pool);
        Self { pool: pool.into(), size_bytes }
    }

    pub(super) fn next(&self, random: &mut fastrand::Rng) -> Bytes {
        let at = random.usize(0..POOL_BYTES);
        self.pool.slice(at..at + self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_template_is_the_request() {
        for (key_bytes, value_bytes) in [(1, 1), (32, 256), (127, 128), (200, 70_000)] {
            let (key, value) = (vec![7; key_bytes], vec![9; value_bytes]);
            let put =
                PutRequest { key: key.clone().into(), value: value.clone().into(), ..Default::default() };
            assert_eq!(Template::put(key_bytes, value_bytes).fill(&key, &value), grpc::frame(&put));
            let get = RangeRequest { key: key.clone().into(), serializable: true, ..Default::default() };
            assert_eq!(Template::get(key_bytes, true).fill(&key, &[]), grpc::frame(&get));
        }
        let empty = PutRequest { key: vec![7; 8].into(), ..Default::default() };
        assert_eq!(Template::put(8, 0).fill(&[7; 8], &[]), grpc::frame(&empty));
    }

    #[test]
    fn values_have_their_size_and_differ() {
        let mut random = fastrand::Rng::with_seed(1);
        let values = Values::new(64, &mut random);
        let (one, other) = (values.next(&mut random), values.next(&mut random));
        assert_eq!((one.len(), other.len()), (64, 64));
        assert_ne!(one, other);
    }
}
