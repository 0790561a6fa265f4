//! Stories: text files under `testdata/` that a small command language tells, with what the members say and do.
//!
//! A file is made of blocks: comment lines with `#`, commands, a line `----`, what came out. A blank line ends a block.
//! `REWRITE=1` writes what comes out now; `expect` holds then too. The idea is that of etcd-io/raft's interaction tests.

mod command;
mod file;
mod numbers;
mod stage;
mod words;

use std::path::{Path, PathBuf};

use crate::kind::ProtocolKind;

/// What runs the commands of a file.
trait Teller {
    /// Runs one command and tells what came of it, a line each.
    fn tell(&mut self, command: &str) -> Result<Vec<String>, String>;
}

/// Folders named after a protocol hold stories of members; the others are about values.
fn teller(path: &Path) -> Box<dyn Teller> {
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    match folder {
        Some("raft") => Box::new(stage::Stage::new(ProtocolKind::Raft)),
        Some("paxos") => Box::new(stage::Stage::new(ProtocolKind::MultiPaxos)),
        Some("zab") => Box::new(stage::Stage::new(ProtocolKind::Zab)),
        Some("quorum" | "membership") => Box::new(numbers::Numbers::default()),
        Some(_) | None => panic!("{}: nobody tells stories of this folder", path.display()),
    }
}

fn stories() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let folders = std::fs::read_dir(root).unwrap().map(|folder| folder.unwrap().path());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn stories_go_as_they_are_written() {
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut wrong = Vec::new();
    for path in stories() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut teller = teller(&path);
        match file::retell(&text, |command| teller.tell(command)) {
            Err(failed) => wrong.push(format!("{}:{failed}", path.display())),
            Ok(told) if told == text => {}
            Ok(told) if rewrite => std::fs::write(&path, &told).unwrap(),
            Ok(told) => wrong.push(file::difference(&path, &text, &told)),
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nREWRITE=1 takes over what differs, not what was expected.",
        wrong.join("\n")
    );
}
