//! What goes wrong. Faults overlap: each has its own end, or lasts until the world heals.

use quorate_consensus::id::{MemberId, Time};
use quorate_replica::event::{Event, Request, RequestId};

use super::clients::PATIENCE_MS;
use super::{DELAY_MS_MAX, Happening, World};

/// How long a machine pauses, a clock jumps, a disk stalls, at most.
const PAUSE_MS_MAX: u64 = 4_000;
/// A slow disk's sync.
const SLOW_SYNC_MS_MAX: u64 = 400;

impl World {
    /// One fault, by chance.
    pub(super) fn fault(&mut self) {
        let (id, other) = (self.any_machine(), self.any_machine());
        let is_up = self.machines[&id].host.is_some();
        let class = match self.random.below(24) {
            0 | 1 if is_up => {
                self.crash(id);
                "crash with loss and tearing of unsynced writes"
            }
            2..=6 if !is_up && !self.machines[&id].retired => {
                self.boot(id);
                "restart"
            }
            7 if id != other => {
                self.cuts.insert((id, other));
                "one-way cut"
            }
            8 => {
                self.isolate(id);
                "isolation"
            }
            9 => {
                self.split();
                "partition in two"
            }
            10 if id != other => {
                self.cuts.extend([(id, other), (other, id)]);
                "partial partition"
            }
            11..=13 => {
                self.cuts.clear();
                return;
            }
            14 if is_up => {
                self.ask_transfer(id);
                "leader transfer"
            }
            15 if id != other => {
                self.event(id, Event::Unreachable { peer: other, reset: true });
                "connection reset"
            }
            16 if is_up => {
                let in_ms = self.random.below(PAUSE_MS_MAX);
                self.pause(id, self.now.after_ms(in_ms));
                "pause"
            }
            17 => {
                // A monotonic clock may jump ahead (a machine slept), never back.
                let ms = self.random.below(PAUSE_MS_MAX);
                let now = self.now;
                self.change_machine(id, |machine| machine.clock.jump(now, ms));
                "clock jump"
            }
            18 => {
                self.change_machine(id, |machine| machine.sync_ms_max = SLOW_SYNC_MS_MAX);
                "slow disk"
            }
            19 => {
                self.change_machine(id, |machine| machine.sync_ms_max = PAUSE_MS_MAX);
                "stalled disk"
            }
            20 => {
                self.change_machine(id, super::machine::Machine::repair_disk);
                return;
            }
            21 if is_up && self.random.chance(30) => {
                self.change_machine(id, |machine| machine.disk.fail_syncs(true));
                "sync error"
            }
            22 => {
                self.reorder_ms =
                    if self.reorder_ms == DELAY_MS_MAX { 20 * DELAY_MS_MAX } else { DELAY_MS_MAX };
                "long delays and reordering"
            }
            23 if self.churns => return self.churn(),
            _ => return,
        };
        *self.report.faults.entry(class).or_default() += 1;
    }

    fn any_machine(&mut self) -> MemberId {
        let ids: Vec<MemberId> = self.machines.keys().copied().collect();
        ids[self.random.below(ids.len() as u64) as usize]
    }

    fn isolate(&mut self, id: MemberId) {
        for peer in self.machines.keys().copied().filter(|peer| *peer != id).collect::<Vec<_>>() {
            self.cuts.extend([(id, peer), (peer, id)]);
        }
    }

    fn split(&mut self) {
        let ids: Vec<MemberId> = self.machines.keys().copied().collect();
        let left: Vec<bool> = ids.iter().map(|_| self.random.chance(50)).collect();
        for (&a, &a_left) in ids.iter().zip(&left) {
            let right = ids.iter().zip(&left).filter(|(_, b_left)| **b_left != a_left);
            self.cuts.extend(right.map(|(&b, _)| (a, b)));
        }
    }

    fn ask_transfer(&mut self, id: MemberId) {
        self.moment += 1;
        let deadline = self.local(id).after_ms(PATIENCE_MS);
        let request = Request::Transfer(None);
        self.event(id, Event::Request { id: RequestId(self.moment), request, deadline });
    }

    fn pause(&mut self, id: MemberId, until: Time) {
        self.tell(|| format!("member {id} pauses until {until}"));
        self.change_machine(id, |machine| machine.paused_until = until);
    }

    fn change_machine(&mut self, id: MemberId, change: impl FnOnce(&mut super::machine::Machine)) {
        if let Some(machine) = self.machines.get_mut(&id) {
            change(machine);
        }
    }

    /// The process ends without a word to anybody; most peers notice that their connection was reset.
    pub(super) fn crash(&mut self, id: MemberId) {
        self.tell(|| format!("member {id} crashes"));
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.crash(&mut self.random);
        self.invariants.stopped(id);
        for peer in self.machines.keys().copied().filter(|peer| *peer != id).collect::<Vec<_>>() {
            if self.random.chance(70) {
                let in_ms = self.random.below(DELAY_MS_MAX);
                self.plan(in_ms, Happening::Reset { at: peer, peer: id });
            }
        }
        self.unanswered(id);
        self.unwatched(id);
        self.changes.retain(|(member, _), _| *member != id);
    }

    /// Every fault ends, and whoever belongs to the cluster runs.
    pub(super) fn heal(&mut self) {
        self.tell(|| "everything heals".into());
        self.cuts.clear();
        self.loss_percent = 0;
        self.reorder_ms = DELAY_MS_MAX;
        for machine in self.machines.values_mut() {
            machine.paused_until = Time(0);
            machine.repair_disk();
        }
        let down = self.machines.iter().filter(|(_, machine)| machine.host.is_none() && !machine.retired);
        let down: Vec<MemberId> = down.map(|(&id, _)| id).collect();
        down.into_iter().for_each(|id| self.boot(id));
    }
}
