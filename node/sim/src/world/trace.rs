//! What happened in a world, as one number: two runs of a seed must agree in it.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::mem;

use quorate_consensus::id::{MemberId, Time};
use quorate_consensus::log::LogRead as _;
use quorate_replica::event::GroupId;
use quorate_replica::host::Host;

use super::Happening;
use crate::history::Outcome;

/// A hash over everything that happens: items of the agenda, timers, what members write and what becomes durable, answers.
#[derive(Debug, Default)]
pub(super) struct Trace(DefaultHasher);

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.hash(&mut self.0);
        Ok(())
    }
}

impl Trace {
    pub(super) fn finish(&self) -> u64 {
        self.0.finish()
    }

    /// A member's timer rings.
    pub(super) fn rings(&mut self, now: Time, id: MemberId) {
        ("timer", now, id).hash(&mut self.0);
    }

    /// An item of the agenda is due.
    pub(super) fn happens(&mut self, now: Time, happening: &Happening) {
        let hasher = &mut self.0;
        (now, mem::discriminant(happening)).hash(hasher);
        match happening {
            Happening::Message { from, to, payload } => (from, to, payload).hash(hasher),
            Happening::Snapshot { from, to, index, epoch, chunks } => {
                (from, to, index, epoch, chunks.len()).hash(hasher);
                chunks.iter().for_each(|chunk| chunk.changes.len().hash(hasher));
            }
            Happening::Synced { member, boot, job } => (member, boot, job.number()).hash(hasher),
            Happening::Persisted { member, boot, group, through } => {
                (member, boot, group.0, through).hash(hasher);
            }
            Happening::Ask { client: place }
            | Happening::WatchElsewhere { watcher: place }
            | Happening::FaultBegins { place }
            | Happening::FaultEnds { place } => place.hash(hasher),
            Happening::Restart { member: id }
            | Happening::Churn { asked: id }
            | Happening::Ambush { leader: id } => id.hash(hasher),
            Happening::Operate => {}
            Happening::AmbushEnds { number } => number.hash(hasher),
            Happening::CrashInSync { member, boot } => (member, boot).hash(hasher),
            Happening::Reset { at, peer } => (at, peer).hash(hasher),
        }
    }

    /// A member took a step: what its log and its hard state are now, what of it is durable, and what is applied.
    pub(super) fn stepped(&mut self, id: MemberId, host: &Host) {
        let log = host.log(GroupId::DEFAULT);
        let (last, writes) = (log.last_index(), host.writes(GroupId::DEFAULT));
        let commit = host.status(GroupId::DEFAULT).map(|status| status.commit);
        let applied = host.replica(GroupId::DEFAULT).map(|replica| replica.state().applied());
        let log = (log.snapshot_index(), last, log.epoch(last).ok());
        (id, log, host.hard_state(GroupId::DEFAULT), writes, commit, applied).hash(&mut self.0);
    }

    /// A client was answered.
    pub(super) fn answered(&mut self, member: MemberId, outcome: &Outcome) {
        member.hash(&mut self.0);
        let _ = write!(self, "{outcome:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_answer_or_another_moment_gives_another_trace() {
        let of = |tell: &dyn Fn(&mut Trace)| {
            let mut trace = Trace::default();
            tell(&mut trace);
            trace.finish()
        };
        let ask = |now, client| of(&|trace| trace.happens(Time(now), &Happening::Ask { client }));
        assert_eq!(ask(5, 1), ask(5, 1));
        assert_ne!(ask(5, 1), ask(6, 1));
        assert_ne!(ask(5, 1), ask(5, 2));
        assert_ne!(ask(5, 1), of(&|trace| trace.rings(Time(5), MemberId(1))));
        let answer = |outcome| of(&|trace| trace.answered(MemberId(1), &outcome));
        assert_ne!(answer(Outcome::Renewed), answer(Outcome::NotRenewed));
    }
}
