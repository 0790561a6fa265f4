//! What a seed's world looks like from outside: the same wherever seeds are run.

/// Simulated time under faults.
pub const FAULTY_MS: u64 = 20_000;

/// How many voters the world of a seed starts with.
#[must_use]
pub fn voters(seed: u64) -> u64 {
    [3, 3, 5, 1][(seed % 4) as usize]
}
