//! Crashes, torn ends and damage against a plain list of what was appended and synced.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Config, HardState, Identity, Layout, ReadError, Record, Wal, WalError};
use crate::disk::Disk;
use crate::disk::sim::SimDisk;

const GROUP: u64 = 1;
const IDENTITY: Identity = Identity { cluster_id: 7, member_id: 8, protocol: 1, layout: Layout::Tail };

fn config() -> Config {
    Config { segment_bytes_max: 2048, segment_headers_max: 16, cache_bytes_max: 200 }
}

fn create(disk: &SimDisk) -> Wal {
    Wal::create(Arc::new(disk.clone()), config(), IDENTITY).expect("an empty disk")
}

fn open(disk: &SimDisk) -> Result<Wal, WalError> {
    Wal::open(Arc::new(disk.clone()), config())
}

fn record(index: u64, epoch: u64) -> Record {
    let size = (index * 37 % 150) as usize;
    Record { index, epoch, kind: 2, body: Bytes::from(vec![(index % 251) as u8 ^ epoch as u8; size]) }
}

fn sync(wal: &mut Wal) {
    if let Some(job) = wal.flush().expect("the disk works") {
        let number = job.run().expect("the disk works");
        wal.synced(number).expect("the disk works");
    }
}

fn all(wal: &Wal) -> Vec<Record> {
    let (base, last) = (wal.base(GROUP).0, wal.last_index(GROUP));
    (base + 1..=last).flat_map(|index| wal.records(GROUP, index, index + 1, 1).expect("readable")).collect()
}

#[test]
fn what_was_synced_is_there_after_a_crash_and_segments_go_when_released() {
    let disk = SimDisk::default();
    let mut wal = create(&disk);
    let vote = HardState { epoch: 3, vote: 9, established: 0, commit: 0 };
    for index in 1..=100 {
        wal.append(GROUP, None, vec![record(index, 1)], Some(vote)).expect("open");
        sync(&mut wal);
    }
    let size = wal.size_bytes();
    wal.release(GROUP, 90).expect("open");
    sync(&mut wal);
    assert!(wal.size_bytes() < size / 2);
    disk.crash(|| false);
    let wal = open(&disk).expect("undamaged");
    assert_eq!(wal.identity(), IDENTITY);
    assert_eq!(wal.base(GROUP), (90, 1));
    assert_eq!((wal.hard_state(GROUP).epoch, wal.hard_state(GROUP).vote), (3, 9));
    assert_eq!(all(&wal), (91..=100).map(|index| record(index, 1)).collect::<Vec<_>>());
    assert_eq!(wal.epoch(GROUP, 90), Ok(1));
    assert_eq!(wal.epoch(GROUP, 89), Err(ReadError::Compacted));
    assert_eq!(wal.epoch(GROUP, 101), Err(ReadError::Beyond));
}

#[test]
fn removals_of_segments_that_reach_the_medium_out_of_order_leave_no_gap() {
    let disk = SimDisk::default();
    let mut wal = create(&disk);
    for index in 1..=100 {
        wal.append(GROUP, None, vec![record(index, 1)], None).expect("open");
        sync(&mut wal);
    }
    wal.release(GROUP, 90).expect("open");
    sync(&mut wal);
    let mut is_first = true;
    disk.crash(|| !std::mem::take(&mut is_first));
    let wal = open(&disk).expect("a gap is no damage");
    assert_eq!(all(&wal), (91..=100).map(|index| record(index, 1)).collect::<Vec<_>>());
}

#[test]
fn a_replacement_that_is_not_durable_removes_no_segment() {
    for layout in [Layout::Tail, Layout::Slots] {
        let disk = SimDisk::default();
        let mut wal =
            Wal::create(Arc::new(disk.clone()), config(), Identity { layout, ..IDENTITY }).expect("empty");
        for index in 1..=100 {
            wal.append(GROUP, None, vec![record(index, 1)], None).expect("open");
            sync(&mut wal);
        }
        wal.append(GROUP, None, vec![record(101, 1)], None).expect("open");
        let job = wal.flush().expect("the disk works").expect("something to sync");
        // An acceptor that acknowledged these in epoch 1 must know them until it knows those of epoch 2.
        wal.append(GROUP, None, (1..=101).map(|index| record(index, 2)).collect(), None).expect("open");
        wal.synced(job.run().expect("the disk works")).expect("the disk works");
        disk.crash(|| false);
        let found = open(&disk).expect("undamaged");
        let durable: Vec<_> = (1..=101).map(|index| record(index, 1)).collect();
        assert!(all(&found) == durable, "{layout:?}: of 101 records {} are left", all(&found).len());
    }
}

