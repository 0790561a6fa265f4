//! What one step of a protocol gives rise to, in the order that the caller's contract promises: at most one write, then
//! messages, then the rest. And which writes are durable.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::effect::{Effect, Write};
use crate::entry::{Entry, HardState};
use crate::id::{Epoch, Index, MemberId, WriteId};
use crate::log::{Layout, LogRead};
use crate::mutants::mutant;
use crate::view::{Fresh, View};

/// Who leads, as others are told: epoch, leader, and whether this member leads and serves.
pub(crate) type Leadership = (Epoch, Option<MemberId>, bool);

#[derive(Clone, Debug, Hash)]
struct Outgoing {
    to: MemberId,
    payload: Bytes,
    /// Leaves only when everything written so far is durable.
    durable: bool,
}

/// One member's outgoing side.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Outbox {
    layout: Layout,
    fresh: Fresh,
    /// Of this step only: the caller gets them at its end.
    outgoing: Vec<Outgoing>,
    effects: Vec<Effect>,
    last_write: WriteId,
    persisted: WriteId,
    /// Writes under way with the first index that they change and the last one that they hold. No limit of its own: a follower's
    /// disk gets one for each message with entries, and acknowledges none before it is durable, so `inflight_appends_max` bounds
    /// them for each leader that it meets meanwhile. A leader gets one for each step that proposes: `uncommitted_bytes_max` bounds
    /// those, unless the others decide without its disk; then it stops leading within two election timeouts (DESIGN.md).
    writing: VecDeque<(WriteId, Index, Index)>,
    durable: Index,
    saved: HardState,
    told: Leadership,
}

impl Outbox {
    /// After a start: everything in the log is durable.
    pub(crate) fn new(layout: Layout, hard_state: HardState, log: &dyn LogRead) -> Self {
        Self {
            layout,
            fresh: Fresh::default(),
            outgoing: Vec::new(),
            effects: Vec::new(),
            last_write: WriteId(0),
            persisted: WriteId(0),
            writing: VecDeque::new(),
            durable: log.last_index(),
            saved: hard_state,
            told: (Epoch(0), None, false),
        }
    }

    /// The log with what this step wrote so far.
    pub(crate) fn view<'a>(&'a self, log: &'a dyn LogRead) -> View<'a> {
        View { layout: self.layout, log, fresh: &self.fresh }
    }

    /// Adds an entry to this step's write. The first one of a step may lie inside the log.
    pub(crate) fn append(&mut self, entry: Entry) {
        if self.fresh.entries.is_empty() {
            self.durable = self.durable.min(entry.index.previous());
        }
        self.fresh.entries.push(entry);
    }

    /// The log ends at `keep` from this write on.
    ///
    /// # Panics
    /// If entries were appended in this step.
    pub(crate) fn truncate(&mut self, keep: Index) {
        assert!(self.fresh.entries.is_empty(), "a log is cut before it grows");
        self.durable = self.durable.min(keep);
        self.fresh.keep = Some(keep);
    }

    /// Sends a message; `durable`: not before everything written so far is.
    pub(crate) fn send(&mut self, to: MemberId, payload: Bytes, durable: bool) {
        self.outgoing.push(Outgoing { to, payload, durable });
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// The last write that was asked for.
    pub(crate) fn last_write(&self) -> WriteId {
        self.last_write
    }

    /// The write that this step's changes will be a part of.
    pub(crate) fn this_write(&self) -> WriteId {
        WriteId(self.last_write.0 + 1)
    }

    /// The last write that changes anything, this step's included.
    pub(crate) fn newest_write(&self) -> WriteId {
        if self.fresh.is_empty() { self.last_write } else { self.this_write() }
    }

    pub(crate) fn is_persisted(&self, write: WriteId) -> bool {
        write <= self.persisted
    }

    /// The log is durable up to here. Without meaning while a log of slots has holes.
    pub(crate) fn durable(&self) -> Index {
        if mutant!(LeaderCountsUnsyncedCopy) {
            return self.writing.back().map_or(self.durable, |(_, _, last)| *last);
        }
        self.durable
    }

    pub(crate) fn persisted(&mut self, id: WriteId) {
        self.persisted = self.persisted.max(id);
        while let Some((_, _, last)) = self.writing.pop_front_if(|(write, _, _)| *write <= id) {
            let replaced = self.writing.iter().map(|(_, first, _)| first.previous());
            self.durable = replaced.fold(last, Index::min);
        }
    }

    /// A snapshot replaced the log up to `index`.
    pub(crate) fn installed(&mut self, index: Index) {
        self.writing.clear();
        self.durable = index;
    }

    /// The end of a step.
    ///
    /// The commit index is stored only as far as the log is durable. A crash may keep the hard state and lose the entries that
    /// came with it: a history would then pass for committed that a leader had replaced. It never falls, though a log of slots
    /// is durable up to less while one of its older slots is written again.
    pub(crate) fn flush(&mut self, hard_state: HardState, leadership: Leadership, effects: &mut Vec<Effect>) {
        let commit = hard_state.commit.min(self.durable).max(self.saved.commit);
        let hard_state = HardState { commit, ..hard_state };
        let must_save = HardState { commit: self.saved.commit, ..hard_state } != self.saved;
        if must_save || !self.fresh.is_empty() {
            self.last_write = self.this_write();
            let Fresh { keep, entries } = std::mem::take(&mut self.fresh);
            let last = entries.last().map(|entry| entry.index).or(keep);
            let first = keep.map(Index::next).or(entries.first().map(|entry| entry.index));
            if let (Some(first), Some(last)) = (first, last) {
                self.writing.push_back((self.last_write, first, last));
            }
            self.saved = hard_state;
            let hard_state = Some(hard_state);
            effects.push(Effect::Write(Write { id: self.last_write, keep, entries, hard_state }));
        }
        let after = (self.last_write > self.persisted).then_some(self.last_write);
        for Outgoing { to, payload, durable } in self.outgoing.drain(..) {
            effects.push(Effect::Send { to, payload, after: after.filter(|_| durable) });
        }
        effects.append(&mut self.effects);
        if leadership != self.told {
            self.told = leadership;
            let (epoch, leader, established) = leadership;
            effects.push(Effect::Leadership { epoch, leader, established });
        }
    }
}
