//! How well this member's disk does: the time from a write to its `Persisted`. Whether a leader hands over because of it is
//! decided in [`crate::handover`]; the rule and its constants stand in DESIGN.md.

use crate::config::Config;
use crate::id::{Time, WriteId};

/// One slow sync is no rule: so many in a row are, the one under way included, ...
const SLOW_SAMPLES: u64 = 2;

/// ... that together took so many election timeouts. With the hand-over, a slow leader is replaced within two.
const SLOW_TIMEOUTS: u64 = 1;

/// Between two steps of a member so many beats count at most. A longer pause is not its disk's: the process was stopped or starved,
/// or its clock jumped. A leader takes a step at every beat.
const PAUSE_BEATS: u64 = 2;

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
    last_ms: u64,
}

impl Mean {
    pub(crate) fn add(&mut self, sample_ms: u64) {
        let sample = sample_ms.saturating_mul(16);
        self.last_ms = sample_ms;
        self.sixteenths = Some(match self.sixteenths {
            None => sample,
            Some(mean) => mean - mean / MEAN_SHARE + sample / MEAN_SHARE,
        });
    }

    pub(crate) fn ms(self) -> Option<u64> {
        self.sixteenths.map(|mean| mean / 16)
    }

    /// The mean or the last sample, whichever is worse: who has just become slow counts as slow.
    pub(crate) fn worst_ms(self) -> Option<u64> {
        self.ms().map(|mean| mean.max(self.last_ms))
    }
}

/// Slow syncs in a row.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct SlowRun {
    samples: u64,
    took_ms: u64,
}

impl SlowRun {
    fn with(self, took_ms: u64) -> Self {
        Self { samples: self.samples + 1, took_ms: self.took_ms + took_ms }
    }
}

/// The oldest write that is not durable yet.
#[derive(Clone, Copy, Debug, Hash)]
struct Watched {
    id: WriteId,
    /// For how long, pauses of the process left out.
    took_ms: u64,
}

/// A write is watched until it is durable; then the next one is.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Disk {
    watched: Option<Watched>,
    newest: WriteId,
    /// The end of the last step.
    stepped_at: Time,
    slow_run: SlowRun,
    /// When it was last known to be ill, since leadership was given away for it or it stalled.
    ill_at: Option<Time>,
    /// When this member last had a leader.
    led_at: Time,
}

impl Disk {
    /// The end of a step: `newest` is the last write that was asked for, `led` whether there is a leader that serves.
    pub(crate) fn after_step(&mut self, newest: WriteId, led: bool, now: Time, config: &Config) {
        let since_ms = self.since_step_ms(now, config);
        if let Some(watched) = &mut self.watched {
            watched.took_ms += since_ms;
        }
        self.stepped_at = now;
        if newest > self.newest {
            self.newest = newest;
            self.watched.get_or_insert(Watched { id: newest, took_ms: 0 });
        }
        if led {
            self.led_at = now;
        }
    }

    fn since_step_ms(&self, now: Time, config: &Config) -> u64 {
        now.since_ms(self.stepped_at).min(PAUSE_BEATS * config.heartbeat_interval_ms)
    }

    /// For how long the watched write has been under way.
    fn under_way_ms(&self, now: Time, config: &Config) -> Option<u64> {
        self.watched.map(|watched| watched.took_ms + self.since_step_ms(now, config))
    }

    /// Everything up to `id` is durable.
    pub(crate) fn persisted(&mut self, id: WriteId, now: Time, config: &Config) {
        let Some(took_ms) = self.under_way_ms(now, config) else { return };
        if self.watched.take_if(|watched| watched.id <= id).is_none() {
            return;
        }
        self.slow_run =
            if took_ms > slow_ms(config) { self.slow_run.with(took_ms) } else { SlowRun::default() };
        let stalled = took_ms >= stalled_ms(config);
        // Well again is half of slow: what lies between changes nothing.
        if stalled || (self.ill_at.is_some() && took_ms > slow_ms(config) / 2) {
            self.ill_at = Some(now);
        }
    }

