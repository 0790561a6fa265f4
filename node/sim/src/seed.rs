//! What a seed's world looks like from outside: the same wherever seeds are run.

/// Simulated time under faults.
pub const FAULTY_MS: u64 = 20_000;

/// How many voters the world of a seed starts with.
#[must_use]
pub fn voters(seed: u64) -> u64 {
    [3, 3, 5, 1][(seed % 4) as usize]
}

/// How many of them are witnesses: in each tenth world one of three or two of five.
#[must_use]
pub fn witnesses(seed: u64) -> u64 {
    let has_some = (seed / 4) % 5 == 2;
    if has_some { [1, 0, 2, 0][(seed % 4) as usize] } else { 0 }
}

/// Who is preferred to lead: in each third world members differ.
#[must_use]
pub fn leader_priority(seed: u64, id: u64) -> u32 {
    let differ = seed.is_multiple_of(3);
    if differ { [0, 1, 2][(id % 3) as usize] } else { 0 }
}
