//! One log on one disk: random appends, cuts, votes and releases, and a power loss wherever chance has it. What recovery finds
//! must be what was synced, and of the batch that was being synced a prefix: no record, vote or release less, none out of order
//! (crash images: ALICE, OSDI 2014). What is only appended, not yet written, never shows, and takes nothing away. Whole replicas
//! meet such moments rarely, because each crash costs them an election.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use quorate_storage::disk::Disk;
use quorate_storage::disk::sim::SimDisk;
use quorate_storage::wal::{Config, HardState, Identity, Layout, Record, SyncJob, Wal, WalError};

use crate::finding::{Finding, Kind};
use crate::random::Random;

const GROUP: u64 = 1;
const IDENTITY: Identity = Identity { cluster_id: 1, member_id: 1, protocol: 1, layout: Layout::Tail };
/// Operations of one run.
const OPERATIONS: u64 = 400;
/// A power loss comes after so many operations, on average.
const BETWEEN_CRASHES: u64 = 6;
/// A file of small state has so many slots of this size, and this much of each is used (`wal/slots.rs`).
const STATE_SLOTS: u64 = 4;
const STATE_SLOT_BYTES: u64 = 4096;
const STATE_USED_BYTES: u64 = 84;

/// One change of the log as it was handed over.
#[derive(Clone)]
enum Change {
    /// Everything behind this index goes.
    Cut(u64),
    Append(Record),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(keep) => write!(f, "cut behind {keep}"),
            Self::Append(Record { index, epoch, .. }) => write!(f, "{index} of epoch {epoch}"),
        }
    }
}

/// What the log should hold.
#[derive(Clone, Default, PartialEq)]
struct Model {
    records: BTreeMap<u64, Record>,
    hard_state: HardState,
    base: (u64, u64),
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs = self.records.iter().map(|(index, record)| (index, record.epoch));
        write!(f, "base {:?}, index: epoch ", self.base)?;
        f.debug_map().entries(epochs).finish()
    }
}

impl Model {
    fn last_index(&self) -> u64 {
        self.records.last_key_value().map_or(self.base.0, |(index, _)| *index)
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Cut(keep) => self.records.retain(|index, _| index <= keep),
            Change::Append(record) => {
                self.records.retain(|index, _| *index < record.index);
                self.records.insert(record.index, record.clone());
            }
        }
    }

    fn release(&mut self, base: (u64, u64)) {
        self.base = self.base.max(base);
        self.records.retain(|index, _| *index > self.base.0);
    }
}

/// The log under test, beside its model.
struct Run {
    disk: SimDisk,
    wal: Wal,
    /// As everything that was appended would have it.
    model: Model,
    /// As it is durable.
    durable: Model,
    /// Not yet written.
    buffered: Vec<Change>,
    /// Written, with the sync that makes it durable, and what small state it stores.
    under_way: Option<(SyncJob, Vec<Change>, Model)>,
    random: Random,
    epoch: u64,
    /// A copy of small state was damaged: once in a run, since the next damage may hit the other copy.
    damaged: bool,
}

/// Runs one seed.
///
/// # Errors
/// What recovery lost, or found though it was never there.
pub fn run(seed: u64) -> Result<(), Finding> {
    powers_fail(seed).map_err(Kind::Recovery.found())
}

fn powers_fail(seed: u64) -> Result<(), String> {
    let disk = SimDisk::default();
    let wal = Wal::create(Arc::new(disk.clone()), config(), IDENTITY).map_err(|error| error.to_string())?;
    let mut run = Run {
        disk,
        wal,
        model: Model::default(),
        durable: Model::default(),
        buffered: Vec::new(),
        under_way: None,
        random: Random::new(seed),
        epoch: 1,
        damaged: false,
    };
    for _ in 0..OPERATIONS {
        run.operate().map_err(|error| error.to_string())?;
        if run.random.below(BETWEEN_CRASHES) == 0 {
            run.crash()?;
        }
    }
    Ok(())
}

fn config() -> Config {
    Config { segment_bytes_max: 2048, segment_headers_max: 12, cache_bytes_max: 200 }
}

/// The same record whenever it has the same place, as one that a leader sends again.
fn record(index: u64, epoch: u64) -> Record {
    let size = (index * 97 % 5 * 150) as usize;
    Record { index, epoch, kind: 2, body: Bytes::from(vec![(index % 251) as u8 ^ epoch as u8; size]) }
}

impl Run {
    fn operate(&mut self) -> Result<(), WalError> {
        match self.random.below(10) {
            0..4 => self.append(None),
            4 => {
                let held = self.model.last_index() - self.model.base.0;
                let keep = self.model.last_index() - self.random.below(held.min(4) + 1);
                self.epoch += self.random.below(2);
                self.append(Some(keep))
            }
            5 => self.vote(),
            6 => self.release(),
            7 => self.flush(),
            _ => self.sync(),
        }
    }

