//! The leader's leases: renewals, times, and what is over.

use quorate_consensus::id::Time;
use quorate_state::lease::LeaseKeeper;
use quorate_state::machine::{LeaseChange, StateMachine};

use crate::envelope::LeaseTimes;
use crate::error::Fatal;

/// Leases whose end one tick proposes, at most: etcd revokes at most 1,000 a second.
const EXPIRED_MAX: usize = 100;

/// The leader's clock over leases; empty on others.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    keeper: LeaseKeeper,
    measuring: bool,
}

impl Leases {
    pub(crate) fn promote(&mut self, now: Time, state: &StateMachine) -> Result<(), Fatal> {
        self.keeper.promote(now.0, &state.leases()?);
        self.measuring = true;
        Ok(())
    }

    pub(crate) fn demote(&mut self) {
        self.keeper.demote();
        self.measuring = false;
    }

    pub(crate) fn changed(&mut self, now: Time, change: LeaseChange) {
        match change {
            LeaseChange::Granted(id, ttl_s) if self.measuring => self.keeper.granted(now.0, id, ttl_s),
            LeaseChange::Revoked(id) => self.keeper.revoked(id),
            LeaseChange::Granted(..) => {}
        }
    }

    pub(crate) fn times(&mut self, now: Time, id: i64, renew: bool) -> LeaseTimes {
        let renewed = !renew || self.keeper.renew(now.0, id).is_some();
        match self.keeper.times(now.0, id).filter(|_| renewed) {
            Some((ttl_s, granted_s)) => LeaseTimes { ttl_s, granted_s },
            None => LeaseTimes { ttl_s: -1, granted_s: 0 },
        }
    }

    pub(crate) fn expired(&mut self, now: Time) -> Vec<i64> {
        self.keeper.expired(now.0, EXPIRED_MAX)
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.keeper.deadline_ms().map(Time)
    }
}
