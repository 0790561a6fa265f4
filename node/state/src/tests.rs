//! The machine against a twin that keeps every state of the past as a plain map.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use quorate_storage::backend::memory::MemoryBackend;

use crate::command::{Alarm, AlarmChange, Command, CommandKind, LeaseGrant, LeaseRevoke};
use crate::error::{ApplyError, MachineError, ReadError};
use crate::event::{Event, EventKind, KeyValue};
use crate::machine::{Entry, Origin, Payload, StateMachine};
use crate::request::{Compare, DeleteRange, Operation, OperationKind, Put, Range, Relation, Target, Txn};
use crate::response::{Body, Response};

type Keys = BTreeMap<Bytes, KeyValue>;

/// The naive twin: all states by revision.
#[derive(Debug)]
struct Twin {
    states: Vec<Keys>,
}

impl Twin {
    fn now(&self) -> &Keys {
        self.states.last().expect("the first state is always there")
    }

    fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    /// Applies puts (`Some`) and deletions (`None`) as one revision, if they change anything.
    fn write(&mut self, writes: &[(Bytes, Option<(Bytes, i64)>)]) {
        let revision = self.revision() + 1;
        let mut keys = self.now().clone();
        let mut changed = false;
        for (key, write) in writes {
            match write {
                Some((value, lease)) => {
                    let before = keys.get(key);
                    let create_revision = before.map_or(revision, |kv| kv.create_revision);
                    let version = before.map_or(1, |kv| kv.version + 1);
                    let (value, lease) = (value.clone(), *lease);
                    let kv = KeyValue {
                        key: key.clone(),
                        create_revision,
                        mod_revision: revision,
                        version,
                        value,
                        lease,
                    };
                    keys.insert(key.clone(), kv);
                    changed = true;
                }
                None => changed |= keys.remove(key).is_some(),
            }
        }
        if changed {
            self.states.push(keys);
        }
    }
}

fn machine(backend: &MemoryBackend) -> StateMachine {
    StateMachine::open(Arc::new(backend.clone()), Bytes::new()).expect("memory works")
}

fn apply(machine: &mut StateMachine, kind: CommandKind) -> Result<Response, ApplyError> {
    let index = machine.applied().0 + 1;
    let payload = Payload::Command(Command::new(kind).to_bytes(), None);
    let applied = machine.apply(vec![Entry { index, epoch: 1, proposed: 1, payload }]).expect("memory works");
    applied.responses.into_iter().next().expect("one answer").1
}

fn put(key: &str, value: &str) -> CommandKind {
    CommandKind::Put(Put { key: key.to_owned().into(), value: value.to_owned().into(), ..Put::default() })
}

fn all(revision: i64) -> Range {
    Range {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..Range::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, bool),
    Delete(u8, u8),
    Txn(u8, u8, u8),
    Revoke,
    Compact(u8),
    Crash(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..KEYS, any::<u8>(), any::<bool>()).prop_map(|(key, value, lease)| Step::Put(key, value, lease)),
        2 => (0..KEYS, 0..=KEYS).prop_map(|(from, to)| Step::Delete(from, to)),
        3 => (0..KEYS, 0..KEYS, any::<u8>()).prop_map(|(one, two, value)| Step::Txn(one, two, value)),
        1 => Just(Step::Revoke),
        1 => any::<u8>().prop_map(Step::Compact),
        1 => any::<u8>().prop_map(Step::Crash),
    ];
    proptest::collection::vec(step, 1..80)
}

/// Enough for some chunks of counts.
const KEYS: u8 = 24;

/// Keys with a zero byte and ones that are others' prefixes.
fn name(key: u8) -> Bytes {
    let first = [&b"a"[..], b"a\0", b"a\0\xff", b"ab", b"b", b"c"][key as usize % 6];
    let rest = &b"123"[..usize::from(key / 6)];
    [first, rest].concat().into()
}