    /// A write has not become durable for too long.
    pub(crate) fn is_stalled(&self, now: Time, config: &Config) -> bool {
        self.under_way_ms(now, config).is_some_and(|took_ms| took_ms >= stalled_ms(config))
    }

    /// The mean of the last syncs, if they have been slow for a while.
    pub(crate) fn slow_mean_ms(&self, now: Time, config: &Config) -> Option<u64> {
        let slow = self.under_way_ms(now, config).filter(|took_ms| *took_ms > slow_ms(config));
        let run = slow.map_or(self.slow_run, |took_ms| self.slow_run.with(took_ms));
        let lasted = run.took_ms >= SLOW_TIMEOUTS * config.election_timeout_ms;
        (run.samples >= SLOW_SAMPLES && lasted).then(|| run.took_ms / run.samples)
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

    /// Steps every 10 ms until the write, which begins at `from`, is durable; when that is.
    fn sync(disk: &mut Disk, write: u64, from: u64, took_ms: u64, config: &Config) -> u64 {
        for at in (from..from + took_ms).step_by(10) {
            disk.after_step(WriteId(write), true, Time(at), config);
        }
        disk.persisted(WriteId(write), Time(from + took_ms), config);
        disk.after_step(WriteId(write), true, Time(from + took_ms), config);
        from + took_ms
    }

    #[test]
    fn one_slow_sync_is_no_rule_and_several_that_last_a_timeout_are() {
        let config = Config::new(MemberId(1), 1);
        for slow in [260, 300, 500, 700, 950] {
            let mut disk = Disk::default();
            let mut now = 0;
            for (write, took_ms) in (1..).zip([10, 950, 10]) {
                now = sync(&mut disk, write, now, took_ms, &config);
                assert_eq!(disk.slow_mean_ms(Time(now), &config), None, "after write {write}");
            }
            let began = now;
            let mut write = 4;
            while disk.slow_mean_ms(Time(now), &config).is_none() {
                let at = now;
                disk.after_step(WriteId(write), true, Time(at), &config);
                while now < at + slow && disk.slow_mean_ms(Time(now), &config).is_none() {
                    now += 10;
                    disk.after_step(WriteId(write), true, Time(now), &config);
                }
                disk.persisted(WriteId(write), Time(now), &config);
                write += 1;
            }
            let found = now - began;
            assert!((1_000..=1_300).contains(&found), "syncs of {slow} ms were found slow after {found} ms");
        }
    }

    #[test]
    fn a_stalled_disk_is_unfit_until_it_was_well_for_long_or_nobody_leads() {
        let config = Config::new(MemberId(1), 1);
        let mut disk = Disk::default();
        disk.after_step(WriteId(1), true, Time(0), &config);
        for at in (10..1_000).step_by(10) {
            disk.after_step(WriteId(1), false, Time(at), &config);
        }
        assert!(!disk.is_stalled(Time(999), &config) && disk.is_stalled(Time(1_000), &config));
        for at in (1_000..4_000).step_by(10) {
            disk.after_step(WriteId(1), false, Time(at), &config);
        }
        assert!(!disk.may_stand(Time(3_999), &config) && disk.may_stand(Time(4_000), &config));
        disk.persisted(WriteId(1), Time(5_000), &config);
        assert!(!disk.is_fit(Time(14_999), &config) && disk.is_fit(Time(15_000), &config));
    }

    #[test]
    fn a_pause_of_the_process_is_not_the_disks() {
        let config = Config::new(MemberId(1), 1);
        let mut disk = Disk::default();
        disk.after_step(WriteId(1), true, Time(0), &config);
        disk.after_step(WriteId(1), true, Time(10), &config);
        assert!(!disk.is_stalled(Time(5_000), &config));
        disk.persisted(WriteId(1), Time(5_000), &config);
        assert!(disk.is_fit(Time(5_000), &config) && disk.slow_mean_ms(Time(5_000), &config).is_none());
    }
}
