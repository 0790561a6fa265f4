//! Leases: their rows, and the leader's clock over them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use quorate_storage::backend::Table;

use crate::error::MachineError;
use crate::mutants::mutant;
use crate::store::{Overlay, Store};

fn row(id: i64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

fn key_row(id: i64, key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(8 + key.len());
    bytes.put_i64(id);
    bytes.put_slice(key);
    bytes.freeze()
}

pub(crate) fn exists(store: &impl Store, id: i64) -> Result<bool, MachineError> {
    Ok(store.get(Table::Leases, &row(id))?.is_some())
}

pub(crate) fn grant(store: &mut Overlay, id: i64, ttl_s: i64) {
    store.put(Table::Leases, row(id), Bytes::copy_from_slice(&ttl_s.to_be_bytes()));
}

pub(crate) fn remove(store: &mut Overlay, id: i64) {
    store.delete(Table::Leases, row(id));
}

pub(crate) fn attach(store: &mut Overlay, id: i64, key: &Bytes) {
    if id != 0 {
        store.put(Table::LeaseKeys, key_row(id, key), Bytes::new());
    }
}

pub(crate) fn detach(store: &mut Overlay, id: i64, key: &Bytes) {
    if id != 0 {
        store.delete(Table::LeaseKeys, key_row(id, key));
    }
}

/// The keys on a lease, in order.
pub(crate) fn keys(store: &impl Store, id: i64) -> Result<Vec<Bytes>, MachineError> {
    let mut keys = Vec::new();
    for pair in store.scan(Table::LeaseKeys, Bound::Included(row(id)), Bound::Unbounded) {
        let (found, _) = pair?;
        let Some(key) = found.strip_prefix(&id.to_be_bytes()) else { break };
        keys.push(Bytes::copy_from_slice(key));
    }
    Ok(keys)
}

/// Every lease with its time to live in seconds.
pub(crate) fn all(store: &impl Store) -> Result<Vec<(i64, i64)>, MachineError> {
    let malformed = || MachineError::Malformed("lease");
    let mut leases = Vec::new();
    for pair in store.scan(Table::Leases, Bound::Unbounded, Bound::Unbounded) {
        let (key, value) = pair?;
        let id = i64::from_be_bytes(*key.first_chunk().ok_or_else(malformed)?);
        leases.push((id, i64::from_be_bytes(*value.first_chunk().ok_or_else(malformed)?)));
    }
    Ok(leases)
}

/// The leader's clock over leases. A new leader gives every lease its whole time again.
#[derive(Debug, Default)]
pub struct LeaseKeeper {
    ttl_s: BTreeMap<i64, i64>,
    expiry_ms: BTreeMap<i64, u64>,
    /// Where a lease stands in `by_expiry`: behind its expiry while a revocation is under way.
    queued_ms: BTreeMap<i64, u64>,
    by_expiry: BTreeSet<(u64, i64)>,
}

/// How long a revocation that was proposed may take to be applied before it is proposed again.
const REVOKE_RETRY_MS: u64 = 2_000;

impl LeaseKeeper {
    /// Starts to measure these leases, all of them fresh.
    pub fn promote(&mut self, now_ms: u64, leases: &[(i64, i64)]) {
        self.demote();
        for &(id, ttl_s) in leases {
            self.granted(now_ms, id, ttl_s);
            if mutant!(NewLeaderShortensLeases) {
                self.expire_at(id, now_ms + 100);
            }
        }
    }

    /// Stops measuring.
    pub fn demote(&mut self) {
        *self = Self::default();
    }

    /// A lease was made.
    pub fn granted(&mut self, now_ms: u64, id: i64, ttl_s: i64) {
        self.ttl_s.insert(id, ttl_s);
        self.expire_at(id, now_ms + ttl_ms(ttl_s));
    }

    /// A lease is gone.
    pub fn revoked(&mut self, id: i64) {
        self.ttl_s.remove(&id);
        self.expiry_ms.remove(&id);
        if let Some(queued) = self.queued_ms.remove(&id) {
            self.by_expiry.remove(&(queued, id));
        }
    }

    /// Renews a lease that has not expired. Its time to live; `None` if it is not there.
    pub fn renew(&mut self, now_ms: u64, id: i64) -> Option<i64> {
        let ttl_s = *self.ttl_s.get(&id)?;
        if *self.expiry_ms.get(&id)? <= now_ms && !mutant!(KeepAliveOfExpired) {
            return None;
        }
        let expiry_ms = now_ms + ttl_ms(ttl_s);
        if mutant!(ExpiryIgnoresRenewal) && self.expired_soon(now_ms, id) {
            self.expiry_ms.insert(id, expiry_ms);
        } else {
            self.expire_at(id, expiry_ms);
        }
        Some(ttl_s)
    }

    /// Part of a bug: whether a look a little ahead would have found the lease over.
    fn expired_soon(&self, now_ms: u64, id: i64) -> bool {
        self.expiry_ms.get(&id).is_some_and(|at| *at <= now_ms + 50)
    }

    /// Seconds left and seconds granted; `None` if it is not there.
    #[must_use]
    pub fn times(&self, now_ms: u64, id: i64) -> Option<(i64, i64)> {
        let left_ms = self.expiry_ms.get(&id)?.saturating_sub(now_ms);
        Some((i64::try_from(left_ms / 1000).unwrap_or(i64::MAX), *self.ttl_s.get(&id)?))
    }

    /// Leases whose time is over, at most `max`. Those not revoked within [`REVOKE_RETRY_MS`] are given again.
    pub fn expired(&mut self, now_ms: u64, max: usize) -> Vec<i64> {
        let over: Vec<i64> =
            self.by_expiry.iter().take_while(|(at, _)| *at <= now_ms).take(max).map(|(_, id)| *id).collect();
        for &id in &over {
            // It stays over for `renew`: only its place in the queue moves.
            self.queue(id, now_ms + REVOKE_RETRY_MS);
        }
        over
    }

    /// When the next lease is over, in milliseconds.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        self.by_expiry.first().map(|(at, _)| *at)
    }

    fn expire_at(&mut self, id: i64, expiry_ms: u64) {
        self.expiry_ms.insert(id, expiry_ms);
        self.queue(id, expiry_ms);
    }

    fn queue(&mut self, id: i64, at_ms: u64) {
        if let Some(before) = self.queued_ms.insert(id, at_ms) {
            self.by_expiry.remove(&(before, id));
        }
        self.by_expiry.insert((at_ms, id));
    }
}

fn ttl_ms(ttl_s: i64) -> u64 {
    u64::try_from(ttl_s).unwrap_or(0).saturating_mul(1000)
}
