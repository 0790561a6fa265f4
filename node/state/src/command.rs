//! What the log's commands say, and their bytes.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::request::{DeleteRange, Put, Txn};

/// A command. Later versions add fields and kinds; a kind that is not known here is never proposed before every member
/// knows it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Command {
    /// Which.
    #[prost(oneof = "CommandKind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub kind: Option<CommandKind>,
}

/// The commands.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum CommandKind {
    /// Write a key.
    #[prost(message, tag = "1")]
    Put(Put),
    /// Delete keys.
    #[prost(message, tag = "2")]
    DeleteRange(DeleteRange),
    /// A transaction.
    #[prost(message, tag = "3")]
    Txn(Txn),
    /// Forget history below this revision.
    #[prost(int64, tag = "4")]
    Compact(i64),
    /// Make a lease.
    #[prost(message, tag = "5")]
    LeaseGrant(LeaseGrant),
    /// End a lease and delete its keys.
    #[prost(message, tag = "6")]
    LeaseRevoke(LeaseRevoke),
    /// Raise or end an alarm.
    #[prost(message, tag = "7")]
    Alarm(AlarmChange),
    /// Every member understands this level: from here on commands and states of it may appear. Lower ones change nothing.
    #[prost(uint32, tag = "8")]
    RaiseLevel(u32),
}

/// Something that is wrong on a member and that the whole cluster must know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct Alarm {
    /// The member.
    #[prost(fixed64, tag = "1")]
    pub member: u64,
    /// etcd's `AlarmType`.
    #[prost(int32, tag = "2")]
    pub kind: i32,
}

/// Raise or end an alarm. What is so already stays so.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AlarmChange {
    /// Which.
    #[prost(message, required, tag = "1")]
    pub alarm: Alarm,
    /// Raise it.
    #[prost(bool, tag = "2")]
    pub raise: bool,
}

/// Make a lease.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseGrant {
    /// Its id; never 0.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Its time to live in seconds.
    #[prost(int64, tag = "2")]
    pub ttl_s: i64,
}

/// End a lease.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseRevoke {
    /// Its id.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Proposed by a leader whose clock says that it expired: only that leader's epoch makes it valid, so that a deposed
    /// one never ends a lease that its successor renewed (etcd #15247). 0 if a client asked.
    #[prost(uint64, tag = "2")]
    pub expired_in_epoch: u64,
}

impl Command {
    /// A command of this kind.
    #[must_use]
    pub fn new(kind: CommandKind) -> Self {
        Self { kind: Some(kind) }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}
