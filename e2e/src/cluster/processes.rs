//! The parts that run: each is written down with its start time, so that none is confused with a later process of the same
//! number.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::layout::{Layout, NODES};

/// A part that does not end in this time after SIGTERM is killed.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const END_PAUSE: Duration = Duration::from_millis(20);

/// The parts of one cluster.
#[derive(Debug)]
pub(super) struct Processes<'a> {
    layout: &'a Layout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Started {
    pid: i32,
    /// Field 22 of /proc/<pid>/stat.
    ticks: String,
    name: String,
}

impl Started {
    fn runs(&self) -> bool {
        started_at(self.pid).is_some_and(|ticks| ticks == self.ticks)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.runs()) {
            // It may end between the question and the signal.
            let _ = kill_process(pid, signal);
        }
    }
}

pub(super) fn started_at(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in brackets and may hold blanks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (fields.first() != Some(&"Z")).then(|| fields.get(19).map(|&ticks| ticks.to_owned()))?
}

/// The lab's program; a test is another one, both lie beside each other.
pub(super) fn lab_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let lab = ["quorate-lab", "../quorate-lab"].map(|path| own.with_file_name(path));
    lab.into_iter().find(|path| path.exists()).context("quorate-lab is not built")
}

impl<'a> Processes<'a> {
    pub(super) fn of(layout: &'a Layout) -> Self {
        Self { layout }
    }

    /// Starts a program in a network namespace.
    pub(super) fn start(
        &self,
        name: &str,
        namespace: &str,
        program: &Path,
        arguments: &[String],
    ) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).arg(program).args(arguments);
        self.spawn(name, &mut command)
    }

    /// Starts this program again as a part, in the host's network.
    pub(super) fn start_own(&self, name: &str, arguments: &[&str]) -> Result<()> {
        self.spawn(name, Command::new(lab_program()?).args(arguments))
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Result<()> {
        let log = File::create(self.layout.logs().join(name))?;
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .current_dir(&self.layout.root)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C at the terminal is not for the parts.
            .process_group(0);
        let child = command.spawn().with_context(|| format!("can't start {name}"))?;
        let pid = i32::try_from(child.id())?;
        let ticks = started_at(pid).with_context(|| format!("{name} ended at once: see its log"))?;
        let mut list = OpenOptions::new().create(true).append(true).open(self.layout.process_list())?;
        writeln!(list, "{pid} {ticks} {name}")?;
        Ok(())
    }

    fn started(&self) -> Vec<Started> {
        let list = std::fs::read_to_string(self.layout.process_list()).unwrap_or_default();
        let started = |line: &str| {
            let mut words = line.split(' ');
            let (pid, ticks, name) = (words.next()?, words.next()?, words.next()?);
            Some(Started { pid: pid.parse().ok()?, ticks: ticks.to_owned(), name: name.to_owned() })
        };
        list.lines().filter_map(started).collect()
    }

    pub(super) fn all_run(&self) -> bool {
        let started = self.started();
        !started.is_empty() && started.iter().all(Started::runs)
    }

    /// The log of a part, for an error.
    pub(super) fn last_words(&self, name: &str) -> String {
        const LINES: usize = 5;
        let text = std::fs::read_to_string(self.layout.logs().join(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Whether a part still runs.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.started().iter().any(|started| started.name == name && started.runs())
    }

    /// Ends the youngest first: kubelets before what they talk to.
    pub(super) fn end_all(&self) -> Result<()> {
        let started = self.started();
        for process in started.iter().rev() {
            process.signal(Signal::TERM);
        }
        let began = Instant::now();
        while started.iter().any(Started::runs) && began.elapsed() < END_TIMEOUT {
            std::thread::sleep(END_PAUSE);
        }
        kill(&started)
    }

    /// Ends what talks to a containerd and is not in the list, by the containerd's socket among its arguments: shims outlive their
    /// containerd, and a `ctr` may outlive a program that was killed while it started it. Pods' processes are found by their cgroups.
    pub(super) fn end_around(&self) -> Result<()> {
        let sockets = NODES.each_ref().map(|node| self.layout.socket(node));
        let mut around = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let (Ok(arguments), Some(ticks)) = (std::fs::read(entry.path().join("cmdline")), started_at(pid))
            else {
                continue;
            };
            let arguments = String::from_utf8_lossy(&arguments);
            let named = |argument: &str| sockets.iter().any(|socket| *socket == *Path::new(argument));
            if arguments.split('\0').any(named) {
                let name = arguments.split('\0').next().unwrap_or_default().to_owned();
                around.push(Started { pid, ticks, name });
            }
        }
        kill(&around)
    }
}

fn kill(started: &[Started]) -> Result<()> {
    for process in started {
        process.signal(Signal::KILL);
    }
    let began = Instant::now();
    while started.iter().any(Started::runs) && began.elapsed() < END_TIMEOUT {
        std::thread::sleep(END_PAUSE);
    }
    match started.iter().find(|process| process.runs()) {
        Some(process) => anyhow::bail!("{} (process {}) can't be ended", process.name, process.pid),
        None => Ok(()),
    }
}
