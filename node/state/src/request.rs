//! Requests as etcd's API has them (`api/etcdserverpb/rpc.proto`), in types of our own that also stand in the log.

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

/// A read of one key or a range.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Range {
    /// The first key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Empty: the key alone. One zero byte: everything from the key on. Else the first key behind the range.
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// At most so many pairs; 0 for all.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// The revision to read at; 0 or less for the newest.
    #[prost(int64, tag = "4")]
    pub revision: i64,
    /// The order of the answer.
    #[prost(enumeration = "SortOrder", tag = "5")]
    pub sort_order: i32,
    /// What to order by.
    #[prost(enumeration = "SortTarget", tag = "6")]
    pub sort_target: i32,
    /// Leave out the values.
    #[prost(bool, tag = "8")]
    pub keys_only: bool,
    /// Answer with the count alone.
    #[prost(bool, tag = "9")]
    pub count_only: bool,
    /// Only keys last changed at or after this revision; 0 for all.
    #[prost(int64, tag = "10")]
    pub min_mod_revision: i64,
    /// Only keys last changed at or before this revision; 0 for all.
    #[prost(int64, tag = "11")]
    pub max_mod_revision: i64,
    /// Only keys made at or after this revision; 0 for all.
    #[prost(int64, tag = "12")]
    pub min_create_revision: i64,
    /// Only keys made at or before this revision; 0 for all.
    #[prost(int64, tag = "13")]
    pub max_create_revision: i64,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum SortOrder {
    /// By key, ascending, unless another target asks for its own ascending order.
    None = 0,
    /// The smallest first.
    Ascend = 1,
    /// The largest first.
    Descend = 2,
}

/// What to order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum SortTarget {
    /// The key.
    Key = 0,
    /// How often it was put.
    Version = 1,
    /// The revision that made it.
    Create = 2,
    /// The revision that last changed it.
    Mod = 3,
    /// The value.
    Value = 4,
}

/// A write of one key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Put {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    /// The lease it hangs on; 0 for none.
    #[prost(int64, tag = "3")]
    pub lease: i64,
    /// Answer with what was there before.
    #[prost(bool, tag = "4")]
    pub prev_kv: bool,
    /// Keep the value.
    #[prost(bool, tag = "5")]
    pub ignore_value: bool,
    /// Keep the lease.
    #[prost(bool, tag = "6")]
    pub ignore_lease: bool,
}

/// A deletion of one key or a range.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeleteRange {
    /// The first key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// As in [`Range::range_end`].
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    /// Answer with what was there.
    #[prost(bool, tag = "3")]
    pub prev_kv: bool,
}

/// A condition.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Compare {
    /// How the stored value must relate to the given one.
    #[prost(enumeration = "Relation", tag = "1")]
    pub relation: i32,
    /// The first key.
    #[prost(bytes = "bytes", tag = "3")]
    pub key: Bytes,
    /// As in [`Range::range_end`]; the condition must hold for every key of the range.
    #[prost(bytes = "bytes", tag = "8")]
    pub range_end: Bytes,
    /// The given value.
    #[prost(oneof = "Target", tags = "4, 5, 6, 7, 9")]
    pub target: Option<Target>,
}

/// A relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum Relation {
    /// Stored = given.
    Equal = 0,
    /// Stored > given.
    Greater = 1,
    /// Stored < given.
    Less = 2,
    /// Stored ≠ given.
    NotEqual = 3,
}

/// What a condition compares, with the given value.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Target {
    /// The version; 0 where there is no key.
    #[prost(int64, tag = "4")]
    Version(i64),
    /// The revision that made it; 0 where there is no key.
    #[prost(int64, tag = "5")]
    Create(i64),
    /// The revision that last changed it; 0 where there is no key.
    #[prost(int64, tag = "6")]
    Mod(i64),
    /// The value; never holds where there is no key.
    #[prost(bytes = "bytes", tag = "7")]
    Value(Bytes),
    /// The lease; 0 where there is no key.
    #[prost(int64, tag = "9")]
    Lease(i64),
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Operation {
    /// Which.
    #[prost(oneof = "OperationKind", tags = "1, 2, 3, 4")]
    pub kind: Option<OperationKind>,
}

/// The operations.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum OperationKind {
    /// A read.
    #[prost(message, tag = "1")]
    Range(Range),
    /// A write.
    #[prost(message, tag = "2")]
    Put(Put),
    /// A deletion.
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRange),
    /// A transaction within.
    #[prost(message, tag = "4")]
    Txn(Txn),
}

/// If all of `compares` hold then `success`, else `failure`: in one revision.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Txn {
    /// The conditions.
    #[prost(message, repeated, tag = "1")]
    pub compares: Vec<Compare>,
    /// Done if they hold.
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<Operation>,
    /// Done if not.
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<Operation>,
}
