//! What every engine must do, tried on each.

use std::ops::Bound;

use bytes::Bytes;

use super::memory::MemoryBackend;
use super::tree::{Engine, EngineConfig};
use super::{Backend, Batch, Change, Pair, Table, View};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(table: Table, key: &str, value: &str) -> Change {
    Change::Put(table, bytes(key), bytes(value))
}

fn keys(pairs: Box<dyn Iterator<Item = Result<Pair, super::BackendError>> + '_>) -> String {
    pairs
        .map(|pair| String::from_utf8(pair.expect("readable").0.to_vec()).expect("text"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn contract(backend: &dyn Backend) {
    let before = backend.view();
    let changes = vec![
        put(Table::Newest, "b", "1"),
        put(Table::Newest, "a", "1"),
        put(Table::Newest, "c", "1"),
        put(Table::History, "a", "h"),
        put(Table::Meta, "z", "m"),
        Change::Delete(Table::Newest, bytes("c")),
        put(Table::Newest, "b", "2"),
    ];
    backend.commit(Batch { changes }).expect("works");
    let view = backend.view();
    assert_eq!(before.get(Table::Newest, b"a").expect("works"), None, "a view never changes");
    assert_eq!(view.get(Table::Newest, b"b").expect("works"), Some(bytes("2")), "later changes win");
    assert_eq!(view.get(Table::Newest, b"c").expect("works"), None);
    let all = |view: &dyn View| keys(view.scan(Table::Newest, Bound::Unbounded, Bound::Unbounded));
    assert_eq!(all(&*view), "a b", "tables are apart");
    let (from, to) = (Bound::Excluded(bytes("a")), Bound::Included(bytes("b")));
    assert_eq!(keys(view.scan(Table::Newest, from, to)), "b");
    let (from, to) = (Bound::Included(bytes("b")), Bound::Excluded(bytes("a")));
    assert_eq!(keys(view.scan(Table::Newest, from, to)), "", "bounds the wrong way round are empty");
    let copy = view.duplicate();
    drop(view);
    backend.commit(Batch { changes: vec![Change::Delete(Table::Newest, bytes("a"))] }).expect("works");
    assert_eq!(all(&*copy), "a b", "a copy lives on");
    assert_eq!(all(&*backend.view()), "b");
    backend.persist().expect("works");
    backend.replace(Batch { changes: vec![put(Table::Newest, "n", "1")] }).expect("works");
    assert_eq!(all(&*backend.view()), "n", "nothing else is left");
    assert_eq!(all(&*copy), "a b", "the copy still lives");
}

#[test]
fn the_engine_in_memory_keeps_the_contract() {
    contract(&MemoryBackend::default());
}

#[test]
fn the_engine_on_disk_keeps_the_contract_and_what_was_persisted() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Engine::new(folder.path(), EngineConfig::default());
    let engine = open();
    contract(&engine.group(1).expect("a group"));
    let group = engine.group(2).expect("a group");
    group.commit(Batch { changes: vec![put(Table::Newest, "k", "v")] }).expect("works");
    group.persist().expect("works");
    drop((group, engine));
    let group = open().group(2).expect("a group");
    assert_eq!(group.view().get(Table::Newest, b"k").expect("works"), Some(bytes("v")));
}

/// A backend that goes leaves what memory alone holds, as a crash does.
#[test]
fn every_start_finds_whole_batches_up_to_one_at_or_behind_the_last_persist() {
    let folder = tempfile::tempdir().expect("a folder");
    let value = "v".repeat(300 << 10);
    let (mut written, mut persisted) = (0_usize, 0);
    for start in 0..20 {
        let group = Engine::new(folder.path(), EngineConfig::default()).group(1).expect("a group");
        let view = group.view();
        let last = view.get(Table::Meta, b"last").expect("works");
        let last =
            last.map_or(0, |last| std::str::from_utf8(&last).expect("text").parse().expect("a number"));
        assert!((persisted..=written).contains(&last), "{last} of {persisted} to {written} at start {start}");
        let wanted: Vec<String> = (1..=last).map(|number| format!("{number:03}")).collect();
        let found = keys(view.scan(Table::Newest, Bound::Unbounded, Bound::Unbounded));
        assert_eq!(found, wanted.join(" "), "start {start}");
        written = last;
        for _ in 0..start * 3 {
            written += 1;
            let text = format!("{written:03}");
            let changes = vec![put(Table::Newest, &text, &value), put(Table::Meta, "last", &text)];
            group.commit(Batch { changes }).expect("works");
            if written % 20 == 0 {
                group.persist().expect("works");
                persisted = written;
            }
        }
    }
    assert!(persisted > 0);
}

#[test]
fn a_replaced_state_is_there_at_the_next_start_and_views_of_the_old_one_live_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Engine::new(folder.path(), EngineConfig::default()).group(1).expect("a group");
    let all = |view: &dyn View| keys(view.scan(Table::Newest, Bound::Unbounded, Bound::Unbounded));
    let group = open();
    group.commit(Batch { changes: vec![put(Table::Newest, "old", "1")] }).expect("works");
    group.persist().expect("works");
    let before = group.view();
    group.replace(Batch { changes: vec![put(Table::Newest, "new", "1")] }).expect("works");
    assert_eq!((all(&*before), all(&*group.view())), ("old".to_owned(), "new".to_owned()));
    drop((before, group));
    // A crash before the new state counts leaves its folder behind.
    let leftover = folder.path().join("group-1").join("2");
    std::fs::create_dir(&leftover).expect("a folder");
    let group = open();
    assert_eq!(all(&*group.view()), "new");
    assert!(!leftover.exists() && !folder.path().join("group-1").join("0").exists());
    group.replace(Batch::default()).expect("works");
    assert_eq!(all(&*group.view()), "");
}

#[test]
fn a_crash_forgets_whole_batches_from_the_end() {
    let backend = MemoryBackend::default();
    for key in ["a", "b", "c", "d"] {
        backend.commit(Batch { changes: vec![put(Table::Newest, key, "")] }).expect("works");
        if key == "a" {
            backend.persist().expect("works");
        }
    }
    backend.crash(|unpersisted| unpersisted - 2);
    let view = backend.view();
    assert_eq!(keys(view.scan(Table::Newest, Bound::Unbounded, Bound::Unbounded)), "a b");
}
