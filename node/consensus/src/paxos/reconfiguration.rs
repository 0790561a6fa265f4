//! Changes of the membership: by a stop entry when the voters differ.

use std::collections::BTreeSet;

use super::{Body, PartState, Paxos};
use crate::config::Config;
use crate::effect::{Effect, Refusal};
use crate::entry::{Entry, Kind, SnapshotMark};
use crate::flow::Progress;
use crate::id::{Epoch, Index, MemberId, WriteId};
use crate::input::ProposalId;
use crate::log::{Layout, LogRead};
use crate::membership::Membership;

/// The newest stop that is known to be chosen.
#[derive(Clone, Debug, Hash)]
pub(super) struct Stop {
    /// Its slot, or a later chosen one.
    slot: Index,
    /// No settled membership was chosen behind it yet.
    open: bool,
    /// The write after which the log holds everything up to the stop durably.
    write: Option<WriteId>,
    /// Old voters that are no members any more. They are needed until the new voters know that the stop is chosen.
    leaving: BTreeSet<MemberId>,
    /// A chosen prefix that may be stored as such.
    saved: Index,
}

impl Stop {
    pub(super) fn after_start(mark: &SnapshotMark, saved: Index) -> Self {
        let leaving = leaving(&mark.membership);
        Self { slot: mark.index, open: mark.membership.is_joint(), write: None, leaving, saved }
    }

    pub(super) fn installed(&mut self, mark: &SnapshotMark) {
        *self = Self::after_start(mark, self.saved.max(mark.index));
    }

    pub(super) fn slot(&self) -> Index {
        self.slot
    }

    pub(super) fn saved(&self) -> Index {
        self.saved
    }

    /// Whether a restart finds the stop chosen.
    pub(super) fn is_stored(&self) -> bool {
        self.write.is_none()
    }

    /// The chosen prefix is stored when the voters changed, so that a restart knows who they are.
    pub(super) fn persisted(&mut self, id: WriteId) {
        if self.write.take_if(|write| *write <= id).is_some() {
            self.saved = self.saved.max(self.slot);
        }
    }
}

/// Voters that a joint membership puts out of the group.
fn leaving(joint: &Membership) -> BTreeSet<MemberId> {
    joint.outgoing.keys().copied().filter(|id| joint.removed.contains(id)).collect()
}

/// Whether a value may be the last one that its voters choose: it is, unless it is void (see [`Membership::follows`]).
pub(super) fn may_stop(value: &Entry) -> bool {
    matches!(Membership::of(value), Ok(Some(membership)) if membership.is_joint())
}

impl Paxos {
    pub(super) fn propose_membership(&mut self, id: ProposalId, target: Membership, log: &dyn LogRead) {
        if let Some(refusal) = self.change_refused(&target) {
            self.outbox.push(Effect::Refuse { id, refusal });
            return;
        }
        let index = self.view(log).last_index().next();
        let mut next = self.membership.towards(target);
        next.voters_since = if next.is_joint() { index } else { self.membership.voters_since };
        next.version = self.membership.version + 1;
        self.lead_membership(index, &next);
        self.outbox.push(Effect::Accepted { id, index, epoch: self.promised });
        self.follow_receivers();
        self.replicate(log);
    }

    fn change_refused(&self, target: &Membership) -> Option<Refusal> {
        let PartState::Leader(leading) = &self.part else {
            return Some(Refusal::NotLeader { leader: self.leader });
        };
        if leading.transfer.is_some() {
            return Some(Refusal::Transferring);
        }
        if !self.is_established() || !self.accepted_memberships.is_empty() || self.stop.open {
            return Some(Refusal::ChangeInProgress);
        }
        let Config { promotion_lag_max, election_timeout_ms, .. } = self.config;
        self.membership.refusal(target, |id| {
            leading.progress.get(&id).is_some_and(|progress| {
                progress.is_ready(self.commit, promotion_lag_max, self.now, election_timeout_ms)
            })
        })
    }

    fn lead_membership(&mut self, index: Index, membership: &Membership) {
        let payload = membership.encode();
        self.lead_value(Entry { index, epoch: self.promised, kind: Kind::Membership, payload });
    }