#[test]
fn a_reset_log_starts_behind_the_snapshot() {
    let disk = SimDisk::default();
    let mut wal = create(&disk);
    wal.append(GROUP, None, (1..=5).map(|index| record(index, 1)).collect(), None).expect("open");
    sync(&mut wal);
    wal.reset(GROUP, 50, 4).expect("open");
    wal.append(GROUP, None, vec![record(51, 4)], None).expect("open");
    sync(&mut wal);
    disk.crash(|| false);
    let wal = open(&disk).expect("undamaged");
    assert_eq!(wal.base(GROUP), (50, 4));
    assert_eq!(all(&wal), [record(51, 4)]);
}

#[test]
fn after_a_failed_sync_nothing_is_taken() {
    let disk = SimDisk::default();
    let mut wal = create(&disk);
    wal.append(GROUP, None, vec![record(1, 1)], None).expect("open");
    let job = wal.flush().expect("written").expect("something to sync");
    disk.fail_syncs(true);
    assert!(job.run().is_err());
    wal.poison();
    assert!(matches!(wal.append(GROUP, None, vec![], None), Err(WalError::Poisoned)));
}

/// Every single bit flip: refused, told as faulty, or harmless; never a synced record silently gone or changed.
#[test]
fn no_flipped_bit_loses_a_synced_record_silently() {
    let disk = SimDisk::default();
    let mut wal = create(&disk);
    let vote = HardState { epoch: 2, vote: 5, established: 0, commit: 0 };
    for index in 1..=6 {
        wal.append(GROUP, None, vec![record(index, 1)], Some(vote)).expect("open");
        sync(&mut wal);
    }
    // The sixth record's sync is not yet known to any header: it may be taken for a torn end.
    let known = 5;
    drop(wal);
    let (mut refused, mut faulty) = (0, 0);
    for name in disk.list(Path::new("wal")).expect("a list") {
        let path = Path::new("wal").join(&name);
        let mut byte = 0;
        while disk.image().rot(&path, byte, 0) {
            let image = disk.image();
            image.rot(&path, byte, (byte % 8) as u8);
            match open(&image) {
                Err(WalError::Damaged { .. }) => refused += 1,
                Err(error) => {
                    panic!("one fault must be survived or named as damage: {error} ({name} {byte})")
                }
                Ok(wal) => {
                    assert!(wal.last_index(GROUP) >= known, "lost records: {name} {byte}");
                    assert_eq!(wal.hard_state(GROUP).vote, 5, "lost the vote: {name} {byte}");
                    for index in 1..=wal.last_index(GROUP) {
                        match wal.records(GROUP, index, index + 1, 1) {
                            Ok(records) => assert_eq!(records, [record(index, 1)], "{name} {byte}"),
                            Err(ReadError::Faulty) => faulty += 1,
                            Err(error) => panic!("{error}: {name} {byte}"),
                        }
                    }
                    assert_eq!(
                        wal.first_faulty(GROUP).is_some(),
                        wal.records(GROUP, 1, 7, 1 << 20)
                            .map_or(true, |records| records.len() < wal.last_index(GROUP) as usize)
                    );
                }
            }
            byte += 1;
        }
    }
    assert!(refused > 100 && faulty > 100, "the faults were hardly felt: {refused} {faulty}");
}

