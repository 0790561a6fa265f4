//! How well this member's disk does: the time from a write to its `Persisted`. Whether a leader hands over because of it is
//! decided in [`crate::handover`]; the rule and its constants stand in DESIGN.md.

use crate::config::Config;
use crate::id::{Time, WriteId};

/// A disk is slow when so many samples in a row are: one slow sync is no rule.
const SLOW_SAMPLES: u32 = 3;

/// A member that handed over, or whose disk stalled, leaves elections to others for so many election timeouts ...
const RECOVERY_TIMEOUTS: u64 = 10;

/// ... unless there is no leader for so many: it may be the only one that can lead.
const PATIENCE_TIMEOUTS: u64 = 4;

/// Each sample's share of the mean is a quarter: three samples of a new kind outweigh what was before.
const MEAN_SHARE: u64 = 4;

/// A mean of milliseconds in which old samples fade.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Mean {
    /// In sixteenths, so that small values do not get stuck.
    sixteenths: Option<u64>,
}

impl Mean {
    pub(crate) fn add(&mut self, sample_ms: u64) {
        let sample = sample_ms.saturating_mul(16);
        self.sixteenths = Some(match self.sixteenths {
            None => sample,
            Some(mean) => mean - mean / MEAN_SHARE + sample / MEAN_SHARE,
        });
    }

    pub(crate) fn ms(self) -> Option<u64> {
        self.sixteenths.map(|mean| mean / 16)
    }
}

/// A write is watched until it is durable; then the next one is.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Disk {
    watched: Option<(WriteId, Time)>,
    newest: WriteId,
    mean: Mean,
    slow_samples: u32,
    /// When it was last known to be ill, since leadership was given away for it or it stalled.
    ill_at: Option<Time>,
    /// When this member last had a leader.
    led_at: Time,
}

impl Disk {
    /// The end of a step: `newest` is the last write that was asked for, `led` whether there is a leader that serves.
    pub(crate) fn after_step(&mut self, newest: WriteId, led: bool, now: Time) {
        if newest > self.newest {
            self.newest = newest;
            self.watched.get_or_insert((newest, now));
        }
        if led {
            self.led_at = now;
        }
    }

    /// Everything up to `id` is durable.
    pub(crate) fn persisted(&mut self, id: WriteId, now: Time, config: &Config) {
        let Some((_, at)) = self.watched.take_if(|(watched, _)| *watched <= id) else { return };
        let took_ms = now.since_ms(at);
        self.mean.add(took_ms);
        self.slow_samples = if took_ms > slow_ms(config) { self.slow_samples + 1 } else { 0 };
        let stalled = took_ms >= stalled_ms(config);
        // Well again is half of slow: what lies between changes nothing.
        if stalled || (self.ill_at.is_some() && took_ms > slow_ms(config) / 2) {
            self.ill_at = Some(now);
        }
    }

    /// A write has not become durable for too long.
    pub(crate) fn is_stalled(&self, now: Time, config: &Config) -> bool {
        self.watched.is_some_and(|(_, at)| now.since_ms(at) >= stalled_ms(config))
    }

    /// The mean, if syncs have been slow for a while.
    pub(crate) fn slow_mean_ms(&self, config: &Config) -> Option<u64> {
        self.mean.ms().filter(|mean| self.slow_samples >= SLOW_SAMPLES && *mean > slow_ms(config))
    }

    /// Leadership is given away because of it.
    pub(crate) fn gave_up(&mut self, now: Time) {
        self.ill_at = Some(now);
    }

    /// Whether it has been well for so long that this member may be asked to lead.
    pub(crate) fn is_fit(&self, now: Time, config: &Config) -> bool {
        let recovery_ms = RECOVERY_TIMEOUTS * config.election_timeout_ms;
        let recovered = self.ill_at.is_none_or(|at| now.since_ms(at) >= recovery_ms);
        recovered && !self.is_stalled(now, config)
    }

    /// Whether this member may stand by itself: when it is fit, or nobody else came to lead.
    pub(crate) fn may_stand(&self, now: Time, config: &Config) -> bool {
        let patience_ms = PATIENCE_TIMEOUTS * config.election_timeout_ms;
        self.is_fit(now, config) || now.since_ms(self.led_at) >= patience_ms
    }
}

/// A write under way for so long: a leader that is silent for an election timeout is taken for dead, and a disk is no better.
fn stalled_ms(config: &Config) -> u64 {
    config.election_timeout_ms
}

/// A sync that takes longer is slow: an election needs two of them in a row, and shall not use up its timeout.
pub(crate) fn slow_ms(config: &Config) -> u64 {
    config.election_timeout_ms / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MemberId;

    #[test]
    fn one_slow_sync_is_no_rule_and_three_in_a_row_are() {
        let config = Config::new(MemberId(1), 1);
        let mut disk = Disk::default();
        for (write, took_ms) in [10, 900, 10, 400, 400, 400].into_iter().enumerate() {
            assert_eq!(disk.slow_mean_ms(&config), None, "before write {write}");
            let (id, at) = (WriteId(write as u64 + 1), Time(1_000 * write as u64));
            disk.after_step(id, true, at);
            disk.persisted(id, at.after_ms(took_ms), &config);
        }
        assert!(disk.slow_mean_ms(&config).is_some_and(|mean| mean > 250));
    }

    #[test]
    fn a_stalled_disk_is_unfit_until_it_was_well_for_long_or_nobody_leads() {
        let config = Config::new(MemberId(1), 1);
        let mut disk = Disk::default();
        disk.after_step(WriteId(1), true, Time(0));
        assert!(!disk.is_stalled(Time(999), &config) && disk.is_stalled(Time(1_000), &config));
        assert!(!disk.may_stand(Time(3_999), &config) && disk.may_stand(Time(4_000), &config));
        disk.persisted(WriteId(1), Time(5_000), &config);
        assert!(!disk.is_fit(Time(14_999), &config) && disk.is_fit(Time(15_000), &config));
    }
}
