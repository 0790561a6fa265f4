//! `quorate playground`: members as processes on loopback, watched and commanded from one terminal.

mod command;
mod member;
mod view;

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use command::Command;
use member::{Member, Ports};
use view::View;

/// Between two looks at the members.
const LOOK: Duration = Duration::from_millis(500);
/// Lines typed and not yet read.
const LINES_MAX: usize = 16;
/// Sets of ports that are tried.
const PORT_TRIES: u16 = 50;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many members
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    members: u16,
    /// How many of them, the last ones, are witnesses: they vote and hold no data
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=4))]
    witnesses: u16,
    /// Where their data is kept; a temporary folder, removed at the end, without it
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The first member's client port; the others follow in steps of ten
    #[arg(long, default_value_t = 2379)]
    base_port: u16,
}

/// Runs until `quit`, Ctrl-C or SIGTERM; every member has ended then.
///
/// # Errors
/// `quorate-node` is not there, no ports are free, or a member can't be started.
pub fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(play(options));
    // The thread that reads the terminal can't be waited for.
    runtime.shutdown_background();
    result
}

/// The server beside this program, or in PATH.
fn node_binary() -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("quorate-node");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|folder| folder.join("quorate-node"));
    std::iter::once(beside)
        .chain(places)
        .find(|place| place.is_file())
        .context("quorate-node is neither beside this program nor in PATH: build it with `make build`")
}

fn choose_ports(options: &Options) -> Result<Vec<Ports>> {
    for attempt in 0..PORT_TRIES {
        let base = options.base_port.saturating_add(attempt.saturating_mul(100));
        let ports: Vec<Ports> =
            (0..options.members).map(|number| Ports::new(base.saturating_add(number * 10))).collect();
        match ports.iter().find_map(Ports::taken) {
            None => return Ok(ports),
            Some(taken) if attempt == 0 => println!("port {taken} is taken: looking for others"),
            Some(_) => {}
        }
    }
    bail!("no free ports from {} on: choose others with --base-port", options.base_port)
}

async fn play(options: Options) -> Result<()> {
    if options.witnesses * 2 >= options.members && options.witnesses > 0 {
        bail!("--witnesses must be fewer than the members that hold data");
    }
    let binary = node_binary()?;
    let ports = choose_ports(&options)?;
    let temporary = match &options.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("quorate-playground-").tempdir()?),
    };
    let folder = match (&options.data_dir, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(temporary)) => temporary.path().to_path_buf(),
        (None, None) => bail!("no folder"),
    };
    let data_members = usize::from(options.members.saturating_sub(options.witnesses));
    let mut members = start(&binary, &folder, &ports, data_members)?;
    let mut view = View::new(std::io::stdout().is_terminal(), &ports, data_members, &folder);
    view.introduce();
    let result = watch(&mut members, &mut view).await;
    println!("ending the members");
    for member in &mut members {
        member.stop();
    }
    for member in &mut members {
        member.wait_end().await;
    }
    result
}

fn start(binary: &Path, folder: &Path, ports: &[Ports], data_members: usize) -> Result<Vec<Member>> {
    std::fs::create_dir_all(folder).with_context(|| format!("can't create {}", folder.display()))?;
    let mut members = Vec::new();
    for number in 1..=ports.len() {
        let mut member = Member::new(number, binary, folder, ports, data_members);
        member.start()?;
        members.push(member);
    }
    Ok(members)
}

fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
        // The end of the input is not the end of the playground: it may run without a terminal.
    });
    lines
}

async fn watch(members: &mut [Member], view: &mut View) -> Result<()> {
    let mut lines = lines();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                let seen = futures::future::join_all(members.iter_mut().map(Member::look)).await;
                view.show(&seen);
            }
            Some(line) = lines.recv() => match command::parse(&line, members.len()) {
                Ok(None) => {}
                Ok(Some(Command::Quit)) => return Ok(()),
                Ok(Some(Command::Help)) => view.say(command::HELP),
                Ok(Some(Command::Kill(number))) => members[number - 1].kill(),
                Ok(Some(Command::Stop(number))) => members[number - 1].stop(),
                Ok(Some(Command::Start(number))) => {
                    if let Err(error) = members[number - 1].start() {
                        view.say(&format!("{error:#}"));
                    }
                }
                Err(why) => view.say(&why),
            },
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}
