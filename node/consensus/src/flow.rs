//! Flow control: what a leader sent one receiver of its log and what came back, and what is appended but not decided.

use std::collections::VecDeque;

use crate::config::Config;
use crate::disk::Mean;
use crate::id::{Index, Time};

/// How entries travel to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    /// Where it matches is not known: one message at a time, the next when answered or at the next heartbeat.
    Probe {
        /// A message is on its way.
        sent: bool,
    },
    /// Entries are sent ahead of their acknowledgements.
    Pipeline,
    /// It lacks entries that are gone; a snapshot is on its way.
    Snapshot,
}

/// One receiver. Invariant: `matched < next`.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Progress {
    /// Known to be on its disk and equal to the leader's log.
    pub(crate) matched: Index,
    /// The next entry to send.
    pub(crate) next: Index,
    pub(crate) flow: Flow,
    /// When it last answered anything in this term.
    pub(crate) active_at: Time,
    /// When `matched` last moved, or the pipeline was last empty.
    pub(crate) moved_at: Time,
    /// The newest round of reads that it confirmed.
    pub(crate) round: u64,
    /// From an entry's leaving to its acknowledgement: the network's way and the receiver's disk.
    pub(crate) delay: Mean,
    /// The entry that is timed now.
    timed: Option<(Index, Time)>,
    /// The decided position that it was told last, as far as it held it.
    pub(crate) told: Index,
    inflight: VecDeque<(Index, usize)>,
    inflight_bytes: usize,
}

impl Progress {
    pub(crate) fn new(next: Index, now: Time) -> Self {
        Self {
            matched: Index(0),
            next,
            flow: Flow::Probe { sent: false },
            active_at: now,
            moved_at: now,
            round: 0,
            delay: Mean::default(),
            timed: None,
            told: Index(0),
            inflight: VecDeque::new(),
            inflight_bytes: 0,
        }
    }

    /// Whether an append may leave now.
    pub(crate) fn may_send(&self, appends_max: usize, bytes_max: usize) -> bool {
        match self.flow {
            Flow::Probe { sent } => !sent,
            Flow::Pipeline => self.inflight.len() < appends_max && self.inflight_bytes < bytes_max,
            Flow::Snapshot => false,
        }
    }

    /// Entries up to `last` left.
    pub(crate) fn sent(&mut self, last: Index, bytes: usize, now: Time) {
        if last >= self.next {
            self.timed.get_or_insert((last, now));
        }
        match &mut self.flow {
            Flow::Probe { sent } => *sent = true,
            Flow::Pipeline => {
                if self.inflight.is_empty() {
                    self.moved_at = now;
                }
                self.inflight.push_back((last, bytes));
                self.inflight_bytes += bytes;
                self.next = last.next();
            }
            Flow::Snapshot => {}
        }
    }

    /// It holds everything up to `matched`. Whether that is news. `snapshot_index`: the leader's log begins behind it. While a
    /// snapshot is on its way, entries that were sent before it may still be acknowledged: that ends the wait only when what
    /// follows them can be sent, or each of them would ask for another snapshot.
    pub(crate) fn acknowledged(&mut self, matched: Index, snapshot_index: Index, now: Time) -> bool {
        while let Some((_, bytes)) = self.inflight.pop_front_if(|(last, _)| *last <= matched) {
            self.inflight_bytes -= bytes;
        }
        if let Some((_, at)) = self.timed.take_if(|(index, _)| *index <= matched) {
            self.delay.add(now.since_ms(at));
        }
        let news = matched > self.matched;
        if news {
            self.matched = matched;
            self.moved_at = now;
        }
        self.next = self.next.max(matched.next());
        match self.flow {
            Flow::Probe { .. } => self.flow = Flow::Pipeline,
            Flow::Snapshot if news && matched >= snapshot_index => self.flow = Flow::Pipeline,
            Flow::Snapshot | Flow::Pipeline => {}
        }
        news
    }

    /// Starts over from `next`, one message at a time.
    pub(crate) fn probe(&mut self, next: Index, now: Time) {
        self.flow = Flow::Probe { sent: false };
        self.next = next.max(self.matched.next());
        self.moved_at = now;
        self.timed = None;
        self.inflight.clear();
        self.inflight_bytes = 0;
    }

    /// It restarted and knows less than it had acknowledged: what is sent starts there again.
    pub(crate) fn fell_back(&mut self, matched: Index, now: Time) {
        self.matched = matched;
        self.probe(matched.next(), now);
    }

    /// Whether it has caught up so far that it may vote, and answers. One that has acknowledged nothing yet may not even run.
    pub(crate) fn is_ready(&self, commit: Index, lag_max: u64, now: Time, patience_ms: u64) -> bool {
        let answers = self.matched > Index(0) || commit == Index(0);
        answers && self.matched.0 + lag_max >= commit.0 && now.since_ms(self.active_at) <= patience_ms
    }

    /// Waits for a snapshot.
    pub(crate) fn snapshot(&mut self) {
        self.flow = Flow::Snapshot;
        self.timed = None;
        self.inflight.clear();
        self.inflight_bytes = 0;
    }
}

/// Payload that a leader appended and that is not decided yet.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Backlog {
    entries: VecDeque<(Index, usize)>,
    size_bytes: usize,
}

impl Backlog {
    pub(crate) fn push(&mut self, index: Index, size_bytes: usize) {
        self.entries.push_back((index, size_bytes));
        self.size_bytes += size_bytes;
    }

    pub(crate) fn decided(&mut self, through: Index) {
        while let Some((_, size_bytes)) = self.entries.pop_front_if(|(index, _)| *index <= through) {
            self.size_bytes -= size_bytes;
        }
    }

    /// What may still be appended. The last entry may go beyond it.
    pub(crate) fn room_bytes(&self, config: &Config) -> usize {
        config.uncommitted_bytes_max.saturating_sub(self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_was_never_heard_is_not_ready() {
        let mut progress = Progress::new(Index(9), Time(50));
        assert!(!progress.is_ready(Index(8), 20, Time(60), 1_000));
        progress.acknowledged(Index(8), Index(0), Time(70));
        progress.active_at = Time(70);
        assert!(progress.is_ready(Index(8), 20, Time(80), 1_000));
        assert!(!progress.is_ready(Index(29), 20, Time(80), 1_000), "it is far behind");
        assert!(!progress.is_ready(Index(8), 20, Time(2_000), 1_000), "it fell silent");
    }
}
