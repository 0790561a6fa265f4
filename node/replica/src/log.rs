//! Between the protocol's log and the storage's: types on one side, numbers on the other.

use quorate_consensus::entry::{Entry, HardState, Kind};
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::log::{LogRead, Missing};
use quorate_storage::wal::{self, ReadError, Record, Wal};

use crate::error::Fatal;
use crate::event::GroupId;

/// The log of all groups of a host.
#[derive(Debug)]
pub(crate) struct SharedLog(pub(crate) Wal);

/// One group's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupLog<'a> {
    wal: &'a Wal,
    group: u64,
}

impl SharedLog {
    pub(crate) fn group(&self, group: GroupId) -> GroupLog<'_> {
        GroupLog { wal: &self.0, group: group.0 }
    }

    pub(crate) fn append(
        &mut self,
        group: GroupId,
        keep: Option<Index>,
        entries: Vec<Entry>,
        hard_state: Option<HardState>,
    ) -> Result<(), Fatal> {
        let records = entries.into_iter().map(|Entry { index, epoch, kind, payload }| Record {
            index: index.0,
            epoch: epoch.0,
            kind: kind.code(),
            body: payload,
        });
        let hard_state = hard_state.map(|HardState { epoch, vote, established, commit }| wal::HardState {
            epoch: epoch.0,
            vote: vote.map_or(0, |id| id.0),
            established: established.0,
            commit: commit.0,
        });
        Ok(self.0.append(group.0, keep.map(|keep| keep.0), records.collect(), hard_state)?)
    }
}

impl GroupLog<'_> {
    pub(crate) fn hard_state(&self) -> HardState {
        let wal::HardState { epoch, vote, established, commit } = self.wal.hard_state(self.group);
        HardState {
            epoch: Epoch(epoch),
            vote: (vote != 0).then_some(MemberId(vote)),
            established: Epoch(established),
            commit: Index(commit),
        }
    }

    pub(crate) fn first_faulty(&self) -> Option<u64> {
        self.wal.first_faulty(self.group)
    }
}

fn missing(error: ReadError) -> Missing {
    match error {
        ReadError::Compacted => Missing::Compacted,
        ReadError::Beyond => Missing::Beyond,
        ReadError::Faulty => Missing::Faulty,
    }
}

impl LogRead for GroupLog<'_> {
    fn snapshot_index(&self) -> Index {
        Index(self.wal.base(self.group).0)
    }

    fn last_index(&self) -> Index {
        Index(self.wal.last_index(self.group))
    }

    fn epoch(&self, index: Index) -> Result<Epoch, Missing> {
        self.wal.epoch(self.group, index.0).map(Epoch).map_err(missing)
    }

    fn entries(&self, from: Index, to: Index, bytes_max: usize) -> Result<Vec<Entry>, Missing> {
        let records = self.wal.records(self.group, from.0, to.0, bytes_max).map_err(missing)?;
        let entry = |Record { index, epoch, kind, body }| {
            let kind = Kind::from_code(kind).ok_or(Missing::Faulty)?;
            Ok(Entry { index: Index(index), epoch: Epoch(epoch), kind, payload: body })
        };
        records.into_iter().map(entry).collect()
    }
}
