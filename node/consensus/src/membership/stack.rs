//! The memberships that a log holds, for protocols in which one is in force as soon as it is appended.

use std::collections::VecDeque;

use super::Membership;
use crate::entry::{Entry, SnapshotMark};
use crate::id::Index;
use crate::log::LogRead;
use crate::mutants::mutant;
use crate::start::StartError;

/// Entries read at once while a log is gone through.
const READ_BYTES_MAX: usize = 1 << 20;

/// The membership before the log's first entry, then those in the log that are not below the commit index.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Stack(VecDeque<(Index, Membership)>);

impl Stack {
    /// The memberships of a recovered log.
    ///
    /// # Errors
    /// The log can't be read, or has a membership that can't be decoded.
    pub(crate) fn load(mark: SnapshotMark, log: &dyn LogRead) -> Result<Self, StartError> {
        let mut stack = Self(VecDeque::from([(log.snapshot_index(), mark.membership)]));
        let mut next = log.snapshot_index().next();
        while next <= log.last_index() {
            let entries = log
                .entries(next, log.last_index().next(), READ_BYTES_MAX)
                .map_err(|missing| StartError::Unreadable { index: next, missing })?;
            for entry in &entries {
                if let Some(membership) = StartError::membership(entry)? {
                    stack.0.push_back((entry.index, membership));
                }
            }
            next = entries.last().map_or(next, |entry| entry.index).next();
        }
        Ok(stack)
    }

    /// Takes over the membership in an appended entry.
    pub(crate) fn note(&mut self, entry: &Entry) {
        if let Some(membership) = Membership::of(entry).expect("a leader appends well-formed memberships") {
            self.0.push_back((entry.index, membership));
        }
    }

    /// The log is replaced from `index` on.
    pub(crate) fn replaced_from(&mut self, index: Index) {
        while self.0.len() > 1 && self.present().0 >= index {
            self.0.pop_back();
        }
    }

    /// Forgets what can't be gone back to any more.
    pub(crate) fn committed(&mut self, index: Index) {
        while self.0.get(1).is_some_and(|(at, _)| *at <= index) {
            self.0.pop_front();
        }
    }

    pub(crate) fn installed(&mut self, mark: SnapshotMark) {
        self.0 = VecDeque::from([(mark.index, mark.membership)]);
    }

    /// The membership in force, and the entry it stands in.
    pub(crate) fn present(&self) -> &(Index, Membership) {
        let newest = if mutant!(ConfigurationAtApply) { self.0.front() } else { self.0.back() };
        newest.expect("the base membership is always there")
    }
}
