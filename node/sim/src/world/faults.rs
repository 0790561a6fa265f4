//! Faults begin and end. They overlap: each has its own end, or lasts until the world heals.

use quorate_consensus::id::{MemberId, Time};
use quorate_replica::event::{Event, Request, RequestId};

use super::clients::{CLIENTS, PATIENCE_MS};
use super::machine::Machine;
use super::network::Trouble;
use super::{Happening, World};
use crate::finding::Kind;
use crate::schedule::{CRASH_IN_SYNC, Fault, Planned, Target};

/// A stalled disk's sync.
const STALLED_SYNC_MS_MAX: u64 = 6_000;
/// A process that ended by itself is started again within this time.
const RESTART_MS_MAX: u64 = 1_500;
/// How soon peers notice that a connection was reset.
const RESET_MS_MAX: u64 = 12;

/// A snapshot takes up to this long, one in eight of them longer while faults go on.
const SNAPSHOT_MS_MAX: u64 = 70;
const SLOW_SNAPSHOT_MS_MAX: u64 = 4_000;
/// A machine that stopped in a sync starts again after so long, at most.
const BACK_MS_MAX: u64 = 2_000;

impl World {
    /// A fault of the schedule begins.
    pub(super) fn begin_fault(&mut self, place: usize) {
        let Some(&Planned { for_ms, fault, .. }) = self.schedule.faults.get(place) else { return };
        if !self.strike(place, fault) {
            return;
        }
        self.tell(|| format!("fault {place} for {for_ms} ms: {} {fault:?}", fault.class()));
        *self.report.faults.entry(fault.class()).or_default() += 1;
        self.active.insert(place);
        self.report.overlapping = self.report.overlapping.max(self.active.len() as u64);
        self.plan(for_ms, Happening::FaultEnds { place });
    }

    /// Lets a fault happen; `false` if it can't now.
    fn strike(&mut self, place: usize, fault: Fault) -> bool {
        let troubles = match fault {
            Fault::Loss(percent) => vec![Trouble::Loss(percent)],
            Fault::Delay(ms) => vec![Trouble::Delay(ms)],
            Fault::Duplication(percent) => vec![Trouble::Duplication(percent)],
            Fault::Reordering(percent) => vec![Trouble::Reordering(percent)],
            Fault::Late(percent) => vec![Trouble::Late(percent)],
            Fault::Lag(target, ms) => match self.find(target) {
                Some(late) => vec![Trouble::Lag(late, ms)],
                None => return false,
            },
            Fault::Partition(sides) => self.partition(sides),
            Fault::PartialPartition(one, other) => match self.two(one, other) {
                Some((one, other)) => vec![Trouble::Cut(one, other), Trouble::Cut(other, one)],
                None => return false,
            },
            Fault::OneWay(one, other) => match self.two(one, other) {
                Some((one, other)) => vec![Trouble::Cut(one, other)],
                None => return false,
            },
            Fault::Flapping(one, other, period_ms) => match self.two(one, other) {
                Some((one, other)) => vec![Trouble::Flapping(one, other, period_ms, self.now)],
                None => return false,
            },
            Fault::Isolation(target) => self.isolation(target),
            Fault::PowerLoss(target) | Fault::Kill(target) => {
                return self.end_process(place, target, matches!(fault, Fault::PowerLoss(_)));
            }
            Fault::Blackout => return self.blackout(place),
            Fault::Churn => return self.churns && self.churn(),
            Fault::Pause(_)
            | Fault::ClockRate(..)
            | Fault::ClockJump(..)
            | Fault::SlowDisk(..)
            | Fault::StalledDisk(_)
            | Fault::SyncError(_)
            | Fault::WriteError(_)
            | Fault::DiskFull(_)
            | Fault::BitRot(_)
            | Fault::MisdirectedWrite(_)
            | Fault::Wipe(_)
            | Fault::SnapshotsInterrupted
            | Fault::Overload(_)
            | Fault::LeaderTransfer(_)
            | Fault::ConnectionReset(..) => return self.strike_machine(place, fault),
        };
        self.network.begin(place, troubles);
        true
    }

