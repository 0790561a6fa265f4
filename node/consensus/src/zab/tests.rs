//! Stories that only Zab can tell.
