//! Real processes on loopback.

mod kills;
mod restarts;
mod support;
mod watches;
mod witnesses;
