//! One group on one member: consensus, storage and state, synchronous.
