//! A timer that is set again and again, and mostly not waited for.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Rings at the latest when it was asked to, and sometimes earlier: a time that is still to come stays set as long as nobody
/// needs an earlier one. Setting a timer of the runtime costs a system call.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Waits for `wait` at most. May be dropped while it waits.
    pub(crate) async fn ring_within(&mut self, wait: Duration) {
        self.set(Instant::now() + wait).await;
    }

    fn set(&mut self, until: Instant) -> Pin<&mut Sleep> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.is_elapsed() || until < sleep.deadline() {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rings_no_later_than_asked() {
        let mut alarm = Alarm::default();
        let hour = Instant::now() + Duration::from_secs(3_600);
        let minute = Instant::now() + Duration::from_secs(60);
        assert_eq!(alarm.set(hour).deadline(), hour);
        assert_eq!(alarm.set(minute).deadline(), minute, "an earlier time replaces a later one");
        assert_eq!(alarm.set(hour).deadline(), minute, "a later one does not replace an earlier one");
        alarm.ring_within(Duration::ZERO).await;
        assert_eq!(alarm.set(hour).deadline(), hour, "what rang is set anew");
    }
}