/// Every range between two names, and from each on; and keys alone.
fn ranges() -> impl Iterator<Item = (Bytes, Bytes)> {
    let ends = || (0..KEYS).step_by(5).map(name).chain([Bytes::from_static(b"\0")]);
    let alone = (0..KEYS).step_by(4).map(|key| (name(key), Bytes::new()));
    (0..KEYS).step_by(3).flat_map(move |from| ends().map(move |end| (name(from), end))).chain(alone)
}

/// Reads with a limit, and counts, of every range equal the twin's.
fn check_limits(machine: &StateMachine, wanted: &[KeyValue], revision: i64) {
    for (key, range_end) in ranges() {
        let inside = |kv: &&KeyValue| match &range_end[..] {
            b"" => kv.key == key,
            b"\0" => kv.key >= key,
            _ => kv.key >= key && kv.key < range_end,
        };
        let wanted: Vec<KeyValue> = wanted.iter().filter(inside).cloned().collect();
        let request = Range { key, range_end, revision, limit: 2, ..Range::default() };
        let got = machine.reader().range(&request).expect("readable");
        let count = wanted.len() as i64;
        assert_eq!(got.kvs, wanted[..wanted.len().min(2)], "{request:?}");
        assert_eq!((got.count, got.more), (count, count > 2), "{request:?}");
        let counted =
            machine.reader().range(&Range { count_only: true, limit: 0, ..request }).expect("readable");
        assert_eq!((counted.kvs.len(), counted.count, counted.more), (0, count, false));
    }
}

