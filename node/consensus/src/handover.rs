//! When a leader gives leadership away by itself, and to whom. The rules and their constants stand in DESIGN.md; how it is given
//! away is each protocol's own.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::disk::{Disk, slow_ms};
use crate::flow::Progress;
use crate::id::{Index, MemberId, Time};
use crate::membership::{Membership, Role};

/// Others answer so many times faster than this disk syncs, or nothing is gained: they have the network's way besides.
const TIMES_FASTER: u64 = 4;

/// Entries that a voter in sync may lack: what a busy leader has under way.
const SYNC_LAG_MAX: u64 = 1_000;

/// A preferred voter must be in sync for so many election timeouts in a row.
const PREFERRED_TIMEOUTS: u64 = 3;

/// Between two hand-overs for priority lie so many election timeouts at least; twice as many each time that the last one did not
/// last four times that long ...
const AGAIN_TIMEOUTS: u64 = 10;

/// ... at most so often doubled: about three hours at the default timeout.
const DOUBLED_MAX: u32 = 10;

/// Why leadership is to be given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// This member's disk is stalled, or much slower than the others'.
    Disk,
    /// A voter with a higher priority is in sync.
    Priority(MemberId),
}

/// What a leader sees: itself, and how far others are.
#[derive(Debug)]
pub(crate) struct Field<'a> {
    pub(crate) own: MemberId,
    pub(crate) membership: &'a Membership,
    pub(crate) last: Index,
    pub(crate) progress: BTreeMap<MemberId, &'a Progress>,
}

/// What a member remembers of its hand-overs, over times in which it does not lead.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Handover {
    preferred: Option<(MemberId, Time)>,
    given_at: Option<Time>,
    doubled: u32,
}

impl Handover {
    /// Called at every beat of a leader.
    pub(crate) fn due(&mut self, field: &Field<'_>, disk: &Disk, now: Time, config: &Config) -> Option<Due> {
        if field.disk_is_worse(disk, now, config) {
            return Some(Due::Disk);
        }
        let preferred = field.preferred(now, config);
        let since = self.preferred.filter(|(id, _)| preferred == Some(*id)).map_or(now, |(_, since)| since);
        self.preferred = preferred.map(|id| (id, since));
        let lasted = now.since_ms(since) >= PREFERRED_TIMEOUTS * config.election_timeout_ms;
        let wait_ms = (AGAIN_TIMEOUTS << self.doubled) * config.election_timeout_ms;
        let waited = self.given_at.is_none_or(|at| now.since_ms(at) >= wait_ms);
        preferred.filter(|_| lasted && waited).map(|id| {
            let held = self.given_at.is_none_or(|at| now.since_ms(at) >= 4 * wait_ms);
            self.doubled = if held { 0 } else { (self.doubled + 1).min(DOUBLED_MAX) };
            self.given_at = Some(now);
            self.preferred = None;
            Due::Priority(id)
        })
    }
}

impl Field<'_> {
    /// The voter to succeed this leader: `wanted`, or the best one.
    pub(crate) fn successor(&self, wanted: Option<MemberId>, now: Time, config: &Config) -> Option<MemberId> {
        let others = self.others().filter(|(id, _)| wanted.is_none_or(|wanted| wanted == *id));
        let best = others.max_by_key(|(id, progress)| {
            let fast = progress.delay.ms().is_none_or(|delay| delay <= slow_ms(config) / 2);
            (is_near(progress, now, config), fast, self.priority(*id), progress.matched)
        });
        best.map(|(id, _)| id)
    }

    /// Other voters that hold data.
    fn others(&self) -> impl Iterator<Item = (MemberId, &Progress)> {
        let leads =
            |id: MemberId| self.membership.members.get(&id).is_some_and(|member| member.role == Role::Voter);
        let progress = self.progress.iter().map(|(&id, progress)| (id, *progress));
        progress.filter(move |(id, _)| *id != self.own && leads(*id))
    }

    fn priority(&self, id: MemberId) -> u32 {
        self.membership.member(id).map_or(0, |member| member.leader_priority)
    }

    /// Nothing is gained unless the others are a quorum without this disk.
    fn disk_is_worse(&self, disk: &Disk, now: Time, config: &Config) -> bool {
        let others = |well: &dyn Fn(&Progress) -> bool| {
            self.membership.quorum().reached(|id| {
                id != self.own
                    && self.progress.get(&id).is_some_and(|it| is_near(it, now, config) && well(it))
            })
        };
        let slow = disk.slow_mean_ms(now, config);
        disk.is_stalled(now, config) && others(&|_| true)
            || slow.is_some_and(|mean| {
                others(&|it| it.delay.worst_ms().is_some_and(|delay| delay * TIMES_FASTER <= mean))
            })
    }

    /// The voter of the highest priority above this leader's that could take over now.
    fn preferred(&self, now: Time, config: &Config) -> Option<MemberId> {
        let own = self.priority(self.own);
        let able = self.others().filter(|(id, progress)| {
            let fast = progress.delay.ms().is_none_or(|delay| delay <= slow_ms(config) / 2);
            let in_sync = progress.matched.0 + SYNC_LAG_MAX >= self.last.0;
            self.priority(*id) > own && is_near(progress, now, config) && in_sync && fast
        });
        able.max_by_key(|(id, progress)| (self.priority(*id), progress.matched)).map(|(id, _)| id)
    }
}

/// Whether it answered within half an election timeout: a few beats.
fn is_near(progress: &Progress, now: Time, config: &Config) -> bool {
    now.since_ms(progress.active_at) <= config.election_timeout_ms / 2
}
