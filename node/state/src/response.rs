//! Answers to commands and reads.

use crate::command::Alarm;
use crate::event::KeyValue;

/// The answer to a command, with the revision after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The newest revision when it was applied.
    pub revision: i64,
    /// What it answers.
    pub body: Body,
}

/// The answers by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// To a put.
    Put {
        /// What was there before, if asked.
        prev_kv: Option<KeyValue>,
    },
    /// To a deletion.
    DeleteRange {
        /// How many keys were there.
        deleted: i64,
        /// What was there, if asked.
        prev_kvs: Vec<KeyValue>,
    },
    /// To a read within a transaction.
    Range(RangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact,
    /// To a lease's grant.
    LeaseGrant,
    /// To a lease's end.
    LeaseRevoke,
    /// To a change of alarms: those that it raised or ended.
    Alarm(Vec<Alarm>),
    /// To a raised level.
    RaiseLevel,
}

/// The answer to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    /// Whether the conditions held.
    pub succeeded: bool,
    /// One answer for each operation done.
    pub responses: Vec<Response>,
}

/// The answer to a read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The pairs.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut the answer.
    pub more: bool,
    /// How many keys lie in the range, whatever the limit and the filters say.
    pub count: i64,
}
