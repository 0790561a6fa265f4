//! A story's text.

use std::path::Path;

/// The text with what comes out now in the place of what came out then.
///
/// # Errors
/// The line of a command that fails, why, and what came out before it.
pub(super) fn retell(
    text: &str,
    mut run: impl FnMut(&str) -> Result<Vec<String>, String>,
) -> Result<String, String> {
    let mut told = String::new();
    let mut output: Vec<String> = Vec::new();
    let mut old_output = false;
    for (at, line) in text.lines().enumerate() {
        if old_output && !line.is_empty() {
            continue;
        }
        old_output = false;
        told.push_str(line);
        told.push('\n');
        if line == "----" {
            old_output = true;
            for line in output.drain(..) {
                told.push_str(&line);
                told.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            let said = run(line);
            let said = said.map_err(|why| format!("{}: {line}: {why}\n{}", at + 1, output.join("\n")))?;
            output.extend(said);
        }
    }
    assert!(output.is_empty(), "a story's last commands have no ---- behind them");
    Ok(told)
}

/// The first line that is not as written.
pub(super) fn difference(path: &Path, text: &str, told: &str) -> String {
    let mut pairs = text.lines().zip(told.lines()).enumerate();
    let end = text.lines().count().min(told.lines().count());
    let (at, (was, is)) = pairs.find(|(_, (was, is))| was != is).unwrap_or((end, ("", "")));
    format!("{}:{}: differs\n  written: {was}\n  now:     {is}", path.display(), at + 1)
}
