//! Known bugs of the log, planted to see whether the simulator catches them. None of them is in a build without the feature `mutants`:
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
    /// A new segment's name is not synced to its directory (ALICE, OSDI 2014: rename or creation without the directory's
    /// fsync). Start: durable records are gone with the file.
    DirectoryNotSynced,
    /// A torn last record is taken for damage (PAR, FAST 2018: a crash is not corruption). Start: a sound member refuses to.
    TornTailIsDamage,
    /// A damaged record that was durable is taken for a torn one, and everything behind it is dropped (etcd's `wal.Repair`;
    /// PAR, FAST 2018). Agreement.
    DamageIsTornTail,
    /// The hard state is kept once, not twice in two generations. Start: damage to one sector loses the vote.
    HardStateInOneCopy,
    /// A failed sync is taken for a successful one (fsync, ATC 2020). Agreement: what was acknowledged is gone.
    SyncErrorIgnored,
    /// Headers of what a recovery discarded stay on disk, and come alive again behind new ones. Agreement.
    DiscardedHeadersAlive,
    /// A body's checksum is not looked at: what was torn is applied. Agreement.
    BodyChecksumIgnored,
    /// A vote is stored only together with a new epoch. Epochs: a restarted member votes again.
    VoteNotStored,
    /// Segments are removed before it is durable that their records were released. Start.
    SegmentRemovedEarly,
    /// A cut of the log's end is not written to the log: what was cut comes back at the next start (Zab's TRUNC). Agreement.
    CutNotLogged,
    /// Syncs cover bodies and headers, but not the group's state file (etcd #14370: hard state behind the entries). Epochs.
    StateFileNotSynced,
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
