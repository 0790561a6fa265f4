//! What clients asked, and what they heard.

use quorate_state::event::KeyValue;

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Write this value, which nobody else writes.
    Put {
        /// The key.
        key: u8,
        /// The value.
        value: u64,
    },
    /// Write this value if the key was last changed in this revision (0: does not exist).
    Swap {
        /// The key.
        key: u8,
        /// The value.
        value: u64,
        /// The revision.
        expected: i64,
    },
    /// Read a key, linearizably.
    Get {
        /// The key.
        key: u8,
    },
}

/// What the client heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet, or nothing certain: it may have happened, or may still.
    Unknown,
    /// It certainly did not happen.
    Refused,
    /// Written in this revision.
    Written(i64),
    /// The condition did not hold at this revision.
    NotSwapped(i64),
    /// Read at this revision.
    Read(i64, Option<KeyValue>),
}

/// One operation of a history. Times are places in the order of the world's events.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it was asked.
    pub asked: u64,
    /// When the answer came; `u64::MAX` if none did.
    pub answered: u64,
    /// What was asked.
    pub operation: Operation,
    /// What was heard.
    pub outcome: Outcome,
}
