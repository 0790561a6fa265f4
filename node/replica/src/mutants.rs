//! Known bugs of the replica, planted to see whether the simulator catches them. None of them is in a build without the feature `mutants`:
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

use bytes::Bytes;
use quorate_consensus::membership::Membership;
use quorate_state::event::Event;
use quorate_state::machine::{Entry, Payload};

/// Part of a bug: a membership in which nothing but roles differs from the stored one is not stored.
pub(crate) fn forget_promotions(entries: &mut [Entry], stored: &Bytes) {
    let members = |encoded: &Bytes| Membership::decode(encoded).map(|it| it.members).unwrap_or_default();
    let stored = members(stored);
    for entry in entries {
        if let Payload::Membership(membership) = &entry.payload
            && members(membership).keys().eq(stored.keys())
        {
            entry.payload = Payload::NoOp;
        }
    }
}

/// Part of three bugs.
pub(crate) fn disturb(events: &mut Vec<Event>) {
    let first = events.first().map_or(0, |event| event.kv.mod_revision);
    if mutant!(EventsLost) {
        let last = events.last().map_or(0, |event| event.kv.mod_revision);
        events.retain(|event| event.kv.mod_revision > first || first == last);
    }
    if mutant!(EventsTwice) {
        events.extend_from_within(..);
    }
    if mutant!(EventsOutOfOrder) {
        events.sort_by(|left, right| left.kv.key.cmp(&right.kv.key));
    }
}

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
    /// Entries are applied when decided, not yet durable here: a serializable read sees what a crash takes back (etcd #14370).
    /// Durable: the state outruns its own log.
    AppliedBeforeDurable,
    /// Messages leave before the write that they name is durable. Agreement.
    MessagesBeforeSync,
    /// A linearizable read is served without waiting for its index to be applied. Linearizability.
    ReadIndexNotAwaited,
    /// Ids go on from the one of a read that is retried: it and those behind it take late answers to the attempts before (etcd
    /// #20418, #21399). Linearizability.
    ReadIdReused,
    /// Ids of reads start over with the process: a late answer to an earlier life's read is taken. Linearizability.
    ReadIdsStartOver,
    /// A snapshot that is older than the state is installed over it. Progress: committed and applied go back.
    OldSnapshotInstalled,
    /// The log is released when the state is applied, not when it is durable. Start.
    LogReleasedEarly,
    /// A member that its membership does not name serves reads: a witness that joins does so from an empty state, until it has read
    /// that it is one. Linearizability.
    NewcomerServes,
    /// That a copy of a command was refused is told as if no copy was taken. Linearizability: denied and done.
    RefusedThoughTaken,
    /// The promotion of a learner is applied but not stored with the state (etcd #19563). Membership after a restart.
    PromotionNotStored,
    /// An update of a member's URLs makes a voter of a learner (etcd #21736). Membership.
    UpdatePromotesLearner,
    /// A start takes the membership of the first start: removed members come back (etcd #20995). Membership, agreement.
    RemovedMembersReturn,
    /// The events of a batch of entries are handed on without those of its first revision. Watch: reliable.
    EventsLost,
    /// The events of a batch of entries are handed on twice. Watch: unique.
    EventsTwice,
    /// The events of a batch of entries are handed on in the order of keys. Watch: ordered.
    EventsOutOfOrder,
    /// A leader that was deposed goes on to measure leases, and asks its successor, which may have renewed them, to end them, as
    /// any client may (etcd #15247). Leases.
    DeposedLeaderRevokes,
    /// A leader renews leases without a round that confirms it: its successor may have ended them (etcd #15247, #20616). Leases.
    RenewedWithoutRound,
    /// The feature level is raised when a majority understands it. Levels: the others end.
    LevelRaisedEarly,
    /// A snapshot is the state of its moment but named after a later index. States.
    SnapshotNamedTooLate,
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
