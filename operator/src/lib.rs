//! The Kubernetes operator for StoreClusters.
