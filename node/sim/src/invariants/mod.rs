//! What must hold after every step of every member, whatever its clients see. One file for each, with its source.

mod accepted;
mod agreement;
mod chosen;
mod disk;
mod durable;
mod electable;
mod epochs;
mod logs;
mod mandate;
mod matching;
mod memberships;
mod progress;
mod promises;
mod proposed;
mod states;
mod witness;

use quorate_consensus::entry::Kind;
use quorate_consensus::id::{Index, MemberId};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::log::{Layout, LogRead};
use quorate_consensus::membership::Membership;
use quorate_replica::event::GroupId;
use quorate_replica::host::Host;

use crate::finding::{Finding, Kind as Finds};

/// The invariants with what they remember.
#[derive(Debug)]
pub(crate) struct Invariants {
    agreement: agreement::Agreement,
    chosen: chosen::Chosen,
    durable: durable::Durable,
    electable: electable::Electable,
    epochs: epochs::Epochs,
    logs: logs::Logs,
    mandate: mandate::Mandate,
    matching: matching::Matching,
    memberships: memberships::Memberships,
    progress: progress::Progress,
    promises: promises::Promises,
    proposed: proposed::Proposed,
    states: states::States,
    layout: Layout,
}

impl Invariants {
    pub(crate) fn new(protocol: ProtocolKind) -> Self {
        Self {
            agreement: agreement::Agreement::new(protocol),
            chosen: chosen::Chosen::new(protocol),
            durable: durable::Durable::new(protocol),
            electable: electable::Electable::new(protocol),
            epochs: epochs::Epochs::new(protocol),
            logs: logs::Logs::new(protocol.layout()),
            mandate: mandate::Mandate::new(protocol),
            matching: matching::Matching::new(protocol.layout()),
            memberships: memberships::Memberships::new(protocol.layout()),
            progress: progress::Progress::default(),
            promises: promises::Promises::new(protocol),
            proposed: proposed::Proposed,
            states: states::States::default(),
            layout: protocol.layout(),
        }
    }

    /// Member `id` started or took a step; `witness`: it holds no data, and never will.
    pub(crate) fn check(&mut self, id: MemberId, witness: bool, host: &Host) -> Result<(), Finding> {
        let Some(replica) = host.replica(GroupId::DEFAULT) else { return Ok(()) };
        let status = replica.status();
        let (applied, _) = replica.state().applied();
        let (_, idle) = host.durable(GroupId::DEFAULT);
        self.epochs.check(&status).map_err(Finds::Epochs.found())?;
        let hard = host.hard_state(GroupId::DEFAULT);
        self.promises.check(&status, hard, idle).map_err(Finds::Promises.found())?;
        let (writes, membership) = (host.writes(GroupId::DEFAULT), replica.membership());
        let mandate = self.mandate.check(&status, hard, writes, membership);
        let begins = mandate.map_err(Finds::Mandate.found())?;
        if let Some(look) = self.logs.look(id, host, Index(applied)) {
            let matching = self.matching.check(id, &host.log(GroupId::DEFAULT), &look);
            matching.map_err(Finds::Matching.found())?;
            disk::check(id, self.layout, &look).map_err(Finds::Disk.found())?;
            accepted::check(id, self.layout, &look).map_err(Finds::Accepted.found())?;
        }
        let proposed = self.chosen.stepped(&status, &host.log(GroupId::DEFAULT), writes, membership);
        proposed.map_err(Finds::Proposed.found())?;
        let (durable, _) = host.durable(GroupId::DEFAULT);
        let reach = (host.log(GroupId::DEFAULT).snapshot_index(), durable);
        durable::Durable::applied(id, Index(applied), reach).map_err(Finds::Durable.found())?;
        self.electable.stands(id, &host.log(GroupId::DEFAULT), hard, membership, idle);
        let committed = self.progress.check(&status, applied).map_err(Finds::Progress.found())?;
        witness::check(&status, witness).map_err(Finds::Roles.found())?;
        // After a start everything that the log still has is looked at.
        let from = committed.start.max(host.log(GroupId::DEFAULT).snapshot_index().next());
        for entry in host.entries(GroupId::DEFAULT, from, committed.end) {
            self.proposed.check(&entry, witness).map_err(Finds::Proposed.found())?;
            if entry.kind != Kind::Header {
                let durable = self.durable.committed(&status, replica.membership(), &entry, &self.logs);
                durable.map_err(Finds::Durable.found())?;
                self.chosen.committed(id, &entry).map_err(Finds::Durable.found())?;
                let electable = self.electable.committed(id, &entry, |other| self.logs.has(other, &entry));
                electable.map_err(Finds::Electable.found())?;
                self.memberships.decided(&entry).map_err(Finds::Roles.found())?;
                self.agreement.check(id, entry).map_err(Finds::Agreement.found())?;
            }
        }
        let stored = self.memberships.check(id, applied, replica.state().membership());
        stored.map_err(Finds::Roles.found())?;
        let complete = self.durable.leads(&status, begins, &host.log(GroupId::DEFAULT));
        complete.map_err(Finds::Complete.found())?;
        if witness { Ok(()) } else { self.states.check(id, replica).map_err(Finds::States.found()) }
    }

    /// The memberships that stand in a member's log and are not applied there: whoever leads next may decide them.
    pub(crate) fn undecided_memberships(&self, id: MemberId) -> impl Iterator<Item = Membership> {
        self.logs.memberships(id).filter_map(|payload| Membership::decode(payload).ok())
    }

    /// Whether a member's log differs from what was committed, somewhere behind what it committed itself and up to `last`.
    pub(crate) fn conflicts(&self, host: &Host, last: Index) -> bool {
        let (log, status) = (host.log(GroupId::DEFAULT), host.status(GroupId::DEFAULT));
        let commit = status.map_or(Index(0), |status| status.commit);
        let last = last.min(log.last_index());
        let mut held = (commit.0 + 1..=last.0).filter_map(|index| logs::entry(&log, Index(index)));
        held.any(|entry| self.agreement.differs(&entry))
    }

    /// Member `id` starts, with what recovery found.
    pub(crate) fn started(&mut self, id: MemberId, host: &Host) -> Result<(), Finding> {
        self.mandate.started(id, host.hard_state(GroupId::DEFAULT));
        let applied = host.replica(GroupId::DEFAULT).map_or(0, |replica| replica.state().applied().0);
        self.progress.started(id, applied).map_err(Finds::Progress.found())
    }

    /// Member `id` made its state durable.
    pub(crate) fn persisted(&mut self, id: MemberId, host: &Host) {
        if let Some(replica) = host.replica(GroupId::DEFAULT) {
            self.progress.persisted(id, replica.state().applied().0);
        }
    }

    /// Member `id` failed in the middle of a step.
    pub(crate) fn failed(&mut self, id: MemberId, host: &Host) {
        self.logs.failed(id, &host.log(GroupId::DEFAULT));
    }

    /// Member `id` stopped: what it had in memory is gone.
    pub(crate) fn stopped(&mut self, id: MemberId) {
        self.logs.stopped(id);
        self.chosen.stopped(id);
        self.mandate.stopped(id);
        self.electable.stopped(id);
        self.progress.stopped(id);
        self.states.stopped(id);
    }
}