    fn strike_machine(&mut self, place: usize, fault: Fault) -> bool {
        let now = self.now;
        let for_ms = self.schedule.faults.get(place).map_or(0, |planned| planned.for_ms);
        match fault {
            Fault::Pause(target) => self.on_machine(place, target, |machine| {
                machine.paused_until = now.after_ms(for_ms);
            }),
            Fault::ClockRate(target, rate) => self.on_machine(place, target, |m| m.clock.run_at(now, rate)),
            // A monotonic clock may jump ahead (a machine slept), never back.
            Fault::ClockJump(target, ms) => self.on_machine(place, target, |m| m.clock.jump(now, ms)),
            Fault::SlowDisk(target, ms) => self.on_machine(place, target, |m| m.sync_ms_max = ms),
            Fault::StalledDisk(target) => {
                self.on_machine(place, target, |machine| machine.sync_ms_max = STALLED_SYNC_MS_MAX)
            }
            Fault::SyncError(target) => self.on_machine(place, target, |machine| {
                machine.disk_failed = true;
                machine.disk.fail_syncs(true);
            }),
            Fault::WriteError(target) => self.on_machine(place, target, |machine| {
                machine.disk_failed = true;
                machine.disk.fail_writes(true);
            }),
            Fault::DiskFull(target) => self.on_machine(place, target, |machine| {
                machine.disk_failed = true;
                machine.disk.fill(true);
            }),
            Fault::BitRot(target) => self.rot(place, target),
            Fault::MisdirectedWrite(target) => self.misdirect(place, target),
            Fault::Wipe(target) => self.wipe(target),
            Fault::SnapshotsInterrupted => {
                self.snapshots_interrupted += 1;
                true
            }
            Fault::Overload(requests) => {
                (0..requests).for_each(|_| self.plan(0, Happening::Ask { client: CLIENTS }));
                true
            }
            Fault::LeaderTransfer(target) => self.ask_transfer(target),
            Fault::ConnectionReset(one, other) => match self.two(one, other) {
                Some((at, peer)) => {
                    self.event(at, Event::Unreachable { peer, reset: true });
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// A fault of the schedule is over.
    pub(super) fn end_fault(&mut self, place: usize) {
        let Some(&Planned { fault, .. }) = self.schedule.faults.get(place) else { return };
        if !self.active.remove(&place) {
            return;
        }
        self.network.end(place);
        let hit = self.hit.remove(&place).unwrap_or_default();
        if matches!(fault, Fault::SnapshotsInterrupted) {
            self.snapshots_interrupted -= 1;
        }
        let now = self.now;
        for id in hit {
            match fault {
                Fault::PowerLoss(_) | Fault::Kill(_) | Fault::Blackout | Fault::BitRot(_) => self.boot(id),
                Fault::MisdirectedWrite(_) => {
                    self.change_machine(id, |machine| machine.disk.direct_writes());
                    self.crash(id);
                    self.boot(id);
                }
                Fault::ClockRate(..) => self.change_machine(id, |machine| machine.clock.run_true(now)),
                Fault::SlowDisk(..)
                | Fault::StalledDisk(_)
                | Fault::SyncError(_)
                | Fault::WriteError(_)
                | Fault::DiskFull(_) => self.change_machine(id, Machine::repair_disk),
                _ => {}
            }
        }
    }

    /// Whether faults go on: nothing healed yet.
    fn is_faulty(&self) -> bool {
        !self.schedule.faults.is_empty()
    }

    /// One sync in a hundred is not the end of its write: the machine stops before.
    pub(super) fn plan_crash_in_sync(&mut self, member: MemberId, boot: u64, sync_ms: u64) {
        if self.is_faulty() && self.random.chance(1) {
            let in_ms = self.random.below(sync_ms + 1);
            self.plan(in_ms, Happening::CrashInSync { member, boot });
        }
    }

    pub(super) fn crash_in_sync(&mut self, member: MemberId, boot: u64) {
        let same = |machine: &Machine| machine.boots == boot && machine.host.is_some();
        if self.is_faulty() && self.machines.get(&member).is_some_and(same) {
            *self.report.faults.entry(CRASH_IN_SYNC).or_default() += 1;
            self.crash(member);
            let in_ms = self.random.below(BACK_MS_MAX);
            self.plan(in_ms, Happening::Restart { member });
        }
    }

    pub(super) fn snapshot_ms(&mut self) -> u64 {
        let slow = self.is_faulty() && self.random.below(8) == 0;
        20 + self.random.below(if slow { SLOW_SNAPSHOT_MS_MAX } else { SNAPSHOT_MS_MAX })
    }

    /// The machine that a target names now.
    pub(super) fn find(&self, target: Target) -> Option<MemberId> {
        let ids: Vec<MemberId> =
            self.machines.iter().filter(|(_, machine)| !machine.is_gone()).map(|(&id, _)| id).collect();
        let leader = match target {
            Target::Leader => self.leader(),
            Target::Machine(_) => None,
        };
        let number = match target {
            Target::Leader => 0,
            Target::Machine(number) => number,
        };
        let counted = ids.get(usize::try_from(number).unwrap_or(0) % ids.len().max(1)).copied();
        leader.or(counted)
    }

    /// Two machines, if the targets are not one.
    fn two(&self, one: Target, other: Target) -> Option<(MemberId, MemberId)> {
        let one = self.find(one)?;
        let other = self.find(other)?;
        if one != other {
            return Some((one, other));
        }
        let next = self.machines.range(other..).nth(1).or(self.machines.first_key_value());
        next.map(|(&next, _)| (one, next)).filter(|(one, next)| one != next)
    }

    fn on_machine(&mut self, place: usize, target: Target, change: impl FnOnce(&mut Machine)) -> bool {
        let Some(id) = self.find(target) else { return false };
        self.hit.entry(place).or_default().push(id);
        self.change_machine(id, change);
        true
    }

    pub(super) fn change_machine(&mut self, id: MemberId, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machines.get_mut(&id) {
            change(machine);
        }
    }

    fn partition(&self, sides: u64) -> Vec<Trouble> {
        let side = |id: MemberId| sides >> (id.0 % 64) & 1;
        let ids = || self.machines.keys().copied();
        let across = ids().flat_map(|one| ids().map(move |other| (one, other)));
        across
            .filter(|(one, other)| side(*one) != side(*other))
            .map(|(one, other)| Trouble::Cut(one, other))
            .collect()
    }

    fn isolation(&self, target: Target) -> Vec<Trouble> {
        let Some(id) = self.find(target) else { return Vec::new() };
        let peers = self.machines.keys().copied().filter(|peer| *peer != id);
        peers.flat_map(|peer| [Trouble::Cut(id, peer), Trouble::Cut(peer, id)]).collect()
    }

    fn end_process(&mut self, place: usize, target: Target, power: bool) -> bool {
        let Some(id) = self.find(target).filter(|id| self.machines[id].host.is_some()) else { return false };
        self.hit.entry(place).or_default().push(id);
        if power {
            self.crash(id);
        } else {
            self.kill(id);
        }
        true
    }

    fn blackout(&mut self, place: usize) -> bool {
        let up = self.machines.iter().filter(|(_, machine)| machine.host.is_some());
        let up: Vec<MemberId> = up.map(|(&id, _)| id).collect();
        up.iter().for_each(|&id| self.crash(id));
        self.reached("every member down at once");
        self.hit.insert(place, up);
        true
    }

    fn ask_transfer(&mut self, target: Target) -> bool {
        let Some(id) = self.find(target).filter(|id| self.machines[id].host.is_some()) else { return false };
        self.moment += 1;
        let deadline = self.local(id).after_ms(PATIENCE_MS);
        let request = Request::Transfer(None);
        self.event(id, Event::Request { id: RequestId(self.moment), request, deadline });
        true
    }

    /// The power of a machine fails.
    pub(super) fn crash(&mut self, id: MemberId) {
        self.tell(|| format!("member {id} loses its power"));
        self.stopping(id);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.crash(&mut self.random);
        self.stopped(id);
    }

    /// A process ends; its machine goes on.
    pub(super) fn kill(&mut self, id: MemberId) {
        self.tell(|| format!("member {id} is killed"));
        self.stopping(id);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.kill();
        self.stopped(id);
    }

    /// The process ended by itself, because its disk failed; it is started again, as an orchestrator does.
    pub(super) fn ended(&mut self, id: MemberId, why: &str) {
        self.tell(|| format!("member {id} ends: {why}"));
        if let Some(machine) = self.machines.get(&id)
            && !machine.disk_failed
            && !self.atlas.is_damaged(id)
            && !machine.retired
        {
            let what = format!("member {id} ended without a fault of its disk: {why}");
            self.broken.get_or_insert(Kind::Ended.found()(what));
        }
        self.kill(id);
        let in_ms = 200 + self.random.below(RESTART_MS_MAX);
        self.plan(in_ms, Happening::Restart { member: id });
    }

    /// What a process leaves behind: most peers notice that their connection was reset.
    fn stopped(&mut self, id: MemberId) {
        self.invariants.stopped(id);
        for peer in self.machines.keys().copied().filter(|peer| *peer != id).collect::<Vec<_>>() {
            if self.random.chance(70) {
                let in_ms = self.random.below(RESET_MS_MAX);
                self.plan(in_ms, Happening::Reset { at: peer, peer: id });
            }
        }
        self.unanswered(id);
        self.unwatched(id);
        self.changes.retain(|(member, _), _| *member != id);
    }

    /// Every fault ends.
    pub(super) fn end_faults(&mut self) {
        self.active.clear();
        self.hit.clear();
        self.network.heal();
        self.snapshots_interrupted = 0;
        let now = self.now;
        for machine in self.machines.values_mut() {
            machine.paused_until = Time(0);
            machine.clock.run_true(now);
            machine.repair_disk();
            machine.disk.direct_writes();
        }
    }

    /// Whoever belongs to the cluster runs.
    pub(super) fn boot_all(&mut self) {
        let down = self.machines.iter().filter(|(_, machine)| machine.host.is_none() && !machine.is_gone());
        let down: Vec<MemberId> = down.map(|(&id, _)| id).collect();
        down.into_iter().for_each(|id| self.boot(id));
    }
}
