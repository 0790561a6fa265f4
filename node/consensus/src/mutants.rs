//! Known bugs of consensus, planted to see whether the simulator catches them. None of them is in a build without the feature `mutants`:
//! there every hook is the literal `false`. Why the choice is a thread's and no argument: `node/sim/MUTANTS.md`.

/// Whether this bug, or one of these, is planted in this run.
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($($bug:ident),+) => {
        false
    };
}

/// Whether this bug, or one of these, is planted in this run.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($($bug:ident),+) => {
        [$($crate::mutants::Mutant::$bug),+].into_iter().any($crate::mutants::Mutant::is_planted)
    };
}

pub(crate) use mutant;

#[cfg(feature = "mutants")]
use crate::kind::ProtocolKind::{self, MultiPaxos, Raft, Zab};

#[cfg(feature = "mutants")]
macro_rules! bugs {
    ($($(#[doc = $about:literal])+ $bug:ident: [$($protocol:ident),+],)*) => {
        /// The known bugs of this crate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $about])+ $bug,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// The bug, its source, and what is broken by it.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$bug => concat!($($about),+),)*
                }
            }

            /// The protocols that can have it.
            #[must_use]
            pub fn protocols(self) -> &'static [ProtocolKind] {
                match self {
                    $(Self::$bug => &[$($protocol),+],)*
                }
            }
        }
    };
}

