//! What must hold after every step of every member, whatever its clients see. One file for each, with its source.

mod agreement;
mod durable;
mod epochs;
mod logs;
mod progress;
mod promises;
mod proposed;
mod states;

use quorate_consensus::entry::Kind;
use quorate_consensus::id::{Index, MemberId};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::protocol::Part;
use quorate_replica::event::GroupId;
use quorate_replica::host::Host;

use crate::finding::{Finding, Kind as Finds};

/// The invariants with what they remember.
#[derive(Debug)]
pub(crate) struct Invariants {
    agreement: agreement::Agreement,
    durable: durable::Durable,
    epochs: epochs::Epochs,
    logs: logs::Logs,
    progress: progress::Progress,
    promises: promises::Promises,
    proposed: proposed::Proposed,
    states: states::States,
}

impl Invariants {
    pub(crate) fn new(protocol: ProtocolKind) -> Self {
        Self {
            agreement: agreement::Agreement::new(protocol),
            durable: durable::Durable::new(protocol),
            epochs: epochs::Epochs::default(),
            logs: logs::Logs::new(protocol.layout()),
            progress: progress::Progress::default(),
            promises: promises::Promises::new(protocol),
            proposed: proposed::Proposed,
            states: states::States::default(),
        }
    }

    /// Member `id` took a step.
    pub(crate) fn check(&mut self, id: MemberId, host: &Host) -> Result<(), Finding> {
        let Some(replica) = host.replica(GroupId::DEFAULT) else { return Ok(()) };
        let status = replica.status();
        let (applied, _) = replica.state().applied();
        let (_, idle) = host.durable(GroupId::DEFAULT);
        self.epochs.check(&status).map_err(Finds::Epochs.found())?;
        let hard = host.hard_state(GroupId::DEFAULT);
        self.promises.check(&status, hard, idle).map_err(Finds::Promises.found())?;
        self.logs.check(id, host, Index(applied)).map_err(Finds::Logs.found())?;
        let committed = self.progress.check(&status, applied).map_err(Finds::Progress.found())?;
        let witness = replica.membership().is_witness(id);
        if witness && status.part == Part::Leader {
            return Err(Finds::Roles.found()(format!("witness {id} leads")));
        }
        for entry in host.entries(GroupId::DEFAULT, committed.start, committed.end) {
            self.proposed.check(&entry, witness).map_err(Finds::Proposed.found())?;
            if entry.kind != Kind::Header {
                let durable = self.durable.committed(&status, replica.membership(), &entry, &self.logs);
                durable.map_err(Finds::Durable.found())?;
                self.agreement.check(id, entry).map_err(Finds::Agreement.found())?;
            }
        }
        let complete = self.durable.leads(&status, &host.log(GroupId::DEFAULT));
        complete.map_err(Finds::Complete.found())?;
        if witness { Ok(()) } else { self.states.check(id, replica).map_err(Finds::States.found()) }
    }

    /// Member `id` stopped: what it had in memory is gone.
    pub(crate) fn stopped(&mut self, id: MemberId) {
        self.logs.stopped(id);
        self.progress.stopped(id);
        self.states.stopped(id);
    }
}
