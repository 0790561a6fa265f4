//! The etcd v3 API and the peer protocol, generated from .proto files.
//!
//! Each module is one protobuf package. Fields of type `bytes` are [`bytes::Bytes`], so that a decoded value shares the
//! frame it came in. The features `client` and `server` choose what is generated for services; both are on by default.

#[cfg(any(feature = "client", feature = "server"))]
mod codec;

/// The generated code of one package. Its style is the generator's affair.
macro_rules! package {
    ($(#[$doc:meta])* $module:ident, $package:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::wildcard_imports, reason = "generated code")]
        pub mod $module {
            tonic::include_proto!($package);
        }
    };
}

package!(
    /// etcd's services KV, Watch, Lease, Cluster, Maintenance and Auth, and their messages.
    etcdserverpb,
    "etcdserverpb"
);
package!(
    /// Keys and events.
    mvccpb,
    "mvccpb"
);
package!(
    /// Users, roles and permissions as data.
    authpb,
    "authpb"
);
package!(
    /// etcd's Lock service.
    v3lockpb,
    "v3lockpb"
);
package!(
    /// etcd's Election service.
    v3electionpb,
    "v3electionpb"
);
package!(
    /// gRPC's Health service, `grpc.health.v1`.
    health,
    "grpc.health.v1"
);
package!(
    /// What members say to each other, `quorate.peer.v1`. Not part of the API for clients.
    peer,
    "quorate.peer.v1"
);

/// The descriptors of all the packages: an encoded `google.protobuf.FileDescriptorSet`, with comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
