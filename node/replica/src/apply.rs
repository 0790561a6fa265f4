//! From decided entries to answers.

use quorate_consensus::entry::{Entry, Kind};
use quorate_consensus::id::{Epoch, Index, MemberId, Time};
use quorate_consensus::log::{Layout, LogRead};
use quorate_consensus::membership::Membership;
use quorate_state::command::{Command, CommandKind, LeaseRevoke};
use quorate_state::machine::{self, Payload};
use quorate_storage::backend::Table;

use crate::error::Fatal;
use crate::host::Retention;
use crate::log::SharedLog;
use crate::mutants::{self, mutant};
use crate::output::{Answer, Failure, Output};
use crate::payload::{self, Origin};
use crate::pending::Waiting;
use crate::replica::Replica;
use crate::snapshot::Snapshot;

/// Payload applied in one batch, at most, so that others get their turn.
const APPLY_BYTES_MAX: usize = 1 << 20;

impl Replica {
    pub(crate) fn state_index(&self) -> Index {
        Index(self.state.applied().0)
    }

    /// Whether decided entries can be applied now.
    pub(crate) fn has_work(&self) -> bool {
        self.appliable() > self.state_index() && self.backend.has_room()
    }

    /// Whether decided entries wait until the engine has caught up with the disk. The log goes on meanwhile: a member whose
    /// disk is slow at merging files stays a leader or a follower.
    pub(crate) fn is_held_up(&self) -> bool {
        self.appliable() > self.state_index() && !self.backend.has_room()
    }

    /// Entries are applied once decided and durable here: the state never outruns the log.
    fn appliable(&self) -> Index {
        if mutant!(AppliedBeforeDurable) { self.commit } else { self.commit.min(self.durability.durable()) }
    }

    /// Applies one batch of decided entries.
    pub(crate) fn apply(&mut self, now: Time, log: &mut SharedLog) -> Result<(), Fatal> {
        if !self.has_work() {
            return Ok(());
        }
        let from = self.state_index().next();
        let to = self.appliable().next();
        let mut entries = log
            .group(self.group)
            .entries(from, to, APPLY_BYTES_MAX)
            .map_err(|_| Fatal::Unreadable(from.0))?;
        self.pass_over_void(&mut entries);
        let own = self.id;
        let asked = |index: u64| {
            let entry = entries.get(usize::try_from(index - from.0).ok()?)?;
            origin(entry).filter(|origin| origin.member == own).map(|origin| origin.request)
        };
        let applied = {
            let layout = self.layout;
            let mut decided: Vec<_> = entries.iter().map(|entry| machine_entry(entry, layout)).collect();
            if mutant!(PromotionNotStored) {
                mutants::forget_promotions(&mut decided, self.state.membership());
            }
            self.state.apply(decided)?
        };
        for change in &applied.leases {
            self.leases.changed(now, *change);
        }
        for (index, response) in applied.responses {
            if let Some(request) = asked(index)
                && self.pending.remove(request).is_some()
            {
                self.reply(request, Ok(Answer::Applied { index: Index(index), response }));
            }
        }
        for index in applied.dropped {
            if let Some(request) = asked(index)
                && self.pending.remove(request).is_some()
            {
                self.reply(request, Err(Failure::Lost));
            }
        }
        self.membership_applied(&entries);
        self.answer_waiting();
        let (group, reader, applied_index) = (self.group, self.state.reader(), self.state_index());
        let mut events = applied.events;
        if mutant!(EventsLost, EventsTwice, EventsOutOfOrder) {
            mutants::disturb(&mut events);
        }
        self.outputs.push(Output::Published { group, reader, events, applied: applied_index });
        self.maybe_persist(log)
    }

    /// Makes no-ops of memberships that were decided and have no effect ([`Membership::follows`]).
    fn pass_over_void(&self, entries: &mut [Entry]) {
        let mut present = None;
        for entry in entries {
            let Ok(Some(next)) = Membership::of(entry) else { continue };
            let present = present
                .get_or_insert_with(|| Membership::decode(self.state.membership()).unwrap_or_default());
            if next.follows(present, self.layout) {
                *present = next;
            } else {
                (entry.kind, entry.payload) = (Kind::NoOp, bytes::Bytes::new());
            }
        }
    }

    /// Tells those who asked for changes of the membership what became of them.
    fn membership_applied(&mut self, entries: &[Entry]) {
        for entry in entries {
            for change in std::mem::take(&mut self.changes) {
                let lost = change.index == entry.index && change.epoch != entry.epoch;
                let settled = entry.index >= change.index
                    && matches!(Membership::of(entry), Ok(Some(membership)) if !membership.is_joint());
                if lost {
                    self.refuse(change.origin, Failure::Lost);
                } else if settled {
                    self.decided(change.origin, entry.index);
                } else {
                    self.changes.push(change);
                }
            }
        }
        self.tell_membership();
    }

