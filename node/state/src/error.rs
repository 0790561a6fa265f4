//! Why a command or a read was refused, and why the machine must end.

use quorate_storage::backend::BackendError;

/// A refusal; the state did not change. The server gives each its etcd status and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The revision was compacted.
    #[error("the revision was compacted")]
    Compacted,
    /// The revision is not there yet.
    #[error("the revision is in the future")]
    FutureRevision,
    /// The lease is not there.
    #[error("the lease was not found")]
    LeaseNotFound,
    /// The lease is there already.
    #[error("the lease exists already")]
    LeaseExists,
    /// `ignore_value` or `ignore_lease` of a key that is not there.
    #[error("the key was not found")]
    KeyNotFound,
    /// The command is of a later version or malformed.
    #[error("the command is not known to this version")]
    UnknownCommand,
}

/// The member must end.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The engine failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// What the engine holds is not what this version writes.
    #[error("the backend holds a malformed {0}")]
    Malformed(&'static str),
    /// The group's level is higher than this member's: what is decided from there on can't be read here.
    #[error(
        "the group is at feature level {group}, and this version knows levels up to {own}: start a later version"
    )]
    Level {
        /// The group's.
        group: u32,
        /// The highest that this member understands.
        own: u32,
    },
    /// A decided command is of a kind that came with a later version. Going on without it would make another state.
    #[error("entry {0} is a command that this version does not know: start a later version")]
    UnknownCommand(u64),
}

/// A read's failure: of the request, or of the machine.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The request can't be served.
    #[error(transparent)]
    Refused(#[from] ApplyError),
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl From<BackendError> for ReadError {
    fn from(error: BackendError) -> Self {
        Self::Machine(error.into())
    }
}
