//! Seeded simulation of whole replicas under faults.
