//! What each RPC needs. An RPC that is not declared here is refused: a test walks the service descriptors.

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Anybody who is connected.
    Open,
    /// Who may touch the keys that the request names.
    Keys,
    /// Any user.
    User,
    /// Root.
    Root,
}

/// Whether a learner serves it too (etcd `v3rpc/util.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLearner {
    /// It does.
    Serves,
    /// Only a serializable read.
    Serializable,
    /// It does not.
    Refuses,
}

/// The table: path, policy, learners.
pub const POLICIES: &[(&str, Policy, OnLearner)] = &[
    ("/etcdserverpb.KV/Range", Policy::Keys, OnLearner::Serializable),
    ("/etcdserverpb.KV/RangeStream", Policy::Keys, OnLearner::Serializable),
    ("/etcdserverpb.KV/Put", Policy::Keys, OnLearner::Refuses),
    ("/etcdserverpb.KV/DeleteRange", Policy::Keys, OnLearner::Refuses),
    ("/etcdserverpb.KV/Txn", Policy::Keys, OnLearner::Refuses),
    ("/etcdserverpb.KV/Compact", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Watch/Watch", Policy::Keys, OnLearner::Refuses),
    ("/etcdserverpb.Lease/LeaseGrant", Policy::User, OnLearner::Refuses),
    ("/etcdserverpb.Lease/LeaseRevoke", Policy::Keys, OnLearner::Refuses),
    ("/etcdserverpb.Lease/LeaseKeepAlive", Policy::User, OnLearner::Refuses),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Policy::Keys, OnLearner::Refuses),
    ("/etcdserverpb.Lease/LeaseLeases", Policy::User, OnLearner::Refuses),
    ("/etcdserverpb.Cluster/MemberAdd", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Cluster/MemberRemove", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Cluster/MemberUpdate", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Cluster/MemberList", Policy::User, OnLearner::Serves),
    ("/etcdserverpb.Cluster/MemberPromote", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Maintenance/Alarm", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Maintenance/Status", Policy::Open, OnLearner::Serves),
    ("/etcdserverpb.Maintenance/Defragment", Policy::Root, OnLearner::Serves),
    ("/etcdserverpb.Maintenance/Hash", Policy::Root, OnLearner::Serves),
    ("/etcdserverpb.Maintenance/HashKV", Policy::Root, OnLearner::Serves),
    ("/etcdserverpb.Maintenance/Snapshot", Policy::Root, OnLearner::Serves),
    ("/etcdserverpb.Maintenance/MoveLeader", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Maintenance/Downgrade", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/AuthEnable", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/AuthDisable", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/AuthStatus", Policy::Open, OnLearner::Refuses),
    ("/etcdserverpb.Auth/Authenticate", Policy::Open, OnLearner::Refuses),
    ("/etcdserverpb.Auth/UserAdd", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/UserGet", Policy::User, OnLearner::Refuses),
    ("/etcdserverpb.Auth/UserList", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/UserDelete", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/UserChangePassword", Policy::User, OnLearner::Refuses),
    ("/etcdserverpb.Auth/UserGrantRole", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/UserRevokeRole", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/RoleAdd", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/RoleGet", Policy::User, OnLearner::Refuses),
    ("/etcdserverpb.Auth/RoleList", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/RoleDelete", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/RoleGrantPermission", Policy::Root, OnLearner::Refuses),
    ("/etcdserverpb.Auth/RoleRevokePermission", Policy::Root, OnLearner::Refuses),
    ("/v3lockpb.Lock/Lock", Policy::Keys, OnLearner::Refuses),
    ("/v3lockpb.Lock/Unlock", Policy::Keys, OnLearner::Refuses),
    ("/v3electionpb.Election/Campaign", Policy::Keys, OnLearner::Refuses),
    ("/v3electionpb.Election/Proclaim", Policy::Keys, OnLearner::Refuses),
    ("/v3electionpb.Election/Leader", Policy::Keys, OnLearner::Refuses),
    ("/v3electionpb.Election/Observe", Policy::Keys, OnLearner::Refuses),
    ("/v3electionpb.Election/Resign", Policy::Keys, OnLearner::Refuses),
    ("/grpc.health.v1.Health/Check", Policy::Open, OnLearner::Serves),
    ("/grpc.health.v1.Health/List", Policy::Open, OnLearner::Serves),
    ("/grpc.health.v1.Health/Watch", Policy::Open, OnLearner::Serves),
];

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn every_rpc_is_declared_and_nothing_else() {
        let set = prost_types::FileDescriptorSet::decode(quorate_api::FILE_DESCRIPTOR_SET).unwrap();
        let mut paths: Vec<String> = Vec::new();
        for file in &set.file {
            let package = file.package();
            if package.starts_with("quorate.peer") {
                continue;
            }
            for service in &file.service {
                paths.extend(
                    service
                        .method
                        .iter()
                        .map(|method| format!("/{package}.{}/{}", service.name(), method.name())),
                );
            }
        }
        paths.sort();
        let mut declared: Vec<&str> = POLICIES.iter().map(|(path, ..)| *path).collect();
        declared.sort_unstable();
        assert_eq!(paths, declared);
    }
}
