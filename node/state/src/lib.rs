//! Deterministic state machine: keys, leases, watches.
