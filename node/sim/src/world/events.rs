//! What happens next, and what comes of it.

use bytes::Bytes;

use quorate_consensus::id::{Epoch, Index, MemberId, Time};
use quorate_replica::event::{Event, GroupId};
use quorate_replica::output::{Answer, Output};
use quorate_storage::backend::{Backend as _, Batch};
use quorate_storage::wal::SyncJob;

use super::network::Fate;
use super::{Happening, RINGS_MAX, World};
use crate::finding::Kind;
use crate::story::{self, Story};

/// A backend takes so long to become durable, at most.
const PERSIST_MS_MAX: u64 = 300;

impl World {
    /// The next thing happens: a planned one, or a member's timer.
    pub(super) fn advance(&mut self) {
        let timer =
            self.machines.iter().filter_map(|(id, machine)| Some((machine.deadline(self.now)?, *id))).min();
        let planned = self.agenda.first_key_value().map(|((at, _), _)| *at);
        match (planned, timer) {
            (Some(at), Some((due, id))) if due < at => self.ring(due, id),
            (None, Some((due, id))) => self.ring(due, id),
            (Some(_), _) => {
                if let Some(((at, _), happening)) = self.agenda.pop_first() {
                    self.now = self.now.max(at);
                    self.happen(happening);
                }
            }
            (None, None) => self.now = self.now.after_ms(1),
        }
    }

    fn ring(&mut self, due: Time, id: MemberId) {
        self.rings = if due > self.now { 0 } else { self.rings + 1 };
        assert!(self.rings < RINGS_MAX, "member {id}'s timer rings without end");
        self.now = self.now.max(due);
        self.trace.rings(self.now, id);
        self.event(id, Event::Tick);
    }

    fn happen(&mut self, happening: Happening) {
        let place = match &happening {
            Happening::Message { to, .. } | Happening::Snapshot { to, .. } => Some(*to),
            Happening::Synced { member, .. } | Happening::Persisted { member, .. } => Some(*member),
            Happening::Reset { at, .. } => Some(*at),
            Happening::Churn { asked } => Some(*asked),
            Happening::Ambush { leader } => Some(*leader),
            Happening::Ask { .. }
            | Happening::WatchElsewhere { .. }
            | Happening::FaultBegins { .. }
            | Happening::FaultEnds { .. }
            | Happening::AmbushEnds { .. }
            | Happening::Restart { .. }
            | Happening::CrashInSync { .. }
            | Happening::Operate => None,
        };
        if let Some(in_ms) = place.and_then(|id| self.paused(id)) {
            return self.plan(in_ms, happening);
        }
        self.trace.happens(self.now, &happening);
        match happening {
            Happening::Message { from, to, payload } => {
                if self.story == Story::Messages {
                    let protocol = self.protocol;
                    self.tell(|| format!("{from} -> {to}  {}", story::message(protocol, &payload)));
                }
                self.hears(to, &payload);
                self.event(to, Event::Peer { from, payload });
            }
            Happening::Snapshot { from, to, index, epoch, chunks } => {
                self.snapshot(from, to, (index, epoch), chunks);
            }
            Happening::Synced { member, boot, job } => self.synced(member, boot, job),
            Happening::Persisted { member, boot, group, through } => {
                self.persisted(member, boot, group, through);
            }
            Happening::Ask { client } => self.ask(client),
            Happening::WatchElsewhere { watcher } => self.watch_elsewhere(watcher),
            Happening::FaultBegins { place } => self.begin_fault(place),
            Happening::FaultEnds { place } => self.end_fault(place),
            Happening::Restart { member } => self.boot(member),
            Happening::Operate => self.operate(),
            Happening::Churn { asked } => {
                self.churn_at(asked);
            }
            Happening::Ambush { leader } => self.ambush(leader),
            Happening::AmbushEnds { number } => self.ambush_ends(number),
            Happening::CrashInSync { member, boot } => self.crash_in_sync(member, boot),
            Happening::Reset { at, peer } => self.event(at, Event::Unreachable { peer, reset: true }),
        }
    }

    fn snapshot(&mut self, from: MemberId, to: MemberId, (index, epoch): (Index, Epoch), chunks: Vec<Batch>) {
        if self.network.is_cut(from, to, self.now) || self.snapshots_interrupted > 0 {
            self.reached("snapshot broke off");
            if self.random.chance(30) && self.machines.get(&to).is_some_and(|machine| machine.host.is_some())
            {
                self.crash(to);
                let in_ms = 200 + self.random.below(1_000);
                self.plan(in_ms, Happening::Restart { member: to });
            }
            return self.event(from, Event::SnapshotSent { to, ok: false });
        }
        self.installing(to, index);
        let now = self.local(to);
        let Some(host) = self.machines.get_mut(&to).and_then(|machine| machine.host.as_mut()) else {
            return self.event(from, Event::SnapshotSent { to, ok: false });
        };
        if let Err(error) = host.install(now, GroupId::DEFAULT, (index, epoch), chunks) {
            self.failed(to, &error);
            // The stream ends with the receiver's process.
            return self.event(from, Event::SnapshotSent { to, ok: false });
        }
        self.reached("snapshot installed");
        self.flush(to);
        self.event(from, Event::SnapshotSent { to, ok: true });
    }

