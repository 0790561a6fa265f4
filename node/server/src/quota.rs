//! How much the backend may hold.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Every so many writes the engine is asked for its size: that takes a lock which its writer holds for long.
const WRITES_PER_CHECK: u64 = 64;

/// A limit of the backend's size, looked at now and then while there is room, and at every write while there is none: who has
/// made room and disarmed the alarm writes again at once.
#[derive(Debug)]
pub struct Quota {
    bytes: u64,
    writes: AtomicU64,
    exceeded: AtomicBool,
}

impl Quota {
    /// A limit in bytes; 0 is none.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { bytes, writes: AtomicU64::new(0), exceeded: AtomicBool::new(false) }
    }

    /// Whether a write finds the backend too large; `size_bytes` asks for its size.
    pub fn is_exceeded(&self, size_bytes: impl FnOnce() -> u64) -> bool {
        let due = self.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(WRITES_PER_CHECK);
        if self.bytes > 0 && (due || self.exceeded.load(Ordering::Relaxed)) {
            self.exceeded.store(size_bytes() > self.bytes, Ordering::Relaxed);
        }
        self.exceeded.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_asked_for_now_and_then_while_there_is_room() {
        let quota = Quota::new(100);
        let mut asked = 0;
        for _ in 0..10 * WRITES_PER_CHECK {
            assert!(!quota.is_exceeded(|| {
                asked += 1;
                100
            }));
        }
        assert_eq!(asked, 10);
    }

    #[test]
    fn room_is_found_at_the_next_write() {
        let quota = Quota::new(100);
        assert!(quota.is_exceeded(|| 101));
        assert!(quota.is_exceeded(|| 101));
        assert!(!quota.is_exceeded(|| 100));
    }

    #[test]
    fn no_quota_is_never_exceeded() {
        assert!(!Quota::new(0).is_exceeded(|| u64::MAX));
    }
}
