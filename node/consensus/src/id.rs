//! Identifiers. No two of them can be taken for one another.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// One replica of the store. Never 0 in use, never given out twice in a cluster's life.
    MemberId
);
id!(
    /// Raft's term, Paxos's ballot, Zab's epoch. 0 before the first election.
    Epoch
);
id!(
    /// A position in the log. The first entry has 1; 0 is the empty log.
    Index
);
id!(
    /// A write to the log, in the order the protocol asked for them, from 1.
    WriteId
);
id!(
    /// A linearizable read, named by the caller; answered once.
    ReadId
);
id!(
    /// Milliseconds on a monotonic clock whose zero is the member's start.
    Time
);

impl Index {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The position before this one; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Time {
    /// This time plus `ms` milliseconds.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0 + ms)
    }

    /// Milliseconds since `earlier`; 0 if that is later.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
