//! Known bugs of the state machine, planted to see whether the simulator catches them. None of them is in a build without the feature `mutants`:
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
macro_rules! bugs {
    ($($(#[doc = $about:literal])+ $bug:ident,)*) => {
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
        }
    };
}

#[cfg(feature = "mutants")]
bugs! {
    /// The applied index is stored before the data, in a batch of its own (etcd #13766 and #14685, the 3.5 postmortem).
    /// States: after a crash entries are skipped.
    AppliedIndexOutsideBatch,
    /// A request that comes twice is applied twice (thesis 6.3). Linearizability.
    RequestAppliedTwice,
    /// The revision is counted from the rows that are there at a start, as if a compaction took the deletions of its own revision:
    /// lower than it was (etcd #17780). Linearizability, states.
    RevisionFromRows,
    /// A transaction looks at its first condition only. Linearizability.
    FirstCompareOnly,
    /// The conditions of an inner transaction are judged after the writes before it (etcd judges all first). Linearizability.
    CompareAfterWrites,
    /// A transaction that reads a compacted or a future revision fails in the middle, and keeps what it wrote before (etcd #18667).
    /// States, linearizability.
    TxnFailsInTheMiddle,
    /// A physical compaction removes the newest version below the compacted revision, too. Reads of the past.
    CompactionDropsLiveVersion,
    /// A compaction removes the deletions of the compacted revision itself (etcd #18089, #19179).
    /// Watch: an event is missing.
    CompactionDropsDelete,
    /// Reads below the compacted revision are served from what is left. Reads of the past.
    CompactedReadServed,
    /// Compaction judges the revisions of keys that were put once more as superfluous (off by one). Reads of the past.
    CompactionOffByOne,
    /// The keys of an ended lease go in a revision each. Watch: atomic; leases.
    LeaseKeysInManyRevisions,
    /// The last key of an ended lease stays. Leases.
    LeaseLeavesKey,
    /// A key put again with another lease stays attached to the first, too. Leases: it is deleted with the wrong one.
    LeaseNotDetached,
    /// A lease whose time is over is renewed while its end is under way (etcd #20616). Leases: gone though renewed.
    KeepAliveOfExpired,
    /// A lease is found to end within the next 50 ms, and ended then without another look: a renewal in between is ignored (check,
    /// then act). Leases: early expiry.
    ExpiryIgnoresRenewal,
    /// A new leader gives leases only the time that one more heartbeat takes, not their whole time. Leases: early expiry.
    NewLeaderShortensLeases,
    /// A catch-up of a watcher shows the version of the event itself as the one before it. Watch: prev_kv.
    CatchUpWrongPrevKv,
    /// A catch-up of a watcher begins one revision late (etcd #17529: lost while the stream starved). Watch: reliable.
    CatchUpSkipsRevision,
    /// A catch-up of a watcher begins before the revision that was asked for (etcd #15271, #20221). Watch: ordered, resumable.
    CatchUpTooEarly,
    /// A deletion's live event comes without the version that it deleted. Watch: prev_kv.
    DeleteWithoutPrevKv,
    /// Two writes of one transaction give two events of the second (etcd #17247: duplicated by caching). Watch: unique.
    TxnEventTwice,
    /// Progress that a client asks for is told before the events up to it (etcd #15220). Watch: bookmarkable.
    ProgressOvertakesEvents,
    /// A watch that begins later than the newest revision is told of progress up to that (etcd #20221). Watch: bookmarkable.
    ProgressOfTheFuture,
    /// The newest events are kept over a snapshot that was installed, as if nothing lay between. Watch: reliable.
    RingHidesGap,
    /// A watch that fell behind the newest events goes on with the first of them, not with history. Watch: reliable.
    RingSkipsForgotten,
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
