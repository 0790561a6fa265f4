//! Every status that etcd's clients match by exact code and text (`api/v3rpc/rpctypes/error.go`), and what of ours becomes which.
//! No other file makes a status with one of these texts.

use tonic::{Code, Status};

use quorate_consensus::effect::Refusal;
use quorate_replica::output::Failure;
use quorate_state::error::{ApplyError, ReadError};

/// An etcd error: its gRPC code and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The code.
    pub code: Code,
    /// The text, part of the protocol.
    pub text: &'static str,
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        Self::new(error.code, error.text)
    }
}

macro_rules! errors {
    ($($name:ident = $code:ident $text:literal;)*) => {
        $(#[doc = $text] pub const $name: ApiError = ApiError { code: Code::$code, text: concat!("etcdserver: ", $text) };)*
        /// All of them.
        pub const ALL: &[(&str, ApiError)] = &[$((stringify!($name), $name)),*];
    };
}

errors! {
    EMPTY_KEY = InvalidArgument "key is not provided";
    KEY_NOT_FOUND = InvalidArgument "key not found";
    VALUE_PROVIDED = InvalidArgument "value is provided";
    LEASE_PROVIDED = InvalidArgument "lease is provided";
    TOO_MANY_OPS = InvalidArgument "too many operations in txn request";
    DUPLICATE_KEY = InvalidArgument "duplicate key given in txn request";
    INVALID_CLIENT_API_VERSION = InvalidArgument "invalid client api version";
    INVALID_SORT_OPTION = InvalidArgument "invalid sort option";
    COMPACTED = OutOfRange "mvcc: required revision has been compacted";
    FUTURE_REV = OutOfRange "mvcc: required revision is a future revision";
    NO_SPACE = ResourceExhausted "mvcc: database space exceeded";
    LEASE_NOT_FOUND = NotFound "requested lease not found";
    LEASE_EXIST = FailedPrecondition "lease already exists";
    LEASE_TTL_TOO_LARGE = OutOfRange "too large lease TTL";
    WATCH_CANCELED = Cancelled "watch canceled";
    MEMBER_EXIST = FailedPrecondition "member ID already exist";
    PEER_URL_EXIST = FailedPrecondition "Peer URLs already exists";
    MEMBER_NOT_ENOUGH_STARTED = FailedPrecondition "re-configuration failed due to not enough started members";
    MEMBER_BAD_URLS = InvalidArgument "given member URLs are invalid";
    MEMBER_NOT_FOUND = NotFound "member not found";
    MEMBER_NOT_LEARNER = FailedPrecondition "can only promote a learner member";
    LEARNER_NOT_READY = FailedPrecondition "can only promote a learner member which is in sync with leader";
    TOO_MANY_LEARNERS = FailedPrecondition "too many learner members in cluster";
    CLUSTER_ID_MISMATCH = FailedPrecondition "cluster ID mismatch";
    REQUEST_TOO_LARGE = InvalidArgument "request is too large";
    REQUEST_TOO_MANY_REQUESTS = ResourceExhausted "too many requests";
    ROOT_USER_NOT_EXIST = FailedPrecondition "root user does not exist";
    ROOT_ROLE_NOT_EXIST = FailedPrecondition "root user does not have root role";
    USER_ALREADY_EXIST = FailedPrecondition "user name already exists";
    USER_EMPTY = InvalidArgument "user name is empty";
    USER_NOT_FOUND = FailedPrecondition "user name not found";
    ROLE_ALREADY_EXIST = FailedPrecondition "role name already exists";
    ROLE_NOT_FOUND = FailedPrecondition "role name not found";
    ROLE_EMPTY = InvalidArgument "role name is empty";
    AUTH_FAILED = InvalidArgument "authentication failed, invalid user ID or password";
    PERMISSION_NOT_GIVEN = InvalidArgument "permission not given";
    PERMISSION_DENIED = PermissionDenied "permission denied";
    ROLE_NOT_GRANTED = FailedPrecondition "role is not granted to the user";
    PERMISSION_NOT_GRANTED = FailedPrecondition "permission is not granted to the role";
    AUTH_NOT_ENABLED = FailedPrecondition "authentication is not enabled";
    INVALID_AUTH_TOKEN = Unauthenticated "invalid auth token";
    INVALID_AUTH_MGMT = InvalidArgument "invalid auth management";
    AUTH_OLD_REVISION = InvalidArgument "revision of auth store is old";
    NO_LEADER = Unavailable "no leader";
    NOT_LEADER = FailedPrecondition "not leader";
    LEADER_CHANGED = Unavailable "leader changed";
    NOT_CAPABLE = FailedPrecondition "not capable";
    STOPPED = Unavailable "server stopped";
    TIMEOUT = Unavailable "request timed out";
    TIMEOUT_DUE_TO_LEADER_FAIL = Unavailable "request timed out, possibly due to previous leader failure";
    TIMEOUT_DUE_TO_CONNECTION_LOST = Unavailable "request timed out, possibly due to connection lost";
    TIMEOUT_WAIT_APPLIED_INDEX = Unavailable "request timed out, waiting for the applied index took too long";
    UNHEALTHY = Unavailable "unhealthy cluster";
    CORRUPT = DataLoss "corrupt cluster";
    NOT_SUPPORTED_FOR_LEARNER = FailedPrecondition "rpc not supported for learner";
    NOT_SUPPORTED_FOR_WITNESS = Unavailable "this member is a witness, which votes and holds no data: ask another member";
    NOT_A_MEMBER = Unavailable "this member is still joining the cluster, or was removed from it: ask another member";
    BAD_LEADER_TRANSFEREE = FailedPrecondition "bad leader transferee";
    WRONG_DOWNGRADE_VERSION_FORMAT = InvalidArgument "wrong downgrade target version format";
    INVALID_DOWNGRADE_TARGET_VERSION = InvalidArgument "invalid downgrade target version";
    CLUSTER_VERSION_UNAVAILABLE = FailedPrecondition "cluster version not found during downgrade";
    DOWNGRADE_IN_PROCESS = FailedPrecondition "cluster has a downgrade job in progress";
    NO_INFLIGHT_DOWNGRADE = FailedPrecondition "no inflight downgrade job";
    CANCELED = Cancelled "request canceled";
    DEADLINE_EXCEEDED = DeadlineExceeded "context deadline exceeded";
}

/// A request that this version does not serve yet. The text names it.
#[must_use]
pub fn not_there_yet(what: &str) -> Status {
    Status::unimplemented(format!("quorate: {what} is not there yet"))
}

/// A replica's failure.
#[must_use]
pub fn failure(failure: Failure) -> ApiError {
    match failure {
        Failure::Refused(refusal) => match refusal {
            Refusal::NotLeader { leader: None } | Refusal::Transferring => NO_LEADER,
            Refusal::NotLeader { leader: Some(_) } => LEADER_CHANGED,
            Refusal::Overloaded => REQUEST_TOO_MANY_REQUESTS,
            Refusal::ChangeInProgress | Refusal::InvalidChange => UNHEALTHY,
            Refusal::LearnerNotReady => LEARNER_NOT_READY,
            Refusal::Removed => STOPPED,
        },
        Failure::NoLeader => NO_LEADER,
        Failure::Timeout => TIMEOUT,
        Failure::Lost => LEADER_CHANGED,
        Failure::Overloaded => REQUEST_TOO_MANY_REQUESTS,
        Failure::MemberNotFound => MEMBER_NOT_FOUND,
        Failure::MemberIdExists => MEMBER_EXIST,
        Failure::PeerUrlExists => PEER_URL_EXIST,
        Failure::NotLearner => MEMBER_NOT_LEARNER,
        Failure::Unhealthy => MEMBER_NOT_ENOUGH_STARTED,
        Failure::Learner => NOT_SUPPORTED_FOR_LEARNER,
        Failure::Witness => NOT_SUPPORTED_FOR_WITNESS,
        Failure::NotMember => NOT_A_MEMBER,
    }
}

/// A state machine's refusal.
#[must_use]
pub fn refusal(error: ApplyError) -> Status {
    match error {
        ApplyError::Compacted => COMPACTED.into(),
        ApplyError::FutureRevision => FUTURE_REV.into(),
        ApplyError::LeaseNotFound => LEASE_NOT_FOUND.into(),
        ApplyError::LeaseExists => LEASE_EXIST.into(),
        ApplyError::KeyNotFound => KEY_NOT_FOUND.into(),
        ApplyError::UnknownCommand => not_there_yet("this command"),
    }
}

/// A read's failure.
#[must_use]
pub fn read(error: &ReadError) -> Status {
    match error {
        ReadError::Refused(error) => refusal(*error),
        ReadError::Machine(error) => {
            tracing::error!(error = error as &dyn std::error::Error, "a read failed");
            Status::internal("quorate: the backend failed to read")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unique_and_as_clients_match_them() {
        let texts: std::collections::BTreeSet<&str> = ALL.iter().map(|(_, error)| error.text).collect();
        assert_eq!(texts.len(), ALL.len());
        assert_eq!(COMPACTED.code, Code::OutOfRange);
        assert_eq!(COMPACTED.text, "etcdserver: mvcc: required revision has been compacted");
    }
}