    fn synced(&mut self, member: MemberId, boot: u64, job: SyncJob) {
        let now = self.local(member);
        let Some(machine) = self.machines.get_mut(&member).filter(|machine| machine.boots == boot) else {
            return;
        };
        let Some(host) = &mut machine.host else { return };
        // What a failed sync left on the medium is not known: the member ends.
        match job.run().map(|number| host.synced(now, number)) {
            Ok(Ok(())) => self.flush(member),
            Ok(Err(error)) => self.failed(member, &error),
            Err(error) => self.ended(member, &error.to_string()),
        }
    }

    /// A member's backend becomes durable, with all that it holds by now.
    fn persisted(&mut self, member: MemberId, boot: u64, group: GroupId, through: Index) {
        let Some(machine) = self.machines.get_mut(&member).filter(|machine| machine.boots == boot) else {
            return;
        };
        machine.backend.persist().expect("memory works");
        if let Some(host) = &machine.host {
            self.invariants.persisted(member, host);
        }
        if let Some(host) = &mut machine.host
            && let Err(error) = host.persisted(group, through)
        {
            self.failed(member, &error);
        }
    }

    pub(super) fn event(&mut self, id: MemberId, event: Event) {
        let now = self.local(id);
        if let Some(host) = self.machines.get_mut(&id).and_then(|machine| machine.host.as_mut()) {
            // A member whose disk fails ends.
            match host.step(now, GroupId::DEFAULT, event) {
                Ok(()) => self.flush(id),
                Err(error) => self.failed(id, &error),
            }
        }
    }

    pub(super) fn flush(&mut self, id: MemberId) {
        let now = self.local(id);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let boot = machine.boots;
        let Some(host) = &mut machine.host else { return };
        // A new segment is synced when it is made, which may fail too.
        let outputs = match host.flush(now) {
            Ok(outputs) => outputs,
            Err(error) => return self.failed(id, &error),
        };
        self.trace.stepped(id, host);
        if let Err(what) = self.invariants.check(id, self.without_data.contains(&id), host) {
            self.broken.get_or_insert(what);
        }
        self.observe(id);
        for output in outputs {
            self.perform(id, boot, output);
        }
    }

    fn perform(&mut self, id: MemberId, boot: u64, output: Output) {
        match output {
            Output::Send { to, payload, .. } => self.post(id, to, payload),
            Output::Sync(job) => {
                let in_ms = self.random.below(self.machines[&id].sync_ms_max);
                self.plan_crash_in_sync(id, boot, in_ms);
                self.plan(in_ms, Happening::Synced { member: id, boot, job });
            }
            Output::Reply { result: Ok(Answer::Transferred(_)), .. } => {
                self.reached("leadership handed over")
            }
            Output::Reply { id: request, result } => match self.changes.remove(&(id, request)) {
                Some(class) => self.changed(class, result),
                None => self.answered(id, request, result),
            },
            Output::SendSnapshot { to, mut snapshot, .. } => {
                let mut chunks = Vec::new();
                while let Some(chunk) = snapshot.next_chunk().expect("memory works") {
                    chunks.push(chunk);
                }
                let (index, epoch) = (snapshot.index, snapshot.epoch);
                let in_ms = self.snapshot_ms();
                self.plan(in_ms, Happening::Snapshot { from: id, to, index, epoch, chunks });
            }
            Output::Persist { group, through } => {
                let in_ms = self.random.below(PERSIST_MS_MAX);
                self.plan(in_ms, Happening::Persisted { member: id, boot, group, through });
            }
            Output::Leadership { epoch, leader, established, .. } => {
                if established {
                    self.reached("leader established");
                    self.tell(|| format!("member {id} leads in epoch {epoch}"));
                } else if leader == Some(id) {
                    self.churn_early(id);
                }
            }
            Output::Removed { .. } => self.retire(id),
            Output::Published { reader, events, .. } => {
                self.published(id, &reader, events);
                self.look_at_level(id);
            }
            Output::Membership { membership, .. } => {
                let voters = membership.voters();
                if let Some(voter) = voters.iter().find(|voter| !self.may_vote.contains(voter)) {
                    let what =
                        format!("{voter} is a voter on member {id}, and nobody asked for its promotion");
                    self.broken.get_or_insert(Kind::Roles.found()(what));
                }
                let before = self.machines.get(&id).map(|machine| machine.membership.voters());
                self.change_machine(id, |machine| machine.membership = membership);
                if before.is_some_and(|before| before != voters) && !self.active.is_empty() {
                    self.reached("membership changed under faults");
                }
            }
        }
    }

    pub(super) fn post(&mut self, from: MemberId, to: MemberId, payload: Bytes) {
        match self.network.fate(from, to, self.now, &mut self.random) {
            Fate::Lost => self.report.lost += 1,
            Fate::Arrives { in_ms, again_in_ms } => {
                if let Some(later) = again_in_ms {
                    self.plan(later, Happening::Message { from, to, payload: payload.clone() });
                }
                self.plan(in_ms, Happening::Message { from, to, payload });
            }
        }
    }
}
