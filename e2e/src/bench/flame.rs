//! Flame graphs (B. Gregg) from perf's stacks, as SVG: each frame as wide as its share of the samples, its callers below.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::svg::escaped;

/// Stacks, callers first, with how often each was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stacks(pub BTreeMap<Vec<String>, u64>);

impl Stacks {
    /// Reads what `perf script -F comm,ip,sym` prints: a line with the thread's name, a line for each frame with the
    /// innermost first, an empty line.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut stacks = Self::default();
        for block in text.split("\n\n") {
            let mut lines = block.lines().filter(|line| !line.trim().is_empty());
            let Some(thread) = lines.next() else { continue };
            let mut frames: Vec<String> = lines.map(frame).collect();
            if frames.is_empty() {
                continue;
            }
            frames.push(thread_name(thread.trim()));
            frames.reverse();
            *stacks.0.entry(frames).or_default() += 1;
        }
        stacks
    }

    /// How many samples there are.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Threads of a pool have numbers, which would tear their frames apart.
fn thread_name(name: &str) -> String {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '#').to_owned()
}

/// A frame's symbol: without its address, the compiler's hash and offsets.
fn frame(line: &str) -> String {
    let symbol = line.trim().split_once(' ').map_or("[unknown]", |(_, symbol)| symbol.trim());
    let symbol = symbol.split("+0x").next().unwrap_or(symbol);
    match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => {
            name.to_owned()
        }
        _ => symbol.to_owned(),
    }
}

#[derive(Default)]
struct Node {
    samples: u64,
    callees: BTreeMap<String, Node>,
}

impl Node {
    fn depth(&self, least: u64) -> usize {
        let wide = self.callees.values().filter(|node| node.samples >= least);
        wide.map(|node| 1 + node.depth(least)).max().unwrap_or(0)
    }
}

const WIDTH: f64 = 1_600.0;
const ROW: f64 = 16.0;
const HEAD: f64 = 40.0;
/// Narrower frames are left out.
const NARROWEST: f64 = 0.5;
/// About the width of a character.
const LETTER: f64 = 6.6;

/// The graph's text.
#[must_use]
pub fn svg(title: &str, stacks: &Stacks) -> String {
    let mut root = Node::default();
    for (frames, samples) in &stacks.0 {
        root.samples += samples;
        let mut node = &mut root;
        for frame in frames {
            node = node.callees.entry(frame.clone()).or_default();
            node.samples += samples;
        }
    }
    let unit = WIDTH / root.samples.max(1) as f64;
    let least = (NARROWEST / unit).ceil() as u64;
    let height = HEAD + (root.depth(least) as f64 + 1.0) * ROW;
    let mut text = String::new();
    let _ = writeln!(
        text,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">
<rect width="{WIDTH}" height="{height}" fill="white"/>
<text x="8" y="24" font-size="15" font-family="sans-serif">{}: {} samples</text>"#,
        escaped(title),
        root.samples
    );
    draw(&root, 0.0, height - ROW, unit, root.samples, &mut text);
    text.push_str("</svg>\n");
    text
}

fn draw(node: &Node, left: f64, top: f64, unit: f64, all: u64, text: &mut String) {
    let mut left = left;
    for (name, callee) in &node.callees {
        let width = callee.samples as f64 * unit;
        if width >= NARROWEST {
            let percent = callee.samples as f64 / all as f64 * 100.0;
            let letters = ((width - 4.0) / LETTER).max(0.0) as usize;
            let shown: String =
                if letters < 3 { String::new() } else { name.chars().take(letters).collect() };
            let _ = writeln!(
                text,
                r#"<g><title>{} ({percent:.1} %)</title><rect x="{left:.1}" y="{top:.0}" width="{width:.1}" height="15" fill="{}"/><text x="{:.1}" y="{:.0}">{}</text></g>"#,
                escaped(name),
                colour(name),
                left + 2.0,
                top + 11.0,
                escaped(&shown)
            );
            draw(callee, left, top - ROW, unit, all, text);
        }
        left += width;
    }
}

/// A warm colour that stays the same for a name.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let (green, blue) = (90 + hash % 130, 40 + hash / 130 % 40);
    format!("rgb(235,{green},{blue})")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "tokio-runtime-w\n\
                          \t    55d0 h2::send::h0123456789abcdef\n\
                          \t    55d1 main+0x10\n\n\
                          tokio-runtime-w\n\
                          \t    55d2 write\n\
                          \t    55d1 main+0x22\n\n";

    #[test]
    fn stacks_are_folded_with_callers_first() {
        let stacks = Stacks::parse(&SCRIPT.repeat(2));
        let frames = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(stacks.samples(), 4);
        assert_eq!(stacks.0[&frames(&["tokio-runtime-w", "main", "h2::send"])], 2);
        assert_eq!(stacks.0[&frames(&["tokio-runtime-w", "main", "write"])], 2);
    }

    #[test]
    fn frames_are_as_wide_as_their_share() {
        let svg = svg("a & b", &Stacks::parse(SCRIPT));
        assert!(svg.contains("a &amp; b: 2 samples"));
        assert!(svg.contains("<title>main (100.0 %)</title>") && svg.contains(r#"width="1600.0""#));
        assert!(svg.contains("<title>write (50.0 %)</title>") && svg.contains(r#"width="800.0""#));
    }
}
