//! Whoever leads in an epoch has a quorum whose *durable* hard state promises that epoch to it (Raft: a vote is stored before it is
//! given, thesis 3.8; Paxos Made Simple 2.5: a promise is; Zab 2011, phase 1: a quorum has accepted the epoch before it is made
//! current). A member that forgot its promise in a crash could give it again.
//!
//! A member whose durable epoch is higher than the leader's is let pass: what it promised before is not known any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_consensus::entry::HardState;
use quorate_consensus::id::{Epoch, MemberId, WriteId};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::membership::Membership;
use quorate_consensus::protocol::{Part, Status};

type Promise = (Epoch, Option<MemberId>);

fn promise(hard: HardState) -> Promise {
    (hard.epoch, hard.vote)
}

/// What one member promised, in memory and on its disk.
#[derive(Debug, Default)]
struct Promised {
    newest: Promise,
    /// Written, with the write that makes it durable.
    written: VecDeque<(WriteId, Promise)>,
    durable: Promise,
}

#[derive(Debug)]
pub(super) struct Mandate {
    protocol: ProtocolKind,
    promised: BTreeMap<MemberId, Promised>,
    /// Leaders that were looked at.
    judged: BTreeSet<(Epoch, MemberId)>,
}

impl Mandate {
    pub(super) fn new(protocol: ProtocolKind) -> Self {
        Self { protocol, promised: BTreeMap::new(), judged: BTreeSet::new() }
    }

    /// A member takes a step. `writes`: the last one that it asked for, and the last one that is durable. Whether it begins to
    /// lead: with Zab when it makes its epoch current, before it is established.
    pub(super) fn check(
        &mut self,
        status: &Status,
        hard: HardState,
        writes: (WriteId, WriteId),
        membership: &Membership,
    ) -> Result<bool, String> {
        let id = status.id;
        let promised = self.promised.entry(id).or_default();
        if promised.newest != promise(hard) {
            promised.newest = promise(hard);
            promised.written.push_back((writes.0, promised.newest));
        }
        while let Some((_, durable)) = promised.written.pop_front_if(|(write, _)| *write <= writes.1) {
            promised.durable = durable;
        }
        let leads = match self.protocol {
            ProtocolKind::Raft | ProtocolKind::MultiPaxos => status.part == Part::Leader,
            ProtocolKind::Zab => hard.established == hard.epoch && hard.epoch > Epoch(0),
        };
        // Nor is a follower looked at again in the epoch that it made current.
        if !leads || !self.judged.insert((hard.epoch, id)) || status.part == Part::Follower {
            return Ok(false);
        }
        let durable =
            |voter| self.promised.get(&voter).map_or(Promise::default(), |promised| promised.durable);
        let promises = |voter| durable(voter).0 > hard.epoch || durable(voter) == (hard.epoch, Some(id));
        if membership.quorum().reached(promises) {
            return Ok(true);
        }
        let told: Vec<_> = membership.voters().into_iter().map(|voter| (voter, durable(voter))).collect();
        Err(format!("member {id} leads in epoch {}, but durable promises are {told:?}", hard.epoch))
    }

    /// A member starts: what recovery found is durable.
    pub(super) fn started(&mut self, id: MemberId, hard: HardState) {
        let newest = promise(hard);
        self.promised.insert(id, Promised { newest, written: VecDeque::new(), durable: newest });
    }

    /// A member stopped: what was not durable may be gone.
    pub(super) fn stopped(&mut self, id: MemberId) {
        if let Some(promised) = self.promised.get_mut(&id) {
            promised.written.clear();
        }
    }
}