    fn append(&mut self, keep: Option<u64>) -> Result<(), WalError> {
        let from = keep.unwrap_or(self.model.last_index());
        let records: Vec<Record> =
            (1..=self.random.below(4)).map(|ahead| record(from + ahead, self.epoch)).collect();
        let cut = keep.filter(|keep| *keep < self.model.last_index()).map(Change::Cut);
        for change in cut.into_iter().chain(records.iter().cloned().map(Change::Append)) {
            self.model.change(&change);
            self.buffered.push(change);
        }
        self.wal.append(GROUP, keep, records, None)
    }

    /// Another epoch, another vote in it, or both.
    fn vote(&mut self) -> Result<(), WalError> {
        let mut hard_state = self.model.hard_state;
        hard_state.epoch += self.random.below(2);
        hard_state.vote = 1 + self.random.below(3);
        self.model.hard_state = hard_state;
        self.wal.append(GROUP, None, Vec::new(), Some(hard_state))
    }

    /// Only what is durable is released.
    fn release(&mut self) -> Result<(), WalError> {
        let durable = self.durable.last_index().min(self.model.last_index());
        let index = durable.saturating_sub(self.random.below(8));
        let cut = self.changes().any(|change| match change {
            Change::Cut(keep) => *keep < index,
            Change::Append(record) => record.index <= index,
        });
        let Some(epoch) = self.model.records.get(&index).map(|record| record.epoch).filter(|_| !cut) else {
            return Ok(());
        };
        self.model.release((index, epoch));
        self.wal.release(GROUP, index)
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        let written = self.under_way.iter().flat_map(|(_, changes, _)| changes);
        written.chain(&self.buffered)
    }

    fn flush(&mut self) -> Result<(), WalError> {
        if let Some(job) = self.wal.flush()? {
            self.under_way = Some((job, std::mem::take(&mut self.buffered), self.model.clone()));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WalError> {
        self.flush()?;
        let Some((job, _, model)) = self.under_way.take() else { return Ok(()) };
        let number = job.run()?;
        self.durable = model;
        self.wal.synced(number)
    }

    /// The power fails, and the log is opened again.
    fn crash(&mut self) -> Result<(), String> {
        let (random, under_way) = (&mut self.random, self.under_way.take());
        self.disk.crash(|| random.chance(50));
        self.damage();
        self.wal = Wal::open(Arc::new(self.disk.clone()), config())
            .map_err(|error| format!("a power loss took what recovery needs: {error}"))?;
        let found = self.found()?;
        let (changes, newest) = match under_way {
            Some((_, changes, model)) => (changes, model),
            None => (Vec::new(), self.durable.clone()),
        };
        if ![self.durable.hard_state, newest.hard_state].contains(&found.hard_state) {
            let (is, was) = (found.hard_state, self.durable.hard_state);
            return Err(format!(
                "{was:?} was durable, {:?} was written, {is:?} was found",
                newest.hard_state
            ));
        }
        if ![self.durable.base, newest.base].contains(&found.base) {
            return Err(format!(
                "released up to {:?} or {:?}, found {:?}",
                self.durable.base, newest.base, found.base
            ));
        }
        let mut possible = self.durable.clone();
        let fits = |model: &Model| {
            let mut behind = model.clone();
            behind.release(found.base);
            behind.records == found.records
        };
        let prefix = changes.iter().any(|change| {
            let fitted = fits(&possible);
            possible.change(change);
            fitted
        });
        if !prefix && !fits(&possible) {
            return Err(format!(
                "{:?} was durable and {changes:?} written, {found:?} was found",
                self.durable
            ));
        }
        self.buffered.clear();
        (self.model, self.durable) = (found.clone(), found);
        Ok(())
    }

    /// A bit of one copy of the small state flips: the other one suffices.
    fn damage(&mut self) {
        if self.damaged || !self.random.chance(5) {
            return;
        }
        let names = self.disk.list(Path::new("wal")).unwrap_or_default();
        let Some(name) = names.iter().find(|name| name.ends_with(".state")) else { return };
        let byte = self.random.below(STATE_SLOTS) * STATE_SLOT_BYTES + self.random.below(STATE_USED_BYTES);
        self.damaged = self.disk.rot(&Path::new("wal").join(name), byte as usize, byte as u8);
    }

    fn found(&self) -> Result<Model, String> {
        let (base, last) = (self.wal.base(GROUP), self.wal.last_index(GROUP));
        let read = |index| {
            let records = self.wal.records(GROUP, index, index + 1, 1);
            let records = records.map_err(|error| format!("record {index} can't be read: {error:?}"))?;
            records
                .into_iter()
                .next()
                .map(|record| (index, record))
                .ok_or(format!("record {index} is not there"))
        };
        let records = (base.0 + 1..=last).map(read).collect::<Result<_, _>>()?;
        Ok(Model { records, hard_state: self.wal.hard_state(GROUP), base })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn recovery_finds_what_was_synced() {
        for seed in 1..=200 {
            assert_eq!(super::run(seed), Ok(()), "seed {seed}");
        }
    }
}
