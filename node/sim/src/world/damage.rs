//! Damage to what was durable, and the atlas that keeps it survivable: copies of a minority alone are damaged at one time.
//!
//! Repair from peers is not there yet. A damaged member refuses to start, and the world replaces it as the operator does
//! (`operator`). It counts as damaged until it has left the membership, whether somebody noticed or not.

use std::collections::BTreeSet;

use quorate_consensus::id::MemberId;
use quorate_replica::error::BootError;
use quorate_state::error::MachineError;
use quorate_storage::disk::DiskError;
use quorate_storage::wal::WalError;

use super::{Happening, World};
use crate::finding::Kind;
use crate::schedule::Target;

/// A change of the membership that was asked for may take effect for so long.
const CHANGE_SETTLES_MS: u64 = 6_000;

/// Whose copies are damaged.
#[derive(Debug, Default)]
pub(super) struct Atlas {
    damaged: BTreeSet<MemberId>,
}

impl Atlas {
    pub(super) fn is_damaged(&self, id: MemberId) -> bool {
        self.damaged.contains(&id)
    }

    /// It left the membership, or was found sound.
    pub(super) fn forget(&mut self, id: MemberId) {
        self.damaged.remove(&id);
    }

    /// Whether nobody's copy is damaged.
    pub(super) fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Whether one more copy may be damaged: every membership that may be in force keeps a quorum of sound ones.
    fn allows<'a>(
        &self,
        id: MemberId,
        mut memberships: impl Iterator<Item = &'a quorate_consensus::membership::Membership>,
    ) -> bool {
        memberships.all(|membership| {
            let sound = |member: MemberId| member != id && !self.damaged.contains(&member);
            membership.quorum().reached(sound)
        })
    }
}

impl World {
    /// Whether a member may be damaged now. It counts as damaged from here on.
    fn damage(&mut self, target: Target) -> Option<MemberId> {
        let id = self.find(target)?;
        // As an operator has it: not while the membership changes, nor before everybody knows that it did.
        let settles = self.now.since_ms(self.change_asked) < CHANGE_SETTLES_MS;
        let known =
            || self.machines.values().filter(|machine| !machine.is_gone()).map(|machine| &machine.membership);
        // A change that stands in a log may be decided much later, by whoever finds it there.
        let ids = self.machines.iter().filter(|(_, machine)| !machine.is_gone()).map(|(id, _)| *id);
        let undecided = ids.flat_map(|id| self.invariants.undecided_memberships(id));
        let undecided = undecided.map(|membership| (membership.voters(), membership.is_joint()));
        let voters: BTreeSet<_> =
            known().map(|membership| (membership.voters(), membership.is_joint())).chain(undecided).collect();
        if !self.without_data.is_empty()
            || settles
            || voters.len() != 1
            || self.atlas.is_damaged(id)
            || !self.atlas.allows(id, known())
        {
            return None;
        }
        self.atlas.damaged.insert(id);
        Some(id)
    }

    /// Flips a bit of something that is certainly durable. The process ends, and finds it when it starts again.
    pub(super) fn rot(&mut self, place: usize, target: Target) -> bool {
        let Some(id) = self.damage(target) else { return false };
        let (disk, random) = (self.machines[&id].disk.clone(), &mut self.random);
        let Some(path) = disk.rot_anywhere(|end| random.below(end as u64) as usize) else {
            self.atlas.forget(id);
            return false;
        };
        self.tell(|| format!("a bit of {} of member {id} flips", path.display()));
        self.kill(id);
        self.hit.entry(place).or_default().push(id);
        true
    }

    /// The next write of a member lands somewhere else.
    pub(super) fn misdirect(&mut self, place: usize, target: Target) -> bool {
        let Some(id) = self.damage(target) else { return false };
        let sectors = 1 + self.random.below(8);
        self.change_machine(id, |machine| machine.disk.misdirect_next_write(sectors as usize));
        self.hit.entry(place).or_default().push(id);
        true
    }

    /// A machine loses its disk. A process that starts on an empty one finds out that it was there before, and does not take
    /// part (`bootstrap` of the server).
    pub(super) fn wipe(&mut self, target: Target) -> bool {
        let Some(id) = self.damage(target) else { return false };
        self.crash(id);
        self.lost(id);
        true
    }

    /// A member is not coming back: the operator replaces it.
    pub(super) fn lost(&mut self, id: MemberId) {
        self.tell(|| format!("member {id} is lost"));
        self.change_machine(id, |machine| machine.lost = true);
        self.reached("member lost for good");
    }

    /// A start failed. Damage that the atlas knows of is a reason; a failing disk is one, for a while.
    pub(super) fn not_started(&mut self, id: MemberId, error: &BootError) {
        self.tell(|| format!("member {id} does not start: {error}"));
        let failing = self.machines[&id].disk_failed
            && matches!(error, BootError::Wal(WalError::Disk(DiskError { .. })));
        if matches!(error, BootError::Machine(MachineError::Level { .. })) {
            self.too_old(id);
        } else if failing {
            let in_ms = 500 + self.random.below(500);
            self.plan(in_ms, Happening::Restart { member: id });
        } else if self.atlas.is_damaged(id) {
            self.reached("damaged member refused to start");
            self.lost(id);
        } else {
            let what = format!("member {id} does not start, though nothing was damaged: {error}");
            self.broken.get_or_insert(Kind::Start.found()(what));
        }
    }

    /// A start succeeded: all that recovery needs was found sound.
    pub(super) fn found_sound(&mut self, id: MemberId) {
        let disk = &self.machines[&id].disk;
        let misdirected = disk.is_misdirecting() || disk.misdirected_lately();
        if self.atlas.is_damaged(id) && !misdirected {
            self.atlas.forget(id);
            self.reached("damage that a second copy made good");
        }
    }
}
