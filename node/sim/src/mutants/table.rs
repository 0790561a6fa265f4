//! The result as a table in Markdown.

use std::time::Duration;

use super::hunt::{Catch, Hunt};

/// What a check said, at most: whole states may stand in it.
const SAID_CHARS_MAX: usize = 110;

/// The first line of the table, and the second.
pub const HEAD: &str = "| bug | planted in | what it is | caught by | where, seed | seeds | core-seconds |\n\
                        |---|---|---|---|---|---|---|";

/// A bug's line.
#[must_use]
pub fn line(hunt: &Hunt) -> String {
    let (by, place) = match &hunt.catch {
        Some(catch) => (found(catch), format!("{}, {}", catch.place, catch.seed)),
        None => {
            let chance =
                |catch: &Catch| format!(", by chance at {} {}: {}", catch.place, catch.seed, found(catch));
            let chance = hunt.chance.as_ref().map(chance).unwrap_or_default();
            (format!("**not caught**{chance}"), "-".into())
        }
    };
    let Hunt { bug, seeds, core, .. } = hunt;
    let about = bug.about().trim();
    format!(
        "| {} | {} | {about} | {by} | {place} | {seeds} | {:.2} |",
        bug.name(),
        bug.place(),
        core.as_secs_f64()
    )
}

fn found(catch: &Catch) -> String {
    format!("{:?}: {}", catch.by.kind, said(&catch.by.what))
}

/// A check's words, short and on one line.
#[must_use]
pub fn said(by: &str) -> String {
    let plain: String = by.chars().map(|it| if matches!(it, '|' | '\n' | '`') { ' ' } else { it }).collect();
    let short: String = plain.chars().take(SAID_CHARS_MAX).collect();
    if short.len() < plain.len() { format!("{} ...", short.trim_end()) } else { short }
}

/// The whole as a document: when and with what command it was made, the table, how many were caught, and which were not.
#[must_use]
pub fn document(hunts: &[Hunt], date: &str, command: &str, sound: &str) -> String {
    let lines: Vec<String> = hunts.iter().map(line).collect();
    let uncaught: Vec<String> = hunts.iter().filter(|hunt| hunt.catch.is_none()).map(missed).collect();
    let uncaught = if uncaught.is_empty() { "None.".to_owned() } else { uncaught.join("\n") };
    format!(
        "# Known bugs, planted one at a time: what the simulator catches\n\n\
         {date}, `{command}`. How it is done stands in [MUTANTS.md](../node/sim/MUTANTS.md).\n\n\
         {sound}.\n\n{HEAD}\n{}\n\n{}\n\n## Not caught\n\n{uncaught}\n\n{}",
        lines.join("\n"),
        summary(hunts),
        not_planted()
    )
}

/// What counts among neither the caught nor the others, as MUTANTS.md tells it in its last section.
fn not_planted() -> &'static str {
    let all = include_str!("../../MUTANTS.md");
    all.find("## Not planted, and why").map_or("", |at| &all[at..])
}

/// One that was not caught, and how much was tried.
fn missed(Hunt { bug, seeds, core, .. }: &Hunt) -> String {
    let seconds = core.as_secs_f64();
    format!(
        "- `{}` ({}): not in {seeds} seeds, {seconds:.1} core-seconds. {}",
        bug.name(),
        bug.place(),
        bug.about().trim()
    )
}

/// The last lines: how many were caught, and in what time.
#[must_use]
pub fn summary(hunts: &[Hunt]) -> String {
    let mut caught: Vec<Duration> =
        hunts.iter().filter(|hunt| hunt.catch.is_some()).map(|hunt| hunt.core).collect();
    caught.sort_unstable();
    let minutes = |core: Option<&Duration>| core.map_or(0.0, |core| core.as_secs_f64() / 60.0);
    format!(
        "core-minutes to catch one: median {:.4}, at most {:.4}\ncaught {} of {}",
        minutes(caught.get(caught.len() / 2)),
        minutes(caught.last()),
        caught.len(),
        hunts.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_tells_what_was_not_planted() {
        let text = document(&[], "2026-01-01", "sim", "Nothing failed");
        for named in ["#14571", "#14685", "#18055", "#20271"] {
            assert!(text.contains(named), "{named} is missing");
        }
    }
}