#[cfg(feature = "mutants")]
bugs! {
    /// A leader's own copy counts before its sync ended (etcd #14370). Agreement: a crash takes back what was committed.
    LeaderCountsUnsyncedCopy: [Raft, MultiPaxos, Zab],

    /// An entry of an earlier term is committed by counting copies (figure 8; thesis 3.6.2). Agreement.
    CommitOlderTermByCounting: [Raft],
    /// A vote leaves before it is durable (thesis 3.8). Epochs: two leaders in a term.
    VoteBeforeSync: [Raft],
    /// A member votes for whoever asks, any number of times in a term (thesis 3.4). Epochs.
    VoteTwice: [Raft],
    /// A vote does not look at the candidate's log (thesis 3.6.1). Agreement.
    VoteForAnyLog: [Raft],
    /// A follower acknowledges entries before they are durable (thesis 3.8). Agreement.
    AppendedBeforeSync: [Raft],
    /// A follower takes entries though the one before them differs (thesis 3.5: Log Matching). Agreement.
    NoLogMatching: [Raft],
    /// A follower cuts its log behind every append, conflict or not (thesis 3.5: a late append must not). Agreement.
    CutWithoutConflict: [Raft],
    /// A leader tells its commit index to followers whose logs it does not know (thesis 3.5). Agreement.
    CommitBeyondMatched: [Raft],
    /// Voters change in one step however many they are, as without joint consensus (thesis 4.3). Epochs, agreement.
    ChangeWithoutJoint: [Raft],
    /// A one-step change before an entry of the leader's own term is committed (Ongaro, raft-dev, July 2015). Agreement.
    ChangeBeforeOwnCommit: [Raft],
    /// A membership is in force when applied, not when appended (etcd #7625; thesis 4.1). Agreement, epochs.
    ConfigurationAtApply: [Raft],
    /// A leader answers reads without asking a quorum whether it still leads (thesis 6.4, step 3). Linearizability.
    RaftReadWithoutRound: [Raft],
    /// A leader reads at its commit index before an entry of its term is committed (thesis 6.4, step 1). Linearizability.
    RaftReadBeforeOwnCommit: [Raft],

    /// A promise leaves before it is durable (Paxos Made Simple 2.5: acceptors need stable storage). Agreement, epochs.
    PromiseBeforeSync: [MultiPaxos],
    /// A proposer counts its own promise before it is durable. Epochs: it asks for the same ballot again after a crash.
    OwnPromiseBeforeSync: [MultiPaxos],
    /// A leader that waits for its stop sends what its log holds behind it, too, as proposed in its own ballot. Proposed.
    UnproposedBehindStop: [MultiPaxos],
    /// A new leader does not wait for the value of a slot that witnesses alone told of. Agreement: it may be chosen.
    HeaderHidesChoice: [MultiPaxos],
    /// An acceptance leaves before it is durable (Paxos Made Simple 2.5). Agreement.
    AcceptedBeforeSync: [MultiPaxos],
    /// A ballot is promised to whoever asks for it (Paxos Made Simple 2.4: ballots of proposers are disjoint). Epochs.
    BallotPromisedTwice: [MultiPaxos],
    /// A value of a lower ballot than the promised one is accepted (Paxos Made Simple 2.2, P1a). Agreement.
    AcceptLowerBallot: [MultiPaxos],
    /// A new leader proposes what it accepted itself, not the value of the highest ballot (2.2, P2c). Agreement.
    OwnValueFirst: [MultiPaxos],
    /// A new leader proposes no value that its acceptors told of (2.2, P2c). Agreement.
    PromisedValuesForgotten: [MultiPaxos],
    /// Acceptances of one slot count though they are of different ballots (2.1: chosen is a value of one ballot). Agreement.
    QuorumOfMixedBallots: [MultiPaxos],
    /// A follower fills a hole with a no-op of its own instead of waiting for the value (2.5, end). Agreement.
    HoleApplied: [MultiPaxos],
    /// A follower takes for chosen what it holds, up to the slot that its leader names. Agreement.
    CommitWithoutOwnPrefix: [MultiPaxos],
    /// A new leader prepares from its log's end, not from its first unchosen slot (2.5). Agreement.
    PrepareFromLogEnd: [MultiPaxos],
    /// An installed snapshot takes the promised ballot away (reliability.md 5: snapshots must keep promises). Epochs.
    SnapshotWithoutBallots: [MultiPaxos],
    /// Values are proposed behind a stop that is not chosen (Stoppable Paxos 2008, 1). Agreement.
    StopBypassed: [MultiPaxos],
    /// A leader answers reads without a ballot-confirm round. Linearizability.
    PaxosReadWithoutRound: [MultiPaxos],
    /// A leader reads before its barrier is chosen: it may not know the newest chosen slot. Linearizability.
    PaxosReadBeforeBarrier: [MultiPaxos],

    /// A follower acknowledges NEWLEADER before it has the leader's history (ZOOKEEPER-3023: logged after the ACK). Agreement.
    Zookeeper3023: [Zab],
    /// NEWLEADER is acknowledged, and the epoch current, with the history in memory only (ZOOKEEPER-3911). Agreement.
    Zookeeper3911: [Zab],
    /// The current epoch is stored with the history instead of behind it (ZOOKEEPER-4643). Agreement.
    Zookeeper4643: [Zab],
    /// NEWLEADER is acknowledged before the history is durable, the epoch follows in order (ZOOKEEPER-4646). Agreement.
    Zookeeper4646: [Zab],
    /// A leader gives up when a proposal is acknowledged before NEWLEADER is (ZOOKEEPER-4685). Progress.
    Zookeeper4685: [Zab],
    /// Proposals between NEWLEADER and UPTODATE are acknowledged before they are durable (ZOOKEEPER-4785). Agreement.
    Zookeeper4785: [Zab],
    /// A DIFF is sent behind an entry that the leader does not have, and taken: a history with a hole, which is handed on
    /// (ZOOKEEPER-4925). Agreement.
    Zookeeper4925: [Zab],
    /// An epoch is acknowledged to every leader that found it (Zab 2011, phase 1). Epochs.
    EpochAcknowledgedTwice: [Zab],
    /// ACK-E leaves before the accepted epoch is durable (Zab 2011, phase 1, step f.1.1). Epochs.
    AckEpochBeforeSync: [Zab],
    /// A leader stays one though a follower of its quorum has a better history (Zab 2011, phase 1). Agreement.
    LeaderWithWorseHistory: [Zab],
    /// A leader counts what followers acknowledge before they are synchronised (Zab 2011, phase 3). Agreement.
    CommitFromUnsynced: [Zab],
    /// The initial history is committed when a quorum accepted the epoch, before it has it (Zab 2011, phase 2). Agreement.
    InitialHistoryCommittedEarly: [Zab],
    /// A TRUNC of an earlier synchronisation is obeyed in the middle of broadcast. Agreement.
    LateTruncObeyed: [Zab],
    /// A leader answers reads without an epoch-confirm round, as ZooKeeper's sync does. Linearizability.
    ZabReadWithoutRound: [Zab],

    /// A witness stands as any voter does. Roles: it has no data to lead with.
    WitnessLeads: [Raft, MultiPaxos, Zab],
}

#[cfg(feature = "mutants")]
mod planted {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// Plants this bug, or none, in everything that runs on this thread from now on.
        pub fn plant(mutant: Option<Self>) {
            PLANTED.set(mutant);
        }

        pub(crate) fn is_planted(self) -> bool {
            PLANTED.get() == Some(self)
        }
    }
}