    pub(crate) fn tell_membership(&mut self) {
        if self.told_membership != *self.membership() {
            self.told_membership = self.membership().clone();
            let (group, membership) = (self.group, self.told_membership.clone());
            self.outputs.push(Output::Membership { group, membership });
        }
    }

    fn answer_waiting(&mut self) {
        for (id, waiting) in self.pending.take_applied(self.state_index()) {
            let answer = match waiting {
                Waiting::ReadAt(_) => Answer::Readable(self.state.reader()),
                Waiting::ChangedAt(_) => Answer::Changed(self.membership().clone()),
                Waiting::Applied
                | Waiting::ReadIndex
                | Waiting::Decided
                | Waiting::NewLeader { .. }
                | Waiting::Lease => continue,
            };
            self.reply(id, Ok(answer));
        }
    }

    /// Asks for the backend to be made durable when the log has grown long.
    fn maybe_persist(&mut self, log: &mut SharedLog) -> Result<(), Fatal> {
        let applied = self.state_index();
        let base = log.group(self.group).snapshot_index();
        if !self.persisting && applied.0 - base.0 >= self.retention.release_after + self.kept_entries() {
            self.persisting = true;
            self.outputs.push(Output::Persist { group: self.group, through: applied });
            if mutant!(LogReleasedEarly) {
                return self.persisted(applied, log);
            }
        }
        Ok(())
    }

    /// Applied entries that stay in the log.
    fn kept_entries(&self) -> u64 {
        let Retention { catch_up_entries, witness_headers, .. } = self.retention;
        let witness = self.membership().is_witness(self.id);
        catch_up_entries + if witness { witness_headers } else { 0 }
    }

    /// The backend is durable up to `through`: the log may drop what lies before.
    pub(crate) fn persisted(&mut self, through: Index, log: &mut SharedLog) -> Result<(), Fatal> {
        self.persisting = false;
        Ok(log.0.release(self.group.0, through.0.saturating_sub(self.kept_entries()))?)
    }

    /// The state as it is now, for a member that lacks the log before it.
    pub(crate) fn snapshot_for(&self, to: MemberId) -> Snapshot {
        // A witness gets what is about the log, and no data.
        let witness = self.membership().is_witness(to);
        let tables = if witness { &[Table::Meta][..] } else { &Table::ALL };
        let (mut index, epoch) = self.state.applied();
        if mutant!(SnapshotNamedTooLate) {
            index = self.commit.0;
        }
        Snapshot::new(Index(index), Epoch(epoch), tables, self.backend.view())
    }

    pub(crate) fn expire_leases(&mut self, now: Time) {
        let deposed = mutant!(DeposedLeaderRevokes).then_some(Epoch(0));
        let Some(epoch) = self.leading.or(deposed) else { return };
        for id in self.leases.expired(now) {
            let revoke = LeaseRevoke { id, expired_in_epoch: epoch.0 };
            let command = Command::new(CommandKind::LeaseRevoke(revoke));
            let origin = Origin::NOBODY;
            self.commands.push(origin, command.to_bytes());
        }
    }
}

fn origin(entry: &Entry) -> Option<Origin> {
    match entry.kind {
        Kind::Command => payload::split(&entry.payload).map(|(origin, _, _)| origin),
        Kind::NoOp | Kind::Membership | Kind::Header => None,
    }
}

fn machine_entry(entry: &Entry, layout: Layout) -> machine::Entry {
    let (proposed, payload) = match entry.kind {
        Kind::NoOp => {
            (entry.payload.first_chunk().map_or(0, |epoch| u64::from_le_bytes(*epoch)), Payload::NoOp)
        }
        // A witness goes past what it does not hold.
        Kind::Header => (0, Payload::NoOp),
        Kind::Membership => (0, Payload::Membership(entry.payload.clone())),
        Kind::Command => match payload::split(&entry.payload) {
            Some((origin, proposed, command)) => (proposed.0, Payload::Command(command, origin.of_client())),
            // A payload too short for its header is a command of nobody that changes nothing.
            None => (0, Payload::Command(bytes::Bytes::new(), None)),
        },
    };
    let epoch = match layout {
        Layout::Tail => entry.epoch.0,
        Layout::Slots => 0,
    };
    machine::Entry { index: entry.index.0, epoch, proposed, payload }
}
