//! When operations begin, and the moment each is measured from.
//!
//! Closed loop: a client begins the next operation when the one before has its answer; latency counts from its beginning.
//! Open loop: operation n is due at n times the interval, whatever happened to those before; latency counts from when it was
//! due, so a server that stalls pays for every operation that had to wait (G. Tene's "coordinated omission").

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

/// How long, how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) duration: Option<Duration>,
    pub(super) total: Option<u64>,
    /// Operations a second; without one, a closed loop.
    pub(super) rate: Option<f64>,
}

/// Hands out beginnings to clients.
#[derive(Debug)]
pub(super) struct Schedule {
    begin: Instant,
    end: Option<Instant>,
    total: u64,
    taken: AtomicU64,
    pace: Option<Pace>,
}

#[derive(Debug)]
struct Pace {
    interval_ns: f64,
    /// Operations that are due and not begun. It is closed at the end.
    due: Semaphore,
    released: AtomicU64,
}

impl Schedule {
    pub(super) fn new(plan: Plan, begin: Instant) -> Self {
        let pace = plan.rate.map(|rate| Pace {
            interval_ns: 1e9 / rate,
            due: Semaphore::new(0),
            released: AtomicU64::new(0),
        });
        let end = plan.duration.map(|duration| begin + duration);
        Self { begin, end, total: plan.total.unwrap_or(u64::MAX), taken: AtomicU64::new(0), pace }
    }

    /// The moment the next operation is measured from, when it may begin; nothing when the run is over.
    pub(super) async fn next(&self) -> Option<Instant> {
        if let Some(pace) = &self.pace {
            pace.due.acquire().await.ok()?.forget();
        }
        let now = Instant::now();
        if self.end.is_some_and(|end| now >= end) {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= self.total {
            return None;
        }
        Some(self.pace.as_ref().map_or(now, |pace| self.due_at(pace, number)))
    }

    fn due_at(&self, pace: &Pace, number: u64) -> Instant {
        self.begin + Duration::from_nanos((number as f64 * pace.interval_ns) as u64)
    }

    /// How many are due before the end.
    fn last(&self, pace: &Pace) -> u64 {
        let before = |end: Instant| ((end - self.begin).as_nanos() as f64 / pace.interval_ns).ceil() as u64;
        self.end.map_or(u64::MAX, before).min(self.total)
    }

    /// Releases operations as they fall due; must run beside the clients. Ends at once in a closed loop.
    ///
    /// # Errors
    /// The kernel gives no timer.
    pub(super) async fn pace(&self) -> Result<()> {
        let Some(pace) = &self.pace else { return Ok(()) };
        let timer = Timer::new()?;
        loop {
            let released = pace.released.load(Ordering::Relaxed);
            let next = self.due_at(pace, released);
            if released >= self.total {
                // One for each client that waits: it finds that all are taken.
                pace.due.add_permits(Semaphore::MAX_PERMITS / 2);
                return Ok(());
            }
            if self.end.is_some_and(|end| next >= end) {
                timer.wait_until(self.end.unwrap_or(next)).await?;
                pace.due.close();
                return Ok(());
            }
            timer.wait_until(next).await?;
            // All that fell due while this task could not run are released together.
            let elapsed_ns = self.begin.elapsed().as_nanos() as f64;
            let due = ((elapsed_ns / pace.interval_ns) as u64 + 1).min(self.last(pace)).max(released + 1);
            pace.released.store(due, Ordering::Relaxed);
            pace.due.add_permits(usize::try_from(due - released)?);
        }
    }

    /// Operations that were due and never begun, because all clients were busy until the end.
    pub(super) fn not_begun(&self) -> u64 {
        let taken = self.taken.load(Ordering::Relaxed).min(self.total);
        self.pace.as_ref().map_or(0, |pace| pace.released.load(Ordering::Relaxed).saturating_sub(taken))
    }
}

/// The runtime's own timer has ticks of a millisecond, which would count as latency.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new() -> Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd lives as long as its registration"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self(timer))
    }

    async fn wait_until(&self, moment: Instant) -> Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Others must run too when this task is behind.
            tokio::task::yield_now().await;
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs())?,
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        let mut ready = self.0.readable().await?;
        let mut expirations = [0_u8; 8];
        match rustix::io::read(ready.get_inner(), &mut expirations) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(duration_ms: Option<u64>, total: Option<u64>, rate: Option<f64>) -> Plan {
        Plan { duration: duration_ms.map(Duration::from_millis), total, rate }
    }

    #[tokio::test]
    async fn a_closed_loop_ends_by_number_and_by_time() {
        let schedule = Schedule::new(plan(None, Some(3), None), Instant::now());
        let mut begun = 0;
        while schedule.next().await.is_some() {
            begun += 1;
        }
        assert_eq!((begun, schedule.not_begun()), (3, 0));
        let over = Schedule::new(plan(Some(0), None, None), Instant::now());
        assert!(over.next().await.is_none());
    }

    #[tokio::test]
    async fn an_open_loop_measures_from_when_operations_were_due() {
        let begin = Instant::now();
        let schedule = Schedule::new(plan(None, Some(20), Some(1_000.0)), begin);
        let client = async {
            let mut due_ms = Vec::new();
            while let Some(due) = schedule.next().await {
                if due_ms.is_empty() {
                    // The server stalls: those behind wait, and must count it.
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
                due_ms.push((due - begin).as_millis());
                assert!(due <= Instant::now());
            }
            due_ms
        };
        let (paced, due_ms) = tokio::join!(schedule.pace(), client);
        paced.unwrap();
        assert_eq!(due_ms, (0..20).collect::<Vec<u128>>());
        assert_eq!(schedule.not_begun(), 0);
    }

    #[tokio::test]
    async fn what_was_due_and_not_begun_is_told() {
        let schedule = Schedule::new(plan(Some(50), None, Some(1_000.0)), Instant::now());
        let client = async {
            assert!(schedule.next().await.is_some());
            // One operation takes longer than the whole run.
            tokio::time::sleep(Duration::from_millis(80)).await;
            assert!(schedule.next().await.is_none());
        };
        let (paced, ()) = tokio::join!(schedule.pace(), client);
        paced.unwrap();
        assert_eq!(schedule.not_begun(), 49);
    }
}
