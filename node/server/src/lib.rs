//! The tokio and tonic shell around replicas: configuration, driver threads, transport, services, health, metrics.
//!
//! Nothing here decides anything: what is correct about the store lies below, in `quorate-replica` and its parts.

mod alarm;
pub mod api_error;
pub mod bootstrap;
pub mod config;
pub mod driver;
pub mod gather;
pub mod health;
pub mod http;
pub mod listen;
pub mod metrics;
pub mod node;
pub mod policy;
pub mod quota;
mod rpc;
pub mod run;
pub mod scans;
pub mod services;
pub mod tls;
pub mod transport;