#[derive(Clone, Debug)]
enum Step {
    Append { back: u64, count: u64 },
    Sync,
    Flush,
    Release { back: u64 },
    Crash { survivors: u64 },
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    let step = prop_oneof![
        4 => (0u64..4, 1u64..6).prop_map(|(back, count)| Step::Append { back, count }),
        4 => Just(Step::Sync),
        2 => Just(Step::Flush),
        1 => (0u64..10).prop_map(|back| Step::Release { back }),
        2 => any::<u64>().prop_map(|survivors| Step::Crash { survivors }),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest::proptest! {
    /// Random appends, replacements, releases and torn crashes against the list of what was promised.
    #[test]
    fn a_crash_loses_nothing_synced_and_invents_nothing(steps in steps()) {
        let disk = SimDisk::default();
        let mut wal = create(&disk);
        let mut epoch = 1;
        // What the log shows now, and what a sync promised of it.
        let mut shown: Vec<Record> = vec![];
        let mut promised: Vec<Record> = vec![];
        let mut base = 0;
        // What was appended since the last sync, replaced or not.
        let mut under_way: Vec<Record> = vec![];
        for step in steps {
            match step {
                Step::Append { back, count } => {
                    epoch += 1;
                    let from = (shown.len() as u64).saturating_sub(back).max(base) + 1;
                    let records: Vec<Record> = (from..from + count).map(|index| record(index, epoch)).collect();
                    shown.truncate(from as usize - 1);
                    shown.extend(records.iter().cloned());
                    under_way.extend(records.iter().cloned());
                    wal.append(GROUP, None, records, None).expect("open");
                }
                Step::Sync => {
                    sync(&mut wal);
                    promised = shown.clone();
                    under_way.clear();
                }
                Step::Flush => if let Some(job) = wal.flush().expect("works") {
                    let number = job.number();
                    drop(job);
                    // The sync never ended; a crash decides. Without one the log goes on after a real sync.
                    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                    disk.crash(|| { random = random.rotate_left(7).wrapping_mul(31) ^ 11; random & 1 == 0 });
                    (wal, shown) = reopen(&disk, &promised, (&shown, &under_way), &mut base);
                    promised = shown.clone();
                    under_way.clear();
                },
                Step::Release { back } => {
                    let to = (promised.len() as u64).saturating_sub(back);
                    let same = promised.get(to as usize - usize::from(to > 0)) == shown.get(to as usize - usize::from(to > 0));
                    if to > base && same && shown.len() as u64 >= to {
                        wal.release(GROUP, to).expect("open");
                        sync(&mut wal);
                        promised = shown.clone();
                    under_way.clear();
                        base = to;
                    }
                }
                Step::Crash { survivors } => {
                    let mut random = survivors | 1;
                    disk.crash(|| { random = random.rotate_left(5).wrapping_mul(17) ^ 3; random & 1 == 0 });
                    (wal, shown) = reopen(&disk, &promised, (&shown, &under_way), &mut base);
                    promised = shown.clone();
                    under_way.clear();
                }
            }
            proptest::prop_assert_eq!(&all(&wal)[..], &shown[base as usize..]);
        }
    }
}

/// After a crash the log shows what was promised, or that with a prefix of what was under way applied over it.
fn reopen(
    disk: &SimDisk,
    promised: &[Record],
    (shown, under_way): (&[Record], &[Record]),
    base: &mut u64,
) -> (Wal, Vec<Record>) {
    let wal = open(disk).expect("torn ends are no damage");
    *base = wal.base(GROUP).0;
    let found = all(&wal);
    let kept = promised.iter().zip(shown).take_while(|(left, right)| left == right).count() as u64;
    let last = wal.last_index(GROUP);
    assert!(last >= kept.min(promised.len() as u64), "lost synced records: {last} of {kept}");
    for record in &found {
        let was_promised = promised.get(record.index as usize - 1) == Some(record);
        let known = was_promised || under_way.contains(record);
        assert!(known, "invented {record:?}");
    }
    let mut all_now: Vec<Record> = promised.iter().take(*base as usize).cloned().collect();
    all_now.extend(found);
    (wal, all_now)
}

#[test]
fn a_cut_outlives_a_crash_and_what_it_cut_stays_gone() {
    let disk = SimDisk::default();
    let mut wal = create(&disk);
    wal.append(GROUP, None, (1..=9).map(|index| record(index, 1)).collect(), None).expect("open");
    sync(&mut wal);
    wal.append(GROUP, Some(4), vec![], None).expect("open");
    sync(&mut wal);
    assert_eq!(wal.last_index(GROUP), 4);
    disk.crash(|| false);
    let mut wal = open(&disk).expect("undamaged");
    assert_eq!(wal.last_index(GROUP), 4);
    wal.append(GROUP, Some(3), vec![record(4, 2), record(5, 2)], None).expect("open");
    sync(&mut wal);
    disk.crash(|| false);
    let epochs = |wal: &Wal| (1..=5).map(|index| wal.epoch(GROUP, index)).collect::<Vec<_>>();
    assert_eq!(epochs(&open(&disk).expect("undamaged")), [1, 1, 1, 2, 2].map(Ok));
}

#[test]
fn slots_are_replaced_one_by_one_have_holes_and_outlive_a_snapshot() {
    let disk = SimDisk::default();
    let identity = Identity { layout: Layout::Slots, ..IDENTITY };
    let mut wal = Wal::create(Arc::new(disk.clone()), config(), identity).expect("an empty disk");
    wal.append(GROUP, None, vec![record(1, 1), record(2, 1)], None).expect("open");
    wal.append(GROUP, None, vec![record(5, 1), record(6, 1)], None).expect("open");
    sync(&mut wal);
    wal.append(GROUP, None, vec![record(2, 3)], None).expect("open");
    sync(&mut wal);
    let epochs = |wal: &Wal| (1..=7).map(|index| wal.epoch(GROUP, index)).collect::<Vec<_>>();
    let hole = Err(ReadError::Beyond);
    let expected = vec![Ok(1), Ok(3), hole, hole, Ok(1), Ok(1), hole];
    assert_eq!(epochs(&wal), expected);
    assert_eq!(wal.records(GROUP, 1, 7, 9_999).expect("readable").len(), 2);
    disk.crash(|| false);
    let mut wal = open(&disk).expect("undamaged");
    assert_eq!(epochs(&wal), expected);
    wal.append(GROUP, None, vec![record(9, 4)], None).expect("open");
    wal.reset(GROUP, 5, 0).expect("open");
    sync(&mut wal);
    disk.crash(|| false);
    let wal = open(&disk).expect("undamaged");
    assert_eq!(wal.base(GROUP), (5, 0));
    assert_eq!((wal.epoch(GROUP, 6), wal.epoch(GROUP, 7), wal.epoch(GROUP, 9)), (Ok(1), hole, Ok(4)));
}

#[test]
fn what_a_killed_process_had_written_is_durable_before_it_is_used() {
    let disk = SimDisk::default();
    let mut wal = create(&disk);
    let vote = HardState { epoch: 3, vote: 9, established: 0, commit: 0 };
    wal.append(GROUP, None, vec![record(1, 3)], Some(vote)).expect("open");
    let _never_run = wal.flush().expect("the disk works");
    disk.kill();
    let found = open(&disk).expect("undamaged");
    assert_eq!((found.hard_state(GROUP), all(&found)), (vote, vec![record(1, 3)]));
    disk.crash(|| false);
    let found = open(&disk).expect("undamaged");
    assert_eq!((found.hard_state(GROUP), all(&found)), (vote, vec![record(1, 3)]));
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again_before_it_is_used() {
    let disk = SimDisk::default();
    let mut wal = create(&disk);
    wal.append(GROUP, None, vec![record(1, 3)], None).expect("open");
    sync(&mut wal);
    let vote = HardState { epoch: 4, vote: 9, established: 0, commit: 0 };
    wal.append(GROUP, None, (2..=30).map(|index| record(index, 4)).collect(), Some(vote)).expect("open");
    let job = wal.flush().expect("the disk works").expect("something to sync");
    disk.fail_syncs(true);
    job.run().expect_err("syncs fail");
    disk.fail_syncs(false);
    disk.kill();
    let found = open(&disk).expect("undamaged");
    assert_eq!(found.hard_state(GROUP), vote);
    let shown = all(&found);
    disk.crash(|| false);
    let found = open(&disk).expect("undamaged");
    assert_eq!((found.hard_state(GROUP), all(&found)), (vote, shown));
}

#[test]
fn a_full_disk_and_failing_writes_end_the_log_and_lose_nothing() {
    let disk = SimDisk::default();
    let mut wal = create(&disk);
    wal.append(GROUP, None, (1..=5).map(|index| record(index, 1)).collect(), None).expect("open");
    sync(&mut wal);
    disk.fill(true);
    wal.append(GROUP, None, (6..=60).map(|index| record(index, 1)).collect(), None).expect("open");
    wal.flush().expect_err("a new segment has no room");
    assert!(matches!(wal.append(GROUP, None, Vec::new(), None), Err(WalError::Poisoned)));
    disk.kill();
    assert!(matches!(open(&disk), Err(WalError::Disk(_))), "a start that can't write says so");
    disk.fill(false);
    let mut wal = open(&disk).expect("undamaged");
    assert_eq!(all(&wal)[..5], (1..=5).map(|index| record(index, 1)).collect::<Vec<_>>());
    disk.fail_writes(true);
    wal.append(GROUP, None, vec![record(wal.last_index(GROUP) + 1, 2)], None).expect("open");
    wal.flush().expect_err("writes fail");
}
