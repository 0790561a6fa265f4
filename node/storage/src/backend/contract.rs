//! What every engine must do, tried on each.

use std::ops::Bound;

use bytes::Bytes;

use super::fjall::{Engine, EngineConfig};
use super::memory::MemoryBackend;
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
    assert_eq!(keys(view.scan_back(Table::Newest, Bound::Unbounded, Bound::Unbounded)), "b a");
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
    backend.clear().expect("works");
    assert_eq!(all(&*backend.view()), "");
}

#[test]
fn the_engine_in_memory_keeps_the_contract() {
    contract(&MemoryBackend::default());
}

#[test]
fn the_engine_on_disk_keeps_the_contract_and_what_was_persisted() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Engine::open(folder.path(), EngineConfig::default()).expect("opens");
    let engine = open();
    contract(&engine.group(1).expect("a group"));
    let group = engine.group(2).expect("a group");
    group.commit(Batch { changes: vec![put(Table::Newest, "k", "v")] }).expect("works");
    group.persist().expect("works");
    drop((group, engine));
    let group = open().group(2).expect("a group");
    assert_eq!(group.view().get(Table::Newest, b"k").expect("works"), Some(bytes("v")));
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
