//! What clients asked, and what they heard.

use quorate_state::command::CommandKind;
use quorate_state::error::ApplyError;
use quorate_state::request::Range;
use quorate_state::response::{RangeResponse, Response};

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Decide and apply this.
    Command(CommandKind),
    /// Read; a serializable one may see the past.
    Read {
        /// What.
        range: Range,
        /// Whether any member may answer from what it has.
        serializable: bool,
    },
    /// Renew a lease.
    KeepAlive {
        /// Its id.
        lease: i64,
    },
}

/// What the client heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet, or nothing certain: it may have happened, or may still.
    Unknown,
    /// It certainly did not happen.
    Refused,
    /// The command was applied.
    Applied(Response),
    /// The state machine refused the command or the read.
    Denied(ApplyError),
    /// Read when this was the newest revision.
    Read(i64, RangeResponse),
    /// The lease was renewed.
    Renewed,
    /// There is no such lease, or no more.
    NotRenewed,
}

/// A moment as the clients' common clock shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Its place in the order of everything that happened.
    pub order: u64,
    /// Milliseconds since the beginning.
    pub ms: u64,
}

impl Moment {
    /// Later than everything.
    pub const NEVER: Self = Self { order: u64::MAX, ms: u64::MAX };
}

/// One operation of a history.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it was asked.
    pub asked: Moment,
    /// When the answer came; [`Moment::NEVER`] if none did.
    pub answered: Moment,
    /// What was asked.
    pub operation: Operation,
    /// What was heard.
    pub outcome: Outcome,
}

impl Record {
    /// The revision that its answer names.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        match &self.outcome {
            Outcome::Applied(response) => Some(response.revision),
            Outcome::Read(revision, _) => Some(*revision),
            Outcome::Unknown
            | Outcome::Refused
            | Outcome::Denied(_)
            | Outcome::Renewed
            | Outcome::NotRenewed => None,
        }
    }
}