proptest::proptest! {
    /// Reads at every revision, events, hashes and revisions equal the twin's; two machines with other batches and
    /// other crashes are equal.
    #[test]
    fn the_machine_equals_its_twin(steps in steps()) {
        let (backend, other_backend) = (MemoryBackend::default(), MemoryBackend::default());
        let (mut one, mut other) = (machine(&backend), machine(&other_backend));
        let mut twin = Twin { states: vec![Keys::new()] };
        let mut log: Vec<Entry> = vec![];
        let mut compacted = 0;
        let mut events = vec![];
        let grant = CommandKind::LeaseGrant(LeaseGrant { id: 7, ttl_s: 60 });
        for kind in std::iter::once(None).chain(steps.into_iter().map(Some)) {
            let command = match kind {
                None => grant.clone(),
                Some(Step::Put(key, value, lease)) => {
                    let lease = if lease && !twin.states.len().is_multiple_of(3) { 7 } else { 0 };
                    let held = one.leases().expect("works").iter().any(|(id, _)| *id == 7);
                    let value = Bytes::from(vec![value]);
                    if lease == 0 || held {
                        twin.write(&[(name(key), Some((value.clone(), lease)))]);
                    }
                    CommandKind::Put(Put { key: name(key), value, lease, ..Put::default() })
                }
                Some(Step::Delete(from, to)) => {
                    let (key, range_end) = (name(from), if to == KEYS { Bytes::from_static(b"\0") } else { name(to) });
                    let inside = |found: &&Bytes| **found >= key && (to == KEYS || **found < range_end);
                    let writes: Vec<_> = twin.now().keys().filter(inside).map(|key| (key.clone(), None)).collect();
                    twin.write(&writes);
                    CommandKind::DeleteRange(DeleteRange { key: key.clone(), range_end, prev_kv: true })
                }
                Some(Step::Txn(first, second, value)) => {
                    let (key, removed, value) = (name(first), name(second), Bytes::from(vec![value]));
                    let there = twin.now().contains_key(&key);
                    let compare = Compare {
                        relation: Relation::Greater as i32, key: key.clone(), range_end: Bytes::new(),
                        target: Some(Target::Version(0)),
                    };
                    let put = OperationKind::Put(Put { key: key.clone(), value: value.clone(), ..Put::default() });
                    let delete = OperationKind::DeleteRange(DeleteRange { key: removed.clone(), ..DeleteRange::default() });
                    if there && first != second {
                        twin.write(&[(key, Some((value, 0))), (removed, None)]);
                    } else if there {
                        twin.write(&[(key, Some((value, 0)))]);
                    }
                    let mut success = vec![Operation { kind: Some(put) }];
                    if first != second { success.push(Operation { kind: Some(delete) }); }
                    CommandKind::Txn(Txn { compares: vec![compare], success, failure: vec![] })
                }
                Some(Step::Revoke) => {
                    let held: Vec<_> = twin.now().values().filter(|kv| kv.lease == 7).map(|kv| (kv.key.clone(), None)).collect();
                    twin.write(&held);
                    CommandKind::LeaseRevoke(LeaseRevoke { id: 7, expired_in_epoch: 0 })
                }
                Some(Step::Compact(back)) => {
                    let revision = twin.revision() - i64::from(back % 8);
                    if revision > compacted { compacted = revision; }
                    CommandKind::Compact(revision)
                }
                Some(Step::Crash(keep)) => {
                    backend.crash(|unpersisted| unpersisted.min(keep as usize % 4));
                    one = machine(&backend);
                    let missing = log.iter().filter(|entry| entry.index > one.applied().0).cloned().collect();
                    one.apply(missing).expect("works");
                    continue;
                }
            };
            let entry = Entry {
                index: log.len() as u64 + 1, epoch: 1, proposed: 1, payload: Payload::Command(Command::new(command).to_bytes(), None),
            };
            log.push(entry.clone());
            events.extend(one.apply(vec![entry]).expect("works").events);
        }
        other.apply(log).expect("works");
        proptest::prop_assert_eq!(one.revision(), twin.revision());
        for revision in compacted.max(1)..=twin.revision() {
            let wanted: Vec<KeyValue> = twin.states[revision as usize - 1].values().cloned().collect();
            for machine in [&one, &other] {
                let got = machine.reader().range(&all(revision)).expect("readable");
                proptest::prop_assert_eq!(&got.kvs, &wanted, "at {}", revision);
                proptest::prop_assert_eq!(got.count, wanted.len() as i64);
                check_limits(machine, &wanted, revision);
            }
            proptest::prop_assert_eq!(one.reader().hash(revision).expect("works"), other.reader().hash(revision).expect("works"));
        }
        let from = compacted;
        let mut seen: Vec<_> = events.into_iter().filter(|event| event.kv.mod_revision >= from).collect();
        // What was there before the compacted revision is forgotten.
        seen.iter_mut().filter(|event| event.kv.mod_revision == compacted).for_each(|event| event.prev_kv = None);
        for machine in [&one, &other] {
            let caught_up = machine.reader().events(from, i64::MAX).expect("readable");
            proptest::prop_assert_eq!(&caught_up, &seen);
            if let Some(middle) = seen.get(seen.len() / 2).map(|event| event.kv.mod_revision) {
                let some = machine.reader().events(middle, middle + 1).expect("readable");
                let wanted = seen.iter().filter(|event| (middle..=middle + 1).contains(&event.kv.mod_revision));
                proptest::prop_assert_eq!(some.iter().map(|it| &it.kv).collect::<Vec<_>>(), wanted.map(|it| &it.kv).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn revisions_count_as_in_etcd() {
    let mut machine = machine(&MemoryBackend::default());
    assert_eq!(machine.revision(), 1);
    assert_eq!(apply(&mut machine, put("k", "v")).expect("applied").revision, 2);
    let delete = CommandKind::DeleteRange(DeleteRange { key: "none".into(), ..DeleteRange::default() });
    assert_eq!(apply(&mut machine, delete).expect("applied").revision, 2, "nothing was deleted");
    assert_eq!(apply(&mut machine, CommandKind::Compact(3)), Err(ApplyError::FutureRevision));
    assert_eq!(apply(&mut machine, CommandKind::Compact(2)).expect("applied").body, Body::Compact);
    assert_eq!(apply(&mut machine, CommandKind::Compact(2)), Err(ApplyError::Compacted));
    let past = machine.reader().range(&all(1));
    assert!(matches!(past, Err(ReadError::Refused(ApplyError::Compacted))));
    let future = machine.reader().range(&all(9));
    assert!(matches!(future, Err(ReadError::Refused(ApplyError::FutureRevision))));
}

/// A client that was told a compacted revision begins its watch there (etcd: the oldest one that is available).
#[test]
fn a_compaction_leaves_the_events_of_its_own_revision() {
    let mut machine = machine(&MemoryBackend::default());
    let delete = CommandKind::DeleteRange(DeleteRange { key: "b".into(), ..DeleteRange::default() });
    let compact = CommandKind::Compact;
    for kind in [put("a", "1"), put("b", "1"), put("a", "2"), compact(4)] {
        apply(&mut machine, kind).expect("applied");
    }
    let events = machine.reader().events(4, 9).expect("readable");
    let [Event { kind: EventKind::Put, kv, prev_kv: None }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((kv.value.as_ref(), kv.version, kv.mod_revision), (b"2".as_ref(), 2, 4));
    for kind in [delete, compact(5), put("c", "1")] {
        apply(&mut machine, kind).expect("applied");
    }
    let events = machine.reader().events(5, 9).expect("readable");
    let told: Vec<_> = events.iter().map(|it| (it.kind, it.kv.key.as_ref(), it.kv.mod_revision)).collect();
    assert_eq!(told, [(EventKind::Delete, b"b".as_ref(), 5), (EventKind::Put, b"c".as_ref(), 6)]);
    assert_eq!(events[0].prev_kv, None, "it is forgotten");
    let before = machine.reader().events(4, 9);
    assert!(matches!(before, Err(ReadError::Refused(ApplyError::Compacted))));
}

#[test]
fn a_transaction_that_fails_inside_changes_nothing() {
    let mut machine = machine(&MemoryBackend::default());
    let good = OperationKind::Put(Put { key: "a".into(), ..Put::default() });
    let bad = OperationKind::Put(Put { key: "b".into(), lease: 99, ..Put::default() });
    let operations = [good, bad].map(|kind| Operation { kind: Some(kind) });
    let txn = CommandKind::Txn(Txn { success: operations.into(), ..Txn::default() });
    assert_eq!(apply(&mut machine, txn), Err(ApplyError::LeaseNotFound));
    assert_eq!(machine.reader().range(&all(0)).expect("readable").count, 0);
    assert_eq!(machine.revision(), 1);
}

#[test]
fn a_deposed_leader_revokes_no_lease() {
    let mut machine = machine(&MemoryBackend::default());
    apply(&mut machine, CommandKind::LeaseGrant(LeaseGrant { id: 5, ttl_s: 60 })).expect("granted");
    let revoke = |epoch| CommandKind::LeaseRevoke(LeaseRevoke { id: 5, expired_in_epoch: epoch });
    assert_eq!(apply(&mut machine, revoke(9)), Err(ApplyError::LeaseNotFound));
    assert_eq!(machine.leases().expect("works"), [(5, 60)]);
    assert_eq!(apply(&mut machine, revoke(1)).expect("revoked").body, Body::LeaseRevoke);
}

#[test]
fn a_limit_cuts_the_answer_and_the_count_is_exact() {
    let mut machine = machine(&MemoryBackend::default());
    for key in ["a", "b", "c", "d"] {
        apply(&mut machine, put(key, "v")).expect("applied");
    }
    let two = machine.reader().range(&Range { limit: 2, ..all(0) }).expect("readable");
    assert_eq!((two.kvs.len(), two.more, two.count), (2, true, 4));
    let last = Range { limit: 1, sort_order: 2, keys_only: true, ..all(0) };
    let last = machine.reader().range(&last).expect("readable");
    assert_eq!((&last.kvs[0].key[..], last.kvs[0].value.len()), (&b"d"[..], 0));
}

#[test]
fn a_repeated_request_is_applied_once() {
    let mut machine = machine(&MemoryBackend::default());
    let command = Command::new(put("k", "v")).to_bytes();
    let entry = |index, request| {
        let origin = Some(Origin { member: 4, request });
        Entry { index, epoch: 1, proposed: 1, payload: Payload::Command(command.clone(), origin) }
    };
    let applied =
        machine.apply(vec![entry(1, 10), entry(2, 10), entry(3, 9), entry(4, 11)]).expect("memory works");
    assert_eq!(applied.dropped, [2, 3]);
    assert_eq!(machine.revision(), 3);
}

#[test]
fn alarms_are_a_set_that_survives_a_restart() {
    let backend = Arc::new(MemoryBackend::default());
    let mut machine = StateMachine::open(backend.clone(), Bytes::new()).unwrap();
    let alarm = |member| Alarm { member, kind: 1 };
    let mut change = |index, member, raise| {
        let command = Command::new(CommandKind::Alarm(AlarmChange { alarm: alarm(member), raise }));
        let entry =
            Entry { index, epoch: 1, proposed: 1, payload: Payload::Command(command.to_bytes(), None) };
        match machine.apply(vec![entry]).unwrap().responses.remove(0).1.unwrap().body {
            Body::Alarm(changed) => changed,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(change(1, 2, true), [alarm(2)]);
    assert_eq!(change(2, 1, true), [alarm(1)]);
    assert_eq!(change(3, 2, true), [alarm(2)], "a second time changes nothing");
    assert_eq!(change(4, 1, false), [alarm(1)]);
    assert_eq!(change(5, 1, false), []);
    let machine = StateMachine::open(backend, Bytes::new()).unwrap();
    assert_eq!(machine.reader().alarms(), [alarm(2)]);
    assert_eq!(machine.revision(), 1);
}

fn entry(index: u64, command: impl Into<Bytes>) -> Entry {
    Entry { index, epoch: 1, proposed: 1, payload: Payload::Command(command.into(), None) }
}

#[test]
fn a_level_that_is_not_understood_ends_the_member_and_refuses_its_start() {
    let backend = Arc::new(MemoryBackend::default());
    let open = |supported| StateMachine::open_at(backend.clone(), Bytes::new(), supported);
    let raise = || entry(1, Command::new(CommandKind::RaiseLevel(2)).to_bytes());
    let mut old = open(1).unwrap();
    assert!(matches!(old.apply(vec![raise()]), Err(MachineError::Level { group: 2, own: 1 })));
    let mut new = open(2).unwrap();
    assert_eq!((new.level(), new.applied().0), (1, 0), "the old one left nothing behind");
    new.apply(vec![raise()]).unwrap();
    new.apply(vec![entry(2, Command::new(CommandKind::RaiseLevel(1)).to_bytes())]).unwrap();
    assert_eq!((new.level(), new.reader().level()), (2, 2), "a level never falls");
    assert!(matches!(open(1), Err(MachineError::Level { group: 2, own: 1 })));
    assert_eq!(open(3).unwrap().level(), 2);
}

#[test]
fn a_command_of_a_later_version_ends_the_member_before_it_changes_the_state() {
    let backend = MemoryBackend::default();
    let known = || entry(1, Command::new(put("k", "v")).to_bytes());
    // Field 100, a string.
    let later = entry(2, vec![0xa2, 0x06, 0x01, b'x']);
    let ended = machine(&backend).apply(vec![known(), later]);
    assert!(matches!(ended, Err(MachineError::UnknownCommand(2))));
    let mut again = machine(&backend);
    assert_eq!(again.applied().0, 0);
    again.apply(vec![known(), entry(2, Bytes::new())]).expect("an empty one is nobody's, and refused by all");
    assert_eq!(again.revision(), 2);
}
