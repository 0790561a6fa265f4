//! A machine's clock: it never goes back, but it may jump ahead and run fast or slow.

use quorate_consensus::id::Time;

/// A rate of one: thousandths.
const TRUE_RATE: u64 = 1_000;

/// From this moment of the world on it shows `local` and runs at `rate`.
#[derive(Clone, Copy, Debug)]
struct Part {
    world_ms: u64,
    local_ms: u64,
    /// Milliseconds that it shows for 1,000 of the world's.
    rate: u64,
}

/// A clock with its whole past.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    parts: Vec<Part>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { parts: vec![Part { world_ms: 0, local_ms: 0, rate: TRUE_RATE }] }
    }
}

impl Clock {
    fn newest(&self) -> Part {
        self.parts.last().copied().unwrap_or(Part { world_ms: 0, local_ms: 0, rate: TRUE_RATE })
    }

    /// What it shows at a moment of the world.
    pub(super) fn at(&self, world: Time) -> Time {
        let part = self.parts.iter().rev().find(|part| part.world_ms <= world.0).copied();
        let part = part.unwrap_or(Part { world_ms: 0, local_ms: 0, rate: TRUE_RATE });
        Time(part.local_ms + (world.0 - part.world_ms) * part.rate / TRUE_RATE)
    }

    /// The least that it shows within this millisecond of the world: before it jumps there.
    pub(super) fn before(&self, world: Time) -> Time {
        let part = self.parts.iter().rev().find(|part| part.world_ms < world.0).copied();
        let part = part.unwrap_or(Part { world_ms: 0, local_ms: 0, rate: TRUE_RATE });
        Time(part.local_ms + (world.0 - part.world_ms) * part.rate / TRUE_RATE)
    }

    /// When it will show `local`, if it goes on as it does.
    pub(super) fn when(&self, local: Time) -> Time {
        let part = self.newest();
        let left_ms = local.0.saturating_sub(part.local_ms);
        // Beyond every run.
        if left_ms > u64::MAX / (2 * TRUE_RATE) {
            return Time(u64::MAX);
        }
        Time(part.world_ms + (left_ms * TRUE_RATE).div_ceil(part.rate))
    }

    /// It jumps ahead.
    pub(super) fn jump(&mut self, now: Time, ms: u64) {
        let local_ms = self.at(now).0 + ms;
        self.parts.push(Part { world_ms: now.0, local_ms, ..self.newest() });
    }

    /// From now on it shows `rate` milliseconds for 1,000 of the world's.
    pub(super) fn run_at(&mut self, now: Time, rate: u64) {
        let local_ms = self.at(now).0;
        self.parts.push(Part { world_ms: now.0, local_ms, rate });
    }

    /// It runs as the world does.
    pub(super) fn run_true(&mut self, now: Time) {
        if self.newest().rate != TRUE_RATE {
            self.run_at(now, TRUE_RATE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_that_jumped_shows_and_foretells_the_same() {
        let mut clock = Clock::default();
        clock.run_at(Time(1_000), 1_500);
        clock.jump(Time(2_000), 700);
        assert_eq!(clock.at(Time(500)), Time(500));
        assert_eq!(clock.at(Time(1_999)), Time(2_498));
        assert_eq!(clock.before(Time(2_000)), Time(2_500));
        assert_eq!(clock.at(Time(2_000)), Time(3_200));
        assert_eq!(clock.at(Time(4_000)), Time(6_200));
        assert_eq!(clock.when(Time(6_200)), Time(4_000));
        assert_eq!(clock.at(clock.when(Time(6_201))), Time(6_201));
        assert_eq!(clock.when(Time(u64::MAX)), Time(u64::MAX));
    }
}
