//! Members of two versions: founders begin with the old one and are upgraded one after the other as they start again; now and then
//! one is taken back. A version is its feature level here: see `node/replica/DESIGN.md`.

use quorate_consensus::id::MemberId;
use quorate_replica::error::Fatal;
use quorate_replica::event::GroupId;
use quorate_state::error::MachineError;
use quorate_state::machine::LEVEL;

use super::{Happening, World};
use crate::finding::Kind;
use crate::schedule;

/// What a later version understands.
const NEW: u32 = LEVEL + 1;
/// Of 100 starts in the old version so many are the upgrade.
const UPGRADED: u64 = 30;
/// Of 100 starts in the new version so many take it back.
const TAKEN_BACK: u64 = 8;
/// An orchestrator starts the right version after this time.
const CORRECTED_MS: u64 = 500;

/// A machine's version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    /// What it understands.
    pub(super) level: u32,
    /// It was of the new version once: it may have told so.
    was_new: bool,
}

impl Version {
    pub(super) fn old() -> Self {
        Self { level: LEVEL, was_new: false }
    }

    fn new() -> Self {
        Self { level: NEW, was_new: true }
    }
}

impl World {
    /// Chooses the version that a machine starts in. Whoever comes later is of the new one at once, and nobody is taken back when
    /// everything has healed.
    pub(super) fn choose_version(&mut self, id: MemberId) {
        let Some(machine) = self.machines.get(&id).filter(|_| self.upgrades) else { return };
        // A witness that comes later is a voter of the membership that it starts with, as a founder is.
        let founder = id.0 <= self.founders;
        let (before, first) = (machine.version, machine.boots == 0);
        let (faulty, chance) = (!self.schedule.faults.is_empty(), self.random.below(100));
        let version = match before.level {
            NEW if faulty && chance < TAKEN_BACK => Version { level: LEVEL, ..before },
            NEW => before,
            _ if first && founder => before,
            _ if first || !faulty || chance < UPGRADED => Version::new(),
            _ => before,
        };
        if version.level != before.level && !first {
            let class = if version.level == NEW { schedule::UPGRADED } else { schedule::TAKEN_BACK };
            self.tell(|| format!("{class}: {id}"));
            *self.report.faults.entry(class).or_default() += 1;
        }
        self.change_machine(id, |machine| machine.version = version);
    }

    /// A process ended by itself.
    pub(super) fn failed(&mut self, id: MemberId, error: &Fatal) {
        if let Some(host) = self.machines.get(&id).and_then(|machine| machine.host.as_ref()) {
            self.invariants.failed(id, host);
        }
        match error {
            Fatal::Machine(MachineError::Level { .. }) => {
                self.tell(|| format!("member {id} ends: {error}"));
                self.kill(id);
                self.too_old(id);
            }
            Fatal::Wal(_) | Fatal::Machine(_) | Fatal::Unreadable(_) => self.ended(id, &error.to_string()),
        }
    }

    /// A member met a level that its version does not know. Only one that was of the new version before may: the level is raised
    /// when every member has told that it understands it.
    pub(super) fn too_old(&mut self, id: MemberId) {
        let was_new = self.machines.get(&id).is_some_and(|machine| machine.version.was_new);
        if !was_new {
            let what = format!("member {id} met a feature level that it never told to understand");
            self.broken.get_or_insert(Kind::Levels.found()(what));
        }
        self.reached("downgrade refused behind a raised level");
        self.change_machine(id, |machine| machine.version = Version::new());
        self.plan(CORRECTED_MS, Happening::Restart { member: id });
    }

    /// Looks whether the group's level was raised; counted once.
    pub(super) fn look_at_level(&mut self, id: MemberId) {
        const RAISED: &str = "feature level raised under faults";
        if !self.upgrades || self.report.reached.contains_key(RAISED) {
            return;
        }
        let host = self.machines.get(&id).and_then(|machine| machine.host.as_ref());
        let replica = host.and_then(|host| host.replica(GroupId::DEFAULT));
        if replica.is_some_and(|replica| replica.state().level() == NEW) && !self.schedule.faults.is_empty() {
            self.reached(RAISED);
        }
    }
}
