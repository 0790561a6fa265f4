//! A connection that several clients share, and its successors.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;

use super::connection::Connection;
use super::target::Target;

/// Between two tries to reach somebody: short against an election, long against a refused connection.
const PAUSE: Duration = Duration::from_millis(20);

/// Which connection of a slot: they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(u64);

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Slot {
    number: usize,
    current: Mutex<(Generation, Connection)>,
}

impl Slot {
    /// Opens the first connection, to the endpoint of this number.
    ///
    /// # Errors
    /// See [`Target::connect`].
    pub(super) async fn open(target: &Target, number: usize) -> Result<Self> {
        let connection = target.connect(number).await?;
        Ok(Self { number, current: Mutex::new((Generation(0), connection)) })
    }

    /// The connection of today.
    pub(super) async fn current(&self) -> (Generation, Connection) {
        self.current.lock().await.clone()
    }

    /// A connection in the place of one that was lost: the first who asks opens it, to the next endpoint that can be reached.
    ///
    /// # Errors
    /// None could be reached within the target's timeout.
    pub(super) async fn renew(&self, target: &Target, lost: Generation) -> Result<(Generation, Connection)> {
        let mut current = self.current.lock().await;
        if current.0 > lost {
            return Ok(current.clone());
        }
        let began = Instant::now();
        for attempt in 1.. {
            match target.connect(self.number + attempt).await {
                Ok(connection) => {
                    *current = (Generation(lost.0 + 1), connection);
                    break;
                }
                Err(error) if began.elapsed() > target.timeout => {
                    return Err(error).context("a connection was lost, and no endpoint answers");
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        Ok(current.clone())
    }
}
