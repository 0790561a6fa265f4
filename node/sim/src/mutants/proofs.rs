//! What each bug leads to: the kinds of finding that prove that the simulator saw it. Anything else that goes wrong in a world with
//! the bug may have another reason, such as a run that chance took elsewhere.

use quorate_consensus::mutants::Mutant as OfConsensus;
use quorate_replica::mutants::Mutant as OfReplica;
use quorate_state::mutants::Mutant as OfState;

use super::Bug;
use crate::finding::Kind;

/// What was decided is undone or decided otherwise: logs, states and what clients were told come apart.
const DECIDED_TWICE: &[Kind] = &[
    Kind::Agreement,
    Kind::Durable,
    Kind::Complete,
    Kind::Electable,
    Kind::Matching,
    Kind::States,
    Kind::Kept,
];
/// An acceptor makes up a value, or the ballot of one; and what follows from it.
const NOT_PROPOSED: &[Kind] = &[
    Kind::Proposed,
    Kind::Accepted,
    Kind::Agreement,
    Kind::Durable,
    Kind::Matching,
    Kind::States,
    Kind::Kept,
];
/// Two lead in one epoch, or a promise is taken back; and what follows from it.
const TWO_LEADERS: &[Kind] = &[
    Kind::Mandate,
    Kind::Electable,
    Kind::Epochs,
    Kind::Promises,
    Kind::Agreement,
    Kind::Durable,
    Kind::Complete,
    Kind::Matching,
    Kind::States,
    Kind::Kept,
];
/// What was durable is gone, or a start fails because of it; and what follows from it.
const LOST_ON_DISK: &[Kind] = &[
    Kind::Recovery,
    Kind::Disk,
    Kind::Mandate,
    Kind::Start,
    Kind::Ended,
    Kind::Promises,
    Kind::Epochs,
    Kind::Agreement,
    Kind::Durable,
    Kind::Complete,
    Kind::Matching,
    Kind::States,
    Kind::Kept,
    Kind::Order,
];
/// A read, or a write's answer, does not fit any order.
const STALE: &[Kind] = &[Kind::Order];
/// Members hold different states, or the history that one serves is not what happened.
const STATES: &[Kind] = &[Kind::States, Kind::Kept, Kind::Order];

impl Bug {
    /// The kinds of finding that prove this bug.
    #[must_use]
    pub fn proofs(self) -> &'static [Kind] {
        match self {
            Self::Consensus(bug) => of_consensus(bug),
            Self::Storage(_) => LOST_ON_DISK,
            Self::State(bug) => of_state(bug),
            Self::Replica(bug) => of_replica(bug),
        }
    }
}

fn of_consensus(bug: OfConsensus) -> &'static [Kind] {
    use OfConsensus as It;
    match bug {
        It::VoteBeforeSync
        | It::VoteTwice
        | It::ChangeWithoutJoint
        | It::ChangeBeforeOwnCommit
        | It::ConfigurationAtApply
        | It::PromiseBeforeSync
        | It::OwnPromiseBeforeSync
        | It::BallotPromisedTwice
        | It::SnapshotWithoutBallots
        | It::EpochAcknowledgedTwice
        | It::AckEpochBeforeSync => TWO_LEADERS,
        It::LeaderCountsUnsyncedCopy
        | It::CommitOlderTermByCounting
        | It::VoteForAnyLog
        | It::AppendedBeforeSync
        | It::NoLogMatching
        | It::CutWithoutConflict
        | It::CommitBeyondMatched
        | It::AcceptedBeforeSync
        | It::OwnValueFirst
        | It::PromisedValuesForgotten
        | It::QuorumOfMixedBallots
        | It::CommitWithoutOwnPrefix
        | It::PrepareFromLogEnd
        | It::StopBypassed
        | It::HeaderHidesChoice
        | It::Zookeeper3023
        | It::Zookeeper3911
        | It::Zookeeper4643
        | It::Zookeeper4646
        | It::Zookeeper4785
        | It::Zookeeper4925
        | It::LeaderWithWorseHistory
        | It::CommitFromUnsynced
        | It::InitialHistoryCommittedEarly
        | It::LateTruncObeyed => DECIDED_TWICE,
        It::AcceptLowerBallot | It::HoleApplied | It::UnproposedBehindStop => NOT_PROPOSED,
        It::WitnessLeads => &[Kind::Roles],
        It::Zookeeper4685 => &[Kind::Stuck],
        It::RaftReadWithoutRound
        | It::RaftReadBeforeOwnCommit
        | It::PaxosReadWithoutRound
        | It::PaxosReadBeforeBarrier
        | It::ZabReadWithoutRound => STALE,
    }
}

