//! Stories that only Multi-Paxos can tell.
