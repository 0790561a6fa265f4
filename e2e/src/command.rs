//! Running other programs, with errors that show what they said.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A command line as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs to the end and gives back what it printed.
///
/// # Errors
/// It can't be started, or fails; the text has what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let result = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't run {}", command.get_program().to_string_lossy()))?;
    if !result.status.success() {
        let said = String::from_utf8_lossy(&result.stderr);
        let printed = String::from_utf8_lossy(&result.stdout);
        bail!("`{}` failed ({}): {}{}", shown(command), result.status, said.trim(), printed.trim());
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// Runs words to the end.
///
/// # Errors
/// See [`output`].
pub fn run<const N: usize>(words: [&str; N]) -> Result<()> {
    let [program, arguments @ ..] = &words[..] else { bail!("no program was named") };
    output(Command::new(program).args(arguments)).map(|_| ())
}

/// Runs with its output on this terminal.
///
/// # Errors
/// It can't be started, or fails.
pub fn visible(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("can't run {}", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Asks until there is an answer: other programs tell nobody when they are ready.
///
/// # Errors
/// The time is over; the text has the last refusal.
pub fn until<T>(what: &str, timeout: std::time::Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    /// Short against every start that is waited for, long against one question.
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
    let began = std::time::Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if began.elapsed() >= timeout => {
                return Err(error.context(format!("{what}: not within {} s", timeout.as_secs())));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
