//! The group's feature level: the leader asks every member what it understands, and has the lowest answer decided.
//!
//! Why, and what it means for upgrades: `DESIGN.md`.

use std::collections::BTreeMap;

use quorate_consensus::id::{MemberId, Time};
use quorate_state::command::{Command, CommandKind};

use crate::envelope::Envelope;
use crate::mutants::mutant;
use crate::payload::Origin;
use crate::replica::Replica;

/// How long the leader waits for answers before it asks again. An upgrade lasts minutes, and a question is cheap.
const ASK_EVERY_MS: u64 = 1_000;

/// What members told their leader. Empty on others.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    /// Since the last question: what a member told before it was started again, perhaps in an earlier version, is forgotten.
    told: BTreeMap<MemberId, u32>,
    ask_at: Time,
}

impl Replica {
    /// When members are to be asked, if this member leads and could do more than the group does.
    pub(crate) fn levels_deadline(&self) -> Option<Time> {
        let higher = self.state.level() < self.state.supported_level();
        (self.leading.is_some() && higher).then_some(self.levels.ask_at)
    }

    /// Asks every member for its level.
    pub(crate) fn ask_levels(&mut self, now: Time) {
        if self.levels_deadline().is_none_or(|at| now < at) {
            return;
        }
        self.levels = Levels { told: BTreeMap::new(), ask_at: now.after_ms(ASK_EVERY_MS) };
        for member in self.everybody() {
            if member != self.id {
                self.send(member, Envelope::TellLevel);
            }
        }
        self.level_told(self.id, self.state.supported_level());
    }

    /// A member understands levels up to this one. The last answer raises the group's level.
    pub(crate) fn level_told(&mut self, from: MemberId, level: u32) {
        if self.levels_deadline().is_none() {
            return;
        }
        self.levels.told.insert(from, level);
        let told = |member| self.levels.told.get(&member).copied();
        if mutant!(LevelRaisedEarly) && 2 * self.levels.told.len() > self.everybody().len() {
            let lowest = self.levels.told.values().copied().min().unwrap_or_default();
            return self.raise_level(lowest);
        }
        // A member that has not answered may be an old one.
        let Some(levels) = self.everybody().into_iter().map(told).collect::<Option<Vec<u32>>>() else {
            return;
        };
        self.raise_level(levels.into_iter().min().unwrap_or_default());
    }

    fn raise_level(&mut self, lowest: u32) {
        if lowest > self.state.level() {
            self.levels.told.clear();
            let command = Command::new(CommandKind::RaiseLevel(lowest));
            self.commands.push(Origin::NOBODY, command.to_bytes());
        }
    }

    /// Voters, witnesses and learners, and voters that are leaving: all of them apply what is decided next.
    fn everybody(&self) -> Vec<MemberId> {
        let membership = self.membership();
        let leaving = membership.outgoing.keys().filter(|id| !membership.members.contains_key(id));
        membership.members.keys().chain(leaving).copied().collect()
    }
}