fn of_state(bug: OfState) -> &'static [Kind] {
    use OfState as It;
    match bug {
        It::AppliedIndexOutsideBatch | It::RevisionFromRows | It::TxnFailsInTheMiddle => STATES,
        It::RequestAppliedTwice | It::FirstCompareOnly | It::CompareAfterWrites => STALE,
        It::CompactionDropsLiveVersion | It::CompactedReadServed | It::CompactionOffByOne => {
            &[Kind::Compaction, Kind::Order, Kind::States, Kind::Kept]
        }
        It::KeepAliveOfExpired | It::ExpiryIgnoresRenewal | It::NewLeaderShortensLeases => &[Kind::Leases],
        It::LeaseKeysInManyRevisions | It::LeaseLeavesKey | It::LeaseNotDetached => {
            &[Kind::Leases, Kind::Order, Kind::Watches]
        }
        It::CompactionDropsDelete => {
            &[Kind::Watches, Kind::Compaction, Kind::States, Kind::Kept, Kind::Order]
        }
        It::CatchUpWrongPrevKv
        | It::CatchUpSkipsRevision
        | It::CatchUpTooEarly
        | It::DeleteWithoutPrevKv
        | It::TxnEventTwice => &[Kind::Watches, Kind::Kept],
        It::ProgressOvertakesEvents | It::ProgressOfTheFuture | It::RingHidesGap | It::RingSkipsForgotten => {
            &[Kind::Watches]
        }
    }
}

fn of_replica(bug: OfReplica) -> &'static [Kind] {
    use OfReplica as It;
    match bug {
        It::AppliedBeforeDurable => {
            &[Kind::Durable, Kind::Start, Kind::Progress, Kind::Ended, Kind::Order, Kind::States]
        }
        It::MessagesBeforeSync => TWO_LEADERS,
        It::ReadIndexNotAwaited
        | It::ReadIdReused
        | It::ReadIdsStartOver
        | It::RefusedThoughTaken
        | It::NewcomerServes => STALE,
        // The state goes back, or what was committed lies behind the log's end, which every protocol asserts.
        It::OldSnapshotInstalled => &[Kind::Progress, Kind::Agreement, Kind::States, Kind::Assertion],
        It::LogReleasedEarly => &[Kind::Start, Kind::Ended],
        It::PromotionNotStored | It::UpdatePromotesLearner | It::RemovedMembersReturn => {
            &[Kind::Roles, Kind::Stuck, Kind::Epochs, Kind::Agreement, Kind::Durable, Kind::Complete]
        }
        // What was published does not add up to what is held at the end (`Kept`).
        It::EventsLost | It::EventsTwice | It::EventsOutOfOrder => &[Kind::Watches, Kind::States, Kind::Kept],
        It::LevelRaisedEarly => &[Kind::Levels],
        It::DeposedLeaderRevokes | It::RenewedWithoutRound => &[Kind::Leases],
        // Its receiver lacks the entries between the state and the name, and ends.
        It::SnapshotNamedTooLate => &[Kind::States, Kind::Kept, Kind::Order, Kind::Ended],
    }
}
