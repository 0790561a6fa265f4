//! The embedded Kubernetes, the images it runs, and the foreign tools that both need.
//!
//! | folder | what lives there |
//! |---|---|
//! | `bench/` | Quorate and etcd side by side: throughput, latencies, CPU, failover, growth, profiles |
//! | `cluster/` | control plane and nodes as processes in network namespaces; up, down, faults |
//! | `tools` | programs written in Go, built from the modules in `tools/` and kept in the user's cache |
//! | `image` | OCI archives without a container engine |
//! | `product` | this project's own images and charts on a Kubernetes |
//! | `tests/` | the suites: binaries and wire APIs only |

pub mod bench;
pub mod cluster;
pub mod command;
pub mod digest;
pub mod image;
pub mod product;
pub mod system;
pub mod tools;
