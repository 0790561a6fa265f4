//! Reads that may take long run on threads of their own, so that those which serve connections go on. The runtime's pool for blocking
//! work is none for them: it grows with the requests, and a limit there would be shared with snapshots that wait for their receivers.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

/// Threads for each core: a scan may wait for the disk, so one is too few. A thread keeps about a MiB of the allocator's memory,
/// and a pool that grows with the requests has as many of them as there are clients.
const PER_CORE: usize = 4;
/// On machines of one core.
const AT_LEAST: usize = 8;

type Scan = Box<dyn FnOnce() + Send>;

/// The process ends before a scan does.
#[derive(Debug, thiserror::Error)]
#[error("the read was ended")]
pub struct Ended;

/// Threads for long reads. Those that find none free wait in the order in which they came.
#[derive(Debug)]
pub struct Scans {
    /// One for each thread, so the channel never holds more than there are.
    free: Arc<Semaphore>,
    scans: Sender<Scan>,
}

impl Scans {
    /// As many threads as suit this machine's cores.
    ///
    /// # Errors
    /// A thread can't be started.
    pub fn for_this_machine() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_threads((PER_CORE * cores).max(AT_LEAST))
    }

    /// So many threads.
    ///
    /// # Errors
    /// One can't be started.
    pub fn with_threads(count: usize) -> io::Result<Self> {
        let (scans, next) = channel();
        let next = Arc::new(Mutex::new(next));
        for _ in 0..count {
            let next = Arc::clone(&next);
            thread::Builder::new().name("scan".into()).spawn(move || serve(&next))?;
        }
        Ok(Self { free: Arc::new(Semaphore::new(count)), scans })
    }

    /// Runs one when a thread is free. If the caller goes away before that, it does not run.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn run<T: Send + 'static>(
        &self,
        scan: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let thread = Arc::clone(&self.free).acquire_owned().await.map_err(|_| Ended)?;
        let (answer, answered) = oneshot::channel();
        let scan = Box::new(move || {
            // Nobody listens any more: the client is gone.
            let _ = answer.send(scan());
            drop(thread);
        });
        self.scans.send(scan).map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }
}

/// Runs what comes, until nothing can come any more.
fn serve(scans: &Mutex<Receiver<Scan>>) {
    loop {
        let next = scans.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(scan) => scan(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn no_more_run_at_a_time_than_was_said() {
        const AT_A_TIME: usize = 2;
        let scans = Arc::new(Scans::with_threads(AT_A_TIME).unwrap());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let met = Arc::new(Barrier::new(AT_A_TIME));
        let all: Vec<_> = (0..5 * AT_A_TIME)
            .map(|_| {
                let (scans, running, most) = (Arc::clone(&scans), Arc::clone(&running), Arc::clone(&most));
                let met = Arc::clone(&met);
                tokio::spawn(async move {
                    let scan = move || {
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        // Ends only when as many as may are running.
                        met.wait();
                        running.fetch_sub(1, Ordering::SeqCst);
                    };
                    scans.run(scan).await
                })
            })
            .collect();
        for one in all {
            one.await.unwrap().unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), AT_A_TIME);
    }
}
