//! What ends a member, and what keeps one from starting.

use quorate_consensus::start::StartError;
use quorate_state::error::MachineError;
use quorate_storage::wal::WalError;

/// The member must stop: what it holds in memory may not be what its disk holds.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The log failed.
    #[error("the log failed")]
    Wal(#[from] WalError),
    /// The state machine failed.
    #[error("the state machine failed")]
    Machine(#[from] MachineError),
    /// A decided entry can't be read back.
    #[error("entry {0} was decided and can't be read back")]
    Unreadable(u64),
}

/// The member can't start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The log can't be opened.
    #[error("the log can't be opened")]
    Wal(#[from] WalError),
    /// The state machine can't be opened.
    #[error("the state machine can't be opened")]
    Machine(#[from] MachineError),
    /// The protocol can't go on with the log.
    #[error("the protocol can't go on with the log")]
    Start(#[from] StartError),
    /// The membership in the backend can't be read.
    #[error("the backend's membership can't be read")]
    Membership,
    /// The directory has a log of another protocol, cluster or member.
    #[error("the data directory belongs to {found}; this process was started as {expected}")]
    Foreign {
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// A record that was durable is damaged, and repair from peers is not there yet.
    #[error(
        "entry {0} of the log is damaged; repair from peers is not there yet: replace this member by a new one with an \
         empty data directory"
    )]
    Faulty(u64),
    /// The state is ahead of the log, or behind its start: files were mixed or lost.
    #[error(
        "the state machine is at {applied} but the log holds {first} to {last}: files were lost or mixed"
    )]
    Mismatch {
        /// The state's index.
        applied: u64,
        /// The log's first index.
        first: u64,
        /// The log's last index.
        last: u64,
    },
}
