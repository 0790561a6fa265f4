//! Disk, write-ahead log, snapshots and the ordered key-value backend.
