//! End-to-end suites and the embedded Kubernetes they run on.
