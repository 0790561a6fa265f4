//! The tokio and tonic shell around replicas.
