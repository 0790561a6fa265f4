//! What must hold after every step of every member, whatever its clients see. One file for each, with its source.

mod agreement;
mod epochs;
mod progress;
mod proposed;
mod states;

use quorate_consensus::entry::Kind;
use quorate_consensus::id::MemberId;
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::protocol::Part;
use quorate_replica::event::GroupId;
use quorate_replica::host::Host;

/// The invariants with what they remember.
#[derive(Debug)]
pub(crate) struct Invariants {
    agreement: agreement::Agreement,
    epochs: epochs::Epochs,
    progress: progress::Progress,
    proposed: proposed::Proposed,
    states: states::States,
}

impl Invariants {
    pub(crate) fn new(protocol: ProtocolKind) -> Self {
        Self {
            agreement: agreement::Agreement::new(protocol),
            epochs: epochs::Epochs::default(),
            progress: progress::Progress::default(),
            proposed: proposed::Proposed,
            states: states::States::default(),
        }
    }

    /// Member `id` took a step.
    pub(crate) fn check(&mut self, id: MemberId, host: &Host) -> Result<(), String> {
        let Some(replica) = host.replica(GroupId::DEFAULT) else { return Ok(()) };
        let status = replica.status();
        self.epochs.check(&status)?;
        let committed = self.progress.check(&status, replica.state().applied().0)?;
        let witness = replica.membership().is_witness(id);
        if witness && status.part == Part::Leader {
            return Err(format!("witness {id} leads"));
        }
        for entry in host.entries(GroupId::DEFAULT, committed.start, committed.end) {
            self.proposed.check(&entry, witness)?;
            if entry.kind != Kind::Header {
                self.agreement.check(id, entry)?;
            }
        }
        if witness { Ok(()) } else { self.states.check(id, replica) }
    }

    /// Member `id` stopped: what it had in memory is gone.
    pub(crate) fn stopped(&mut self, id: MemberId) {
        self.progress.stopped(id);
        self.states.stopped(id);
    }
}
