//! What the repository promises about itself: sizes of files, who imports whom, no names of machines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quorate_e2e::tools::repository;

/// The limit of a source file.
const LINES_MAX: usize = 600;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = name == "target" || name.to_string_lossy().starts_with('.');
        match entry.file_type().expect("a readable folder") {
            kind if kind.is_dir() && !skipped => files(&path, found),
            kind if kind.is_file() && name != ".git" => found.push(path),
            _ => {}
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&repository(), &mut found);
    found
}

#[test]
fn no_source_file_is_too_long() {
    for path in sources().iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs")) {
        let lines = std::fs::read_to_string(path).unwrap().lines().count();
        assert!(
            lines <= LINES_MAX,
            "{} has {lines} lines, {LINES_MAX} are the limit: split it",
            path.display()
        );
    }
}

/// The table of ARCHITECTURE.md. Tests may use more than the code does.
#[test]
fn crates_import_what_the_architecture_allows() {
    let allowed = BTreeMap::from([
        ("node/consensus", &[][..]),
        ("node/storage", &[]),
        ("node/api", &[]),
        ("node/state", &["storage"]),
        ("node/replica", &["consensus", "storage", "state"]),
        ("node/sim", &["replica", "consensus", "storage", "state"]),
        ("node/server", &["replica", "consensus", "storage", "state", "api"]),
        ("node/cli", &["storage", "api"]),
        ("operator", &["api"]),
        ("e2e", &["api"]),
    ]);
    for (folder, allowed) in allowed {
        let manifest = std::fs::read_to_string(repository().join(folder).join("Cargo.toml")).unwrap();
        let code = manifest
            .split("[dependencies]")
            .nth(1)
            .unwrap_or_default()
            .split("\n[")
            .next()
            .unwrap_or_default();
        for line in code.lines() {
            let Some(name) = line.strip_prefix("quorate-") else { continue };
            let name = name.split(['.', ' ', '=']).next().unwrap();
            assert!(allowed.contains(&name), "{folder} imports quorate-{name}");
        }
    }
}

#[test]
fn nothing_names_a_machine() {
    for path in sources() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for word in [concat!("/work", "/"), concat!("artifact", "ory"), concat!("/root", "/.")] {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

/// `node/sim/MUTANTS.md`: whatever features of its own a program is built with, no planted bug is in it.
#[test]
fn no_program_can_be_built_with_planted_bugs() {
    let planted = |package: &str, features: &str| {
        let shape = ["--edges", "normal,build", "--prefix", "none", "--format", "{p}|{f}"];
        let output = std::process::Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--offline", features, "--package", package])
            .args(shape)
            .current_dir(repository())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(tree.contains(package), "{tree}");
        let with = |line: &&str| {
            let features = line.split('|').nth(1).unwrap_or_default();
            features.trim_end_matches(" (*)").split(',').any(|feature| feature == "mutants")
        };
        tree.lines().filter(with).map(str::to_owned).collect::<Vec<_>>()
    };
    for library in ["consensus", "storage", "state", "replica"] {
        let name = format!("quorate-{library} ");
        let all = planted("quorate-sim", "--all-features");
        assert!(
            all.iter().any(|line| line.starts_with(&name)),
            "the test sees no feature of {name}: {all:?}"
        );
    }
    assert_eq!(planted("quorate-sim", "--no-default-features"), Vec::<String>::new());
    for package in ["quorate-server", "quorate-cli", "quorate-operator"] {
        assert_eq!(
            planted(package, "--all-features"),
            Vec::<String>::new(),
            "{package} can have planted bugs"
        );
    }
}