    /// The memberships that a leader proposed behind the chosen prefix and that will count if its values are chosen.
    fn coming(&self) -> Vec<&Membership> {
        let (mut present, mut coming) = (&self.membership, Vec::new());
        for next in self.accepted_memberships.values() {
            if next.follows(present, Layout::Slots) {
                present = next;
                coming.push(next);
            }
        }
        coming
    }

    /// Whether a stop was proposed and is not chosen yet: nothing may be proposed behind it.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.part, PartState::Leader(_)) && self.coming().into_iter().any(Membership::is_joint)
    }

    /// Everybody who gets values: members, and those who will be if the change under way is chosen.
    pub(super) fn receivers(&self) -> BTreeSet<MemberId> {
        let coming = self.coming().into_iter().flat_map(Membership::receivers);
        self.membership.receivers().into_iter().chain(coming).collect()
    }

    /// Starts and stops sending as the memberships say.
    pub(super) fn follow_receivers(&mut self) {
        let receivers = self.receivers();
        let (own, now, next) = (self.config.id, self.now, self.commit.next());
        let PartState::Leader(leading) = &mut self.part else { return };
        leading.progress.retain(|id, _| *id == own || receivers.contains(id));
        leading.ahead.retain(|id, _| receivers.contains(id));
        for id in receivers {
            leading.progress.entry(id).or_insert_with(|| Progress::new(next, now));
        }
    }

    /// A membership was chosen, which may be void.
    pub(super) fn chosen(&mut self, at: Index, membership: Membership) {
        if !membership.follows(&self.membership, Layout::Slots) {
            return;
        }
        self.stop.open = membership.is_joint();
        if self.stop.open {
            let write = self.outbox.newest_write();
            self.stop.slot = at;
            self.stop.write = Some(write);
            self.stop.leaving = leaving(&membership);
            if self.outbox.is_persisted(write) {
                self.stop.persisted(write);
            }
        }
        self.membership = membership.settled();
        self.quorum = self.membership.quorum();
        if self.is_gone(self.config.id) && !self.removed {
            self.leave();
        }
        if !self.stop.open && matches!(self.part, PartState::Leader(_)) {
            for id in std::mem::take(&mut self.stop.leaving) {
                self.send(id, Body::Removed);
            }
        }
    }

    /// Whether a member was removed and is not needed any more. Behind a stop only the new voters' first own value says so: a
    /// quorum of them accepted it, so any quorum of them will find the stop chosen. Before that an old voter may be the one whose
    /// promise tells of the stop.
    pub(super) fn is_gone(&self, id: MemberId) -> bool {
        self.membership.removed.contains(&id) && !self.stop.open
    }

    /// The stop is chosen: the old voters are told, and the same ballot is prepared with the new ones, who have promised
    /// nothing about the slots behind it.
    pub(super) fn change_voters(&mut self, log: &dyn LogRead) {
        self.beat(false);
        self.stop_leading();
        if self.is_voter() {
            self.prepare(None, log);
        } else {
            self.become_acceptor(self.promised, None, None);
        }
    }

    pub(super) fn told_removed(&mut self, from: MemberId) {
        if self.membership.member(from).is_some() && !self.removed {
            self.leave();
        }
    }

    /// This member is no part of the group any more.
    fn leave(&mut self) {
        self.removed = true;
        self.become_acceptor(self.promised, None, None);
        self.outbox.push(Effect::Removed);
    }

    /// A removed member that nobody has told asks whether it is needed: who knows that it is not answers so.
    pub(super) fn ask_to_leave(&mut self) {
        if self.membership.removed.contains(&self.config.id) && !self.removed {
            let ballot = Epoch(self.promised.0 + 1);
            for voter in self.quorum.voters() {
                self.send_in(ballot, voter, Body::Canvass);
            }
        }
    }

    /// The first value that new voters choose of their own: the change is over when it is chosen.
    pub(super) fn propose_settled(&mut self, index: Index) {
        if self.stop.open {
            let version = self.membership.version + 1;
            let settled = Membership { version, ..self.membership.clone() };
            self.lead_membership(index, &settled);
        }
    }
}
