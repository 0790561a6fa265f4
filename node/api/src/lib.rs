//! The etcd v3 API and the peer protocol, generated from .proto files.
