//! Known bugs: planted one at a time, and looked for. See `MUTANTS.md`.

pub mod hunt;
mod proofs;
pub mod run;
mod table;

use crate::directed::Scene;
use hunt::Place;
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::mutants::Mutant as OfConsensus;
use quorate_replica::mutants::Mutant as OfReplica;
use quorate_state::mutants::Mutant as OfState;
use quorate_storage::mutants::Mutant as OfStorage;

/// A bug of one of the crates that the simulator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Of a protocol.
    Consensus(OfConsensus),
    /// Of the log.
    Storage(OfStorage),
    /// Of the state machine.
    State(OfState),
    /// Of what ties them together.
    Replica(OfReplica),
}

impl Bug {
    /// Every bug that can be planted.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let consensus = OfConsensus::ALL.iter().copied().map(Self::Consensus);
        let storage = OfStorage::ALL.iter().copied().map(Self::Storage);
        let state = OfState::ALL.iter().copied().map(Self::State);
        let replica = OfReplica::ALL.iter().copied().map(Self::Replica);
        consensus.chain(storage).chain(state).chain(replica).collect()
    }

    /// The bug of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|bug| bug.name() == name)
    }

    /// Plants this bug, and no other, in the worlds that run on this thread.
    pub fn plant(self) {
        clear();
        match self {
            Self::Consensus(bug) => OfConsensus::plant(Some(bug)),
            Self::Storage(bug) => OfStorage::plant(Some(bug)),
            Self::State(bug) => OfState::plant(Some(bug)),
            Self::Replica(bug) => OfReplica::plant(Some(bug)),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Consensus(bug) => format!("{bug:?}"),
            Self::Storage(bug) => format!("{bug:?}"),
            Self::State(bug) => format!("{bug:?}"),
            Self::Replica(bug) => format!("{bug:?}"),
        }
    }

    /// The bug, its source, and what is broken by it.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Consensus(bug) => bug.about(),
            Self::Storage(bug) => bug.about(),
            Self::State(bug) => bug.about(),
            Self::Replica(bug) => bug.about(),
        }
    }

    /// The crate that it is planted in.
    #[must_use]
    pub fn place(self) -> &'static str {
        match self {
            Self::Consensus(_) => "consensus",
            Self::Storage(_) => "storage",
            Self::State(_) => "state",
            Self::Replica(_) => "replica",
        }
    }

    /// Where it is looked for: in worlds of the protocols that can have it, a bug of the log in a log alone, too, and some where
    /// their story is likely.
    #[must_use]
    pub fn places(self) -> Vec<Place> {
        let protocols = match self {
            Self::Consensus(bug) => bug.protocols(),
            Self::Storage(_) | Self::State(_) | Self::Replica(_) => ProtocolKind::ALL.as_slice(),
        };
        let scene = match self {
            Self::Consensus(OfConsensus::CommitOlderTermByCounting) => Some(Scene::Elections),
            Self::Consensus(OfConsensus::ChangeBeforeOwnCommit) => Some(Scene::Ambushes),
            Self::Consensus(OfConsensus::UnproposedBehindStop) => Some(Scene::Stops),
            Self::Consensus(OfConsensus::Zookeeper4643) => Some(Scene::CatchingUp),
            Self::Replica(OfReplica::UpdatePromotesLearner) => Some(Scene::Changes),
            Self::Replica(OfReplica::ReadIdReused | OfReplica::ReadIdsStartOver) => Some(Scene::Reads),
            Self::Replica(OfReplica::AppliedBeforeDurable | OfReplica::LogReleasedEarly) => {
                Some(Scene::Disks)
            }
            Self::Consensus(_) | Self::Storage(_) | Self::State(_) | Self::Replica(_) => None,
        };
        let alone = matches!(self, Self::Storage(_)).then_some(Place::Log);
        let scenes = protocols.iter().filter_map(|protocol| Some(Place::Scene(scene?, *protocol)));
        alone.into_iter().chain(scenes).chain(protocols.iter().copied().map(Place::World)).collect()
    }
}

/// No bug is planted on this thread any more.
pub fn clear() {
    OfConsensus::plant(None);
    OfStorage::plant(None);
    OfState::plant(None);
    OfReplica::plant(None);
}
