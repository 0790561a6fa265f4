//! When to stand for election: after a timeout without a leader, or at once when the leader's process is known to have ended.

use crate::config::Config;
use crate::id::Time;
use crate::random::Random;

/// Elections in a row that need not wait: the others may hear of the reset a moment later than this member.
const ELECTIONS: u32 = 4;

/// A hint that the leader is gone. It shortens waiting and nothing else: whether there is a leader is asked of a quorum as ever.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Hurry {
    left: u32,
    gone_at: Option<Time>,
}

impl Hurry {
    /// The connection to the leader was reset.
    pub(crate) fn leader_gone(&mut self, now: Time) {
        *self = Self { left: ELECTIONS, gone_at: Some(now) };
    }

    /// A leader was heard. Whether that proves that it lives: not within a beat of the reset, since what it had sent before
    /// may still arrive. One that does live beats again.
    pub(crate) fn leader_heard(&mut self, now: Time, config: &Config) -> bool {
        let late = |at: Time| now.since_ms(at) < config.heartbeat_interval_ms;
        let proves = !self.gone_at.is_some_and(late);
        if proves {
            *self = Self::default();
        }
        proves
    }

    /// This member stands for election.
    pub(crate) fn stood(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// There is a leader of a new epoch, or one to be: what was said of another does not matter.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// How long to wait before the next election.
    pub(crate) fn wait_ms(&self, config: &Config, random: &mut Random) -> u64 {
        let interval = config.heartbeat_interval_ms.max(2);
        if self.left > 0 {
            // First only so long that two seldom stand at once; later long enough for the other's election to end.
            let first = self.left == ELECTIONS;
            return if first { random.draw() % (interval / 2) } else { interval + random.draw() % interval };
        }
        let timeout = config.election_timeout_ms;
        timeout + random.draw() % timeout.max(1)
    }
}
