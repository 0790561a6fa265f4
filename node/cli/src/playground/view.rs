//! What is shown: a table that is drawn anew on a terminal, a line per change elsewhere.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::command::HELP;
use super::member::{Ports, Seen};

/// The view.
#[derive(Debug)]
pub(super) struct View {
    terminal: bool,
    endpoints: String,
    clients: Vec<u16>,
    folder: String,
    message: String,
    shown: Vec<String>,
}

impl View {
    pub(super) fn new(terminal: bool, ports: &[Ports], data_members: usize, folder: &Path) -> Self {
        // A witness serves no clients.
        let served = ports.iter().take(data_members);
        let endpoints: Vec<String> = served.map(|ports| format!("localhost:{}", ports.client)).collect();
        Self {
            terminal,
            endpoints: endpoints.join(","),
            clients: ports.iter().map(|ports| ports.client).collect(),
            folder: folder.display().to_string(),
            message: String::new(),
            shown: vec![String::new(); ports.len() + 1],
        }
    }

    pub(super) fn introduce(&self) {
        if !self.terminal {
            print!("{}", self.introduction());
        }
    }

    fn introduction(&self) -> String {
        format!(
            "Quorate playground: data and logs in {}\n\n  etcdctl --endpoints={} put hello world\n\n{HELP}\n\n",
            self.folder, self.endpoints
        )
    }

    /// Says something to whoever types.
    pub(super) fn say(&mut self, text: &str) {
        if self.terminal {
            text.clone_into(&mut self.message);
        } else {
            println!("{text}");
        }
    }

    pub(super) fn show(&mut self, seen: &[Seen]) {
        let rows = rows(seen, &self.clients);
        if !self.terminal {
            return self.tell_changes(seen);
        }
        // Home, then every line cleared behind its text: nothing flickers.
        let mut screen = String::from("\x1b[H");
        let table = rows.join("\n");
        for line in format!("{}{table}\n\n{}\n> ", self.introduction(), self.message).lines() {
            // Writing to a String can't fail.
            let _ = writeln!(screen, "{line}\x1b[K");
        }
        screen.push_str("\x1b[J");
        print!("{screen}");
        // A terminal that is gone ends this program by a signal.
        let _ = std::io::stdout().flush();
    }

    fn tell_changes(&mut self, seen: &[Seen]) {
        let mut now = vec![leader(seen)];
        now.extend(seen.iter().zip(1..).map(|(seen, number)| format!("m{number} {}", state(seen))));
        for (now, shown) in now.into_iter().zip(&mut self.shown) {
            if now != *shown {
                println!("{now}");
                *shown = now;
            }
        }
    }
}

fn id(seen: &Seen) -> Option<u64> {
    Some(seen.status.as_ref()?.header.as_ref()?.member_id)
}

/// Who leads, as the member with the highest term says.
fn leader(seen: &[Seen]) -> String {
    let newest = seen.iter().filter_map(|seen| seen.status.as_ref()).max_by_key(|status| status.raft_term);
    let place = newest.and_then(|newest| seen.iter().position(|seen| id(seen) == Some(newest.leader)));
    match (newest, place) {
        (Some(newest), Some(place)) => format!("leader: m{} in epoch {}", place + 1, newest.raft_term),
        (Some(_), None) | (None, _) => "leader: none".to_owned(),
    }
}

fn state(seen: &Seen) -> &'static str {
    match (&seen.status, seen.runs) {
        (_, false) => "down",
        (None, true) => "silent",
        (Some(status), true) if status.leader != 0 && id(seen) == Some(status.leader) => "leads",
        (Some(status), true) if status.leader == 0 => "without a leader",
        (Some(_), true) => "follows",
    }
}

fn rows(seen: &[Seen], clients: &[u16]) -> Vec<String> {
    let mut rows = vec![
        leader(seen),
        String::new(),
        format!(
            "{:<8}{:<18}{:>8}{:>12}{:>12}{:>10}",
            "member", "state", "port", "revision", "applied", "bytes"
        ),
    ];
    for ((seen, client), number) in seen.iter().zip(clients).zip(1..) {
        let (revision, applied, bytes) = match &seen.status {
            Some(status) => {
                let revision = status.header.as_ref().map_or(0, |header| header.revision);
                (revision.to_string(), status.raft_applied_index.to_string(), status.db_size.to_string())
            }
            None => Default::default(),
        };
        rows.push(format!(
            "m{number:<7}{:<18}{client:>8}{revision:>12}{applied:>12}{bytes:>10}",
            state(seen)
        ));
    }
    rows
}
