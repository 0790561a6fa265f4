//! What is typed.

/// What may be typed.
pub(super) const HELP: &str = "kill N: as a crash would   stop N: politely   start N: again   quit: end all";

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Kill(usize),
    Stop(usize),
    Start(usize),
    Help,
    Quit,
}

/// Reads a line; nothing for an empty one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(line: &str, members: usize) -> Result<Option<Command>, String> {
    let mut words = line.split_whitespace();
    let Some(verb) = words.next() else { return Ok(None) };
    let mut number = || match words.next().and_then(|word| word.trim_start_matches('m').parse().ok()) {
        Some(number) if (1..=members).contains(&number) => Ok(number),
        Some(_) | None => Err(format!("{verb} which one? 1 to {members}")),
    };
    let command = match verb {
        "kill" => Command::Kill(number()?),
        "stop" => Command::Stop(number()?),
        "start" => Command::Start(number()?),
        "help" | "?" => Command::Help,
        "quit" | "exit" | "q" => Command::Quit,
        other => return Err(format!("{other}? {HELP}")),
    };
    Ok(Some(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands() {
        assert_eq!(parse("kill 2", 3), Ok(Some(Command::Kill(2))));
        assert_eq!(parse(" start m3 ", 3), Ok(Some(Command::Start(3))));
        assert_eq!(parse("", 3), Ok(None));
        assert_eq!(parse("q", 3), Ok(Some(Command::Quit)));
        assert!(parse("kill 4", 3).unwrap_err().contains("1 to 3"));
        assert!(parse("jump", 3).is_err());
    }
}
