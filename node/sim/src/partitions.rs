//! How long each protocol needs to serve writes again when links between members break, in election timeouts.
//!
//! Every member stays up. Of three members all 64 sets of broken directions are looked at, up to renaming the followers: the
//! first member led before. Of five, the scenarios of OmniPaxos (Ng, Haridi, Carbone, EuroSys 2023, section 2) and a sample.
//! A client writes through any member; a case is served when a write that was asked after the cut is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use quorate_consensus::id::{MemberId, Time};
use quorate_consensus::kind::ProtocolKind;

use crate::random::Random;
use crate::world::cuts;

/// The election timeout of every member in the simulator.
const ELECTION_TIMEOUT_MS: u64 = 1_000;
/// After so many a case counts as not served.
const GIVE_UP_TIMEOUTS: u64 = 30;

/// Broken directions between members; the leader is number 1.
type Cuts = BTreeSet<(u64, u64)>;

struct Case {
    name: String,
    members: u64,
    cuts: Cuts,
    /// Whom the leader cannot bring up to date before the cut: their logs are behind.
    behind: Vec<u64>,
}

fn both(pairs: &[(u64, u64)]) -> Cuts {
    pairs.iter().flat_map(|&(one, other)| [(one, other), (other, one)]).collect()
}

fn arrows(cuts: &Cuts) -> String {
    if cuts.is_empty() {
        return "nothing is cut".into();
    }
    let mut words = Vec::new();
    for &(from, to) in cuts {
        if !cuts.contains(&(to, from)) {
            words.push(format!("{from}→{to}"));
        } else if from < to {
            words.push(format!("{from}–{to}"));
        }
    }
    words.join(" ")
}

/// All sets of broken directions among three, one for each that differ only by the names of the followers.
fn of_three() -> Vec<Case> {
    let links = [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)];
    let swapped = |id: u64| if id == 1 { 1 } else { 5 - id };
    let mut seen: BTreeSet<Cuts> = BTreeSet::new();
    let mut cases = Vec::new();
    for bits in 0..64_u32 {
        let chosen = links.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
        let cuts: Cuts = chosen.map(|(_, link)| *link).collect();
        let twin: Cuts = cuts.iter().map(|&(from, to)| (swapped(from), swapped(to))).collect();
        if seen.insert(cuts.clone()) && seen.insert(twin)
            || cuts.iter().all(|&(a, b)| cuts.contains(&(swapped(a), swapped(b))))
        {
            cases.push(Case { name: arrows(&cuts), members: 3, cuts, behind: Vec::new() });
        }
    }
    cases.sort_by_key(|case| case.cuts.len());
    cases
}

/// The named ones: OmniPaxos's three, and Cloudflare's.
fn named() -> Vec<Case> {
    let all =
        |members: u64| (1..=members).flat_map(move |one| (one + 1..=members).map(move |other| (one, other)));
    let except = |members: u64, kept: &[(u64, u64)]| {
        both(&all(members).filter(|link| !kept.contains(link)).collect::<Vec<_>>())
    };
    vec![
        Case {
            name: "chained: 1–2 broken, both hear 3 (Cloudflare 2020)".into(),
            members: 3,
            cuts: both(&[(1, 2)]),
            behind: Vec::new(),
        },
        Case {
            name: "quorum-loss: all hear only 2, the leader is 1".into(),
            members: 5,
            cuts: except(5, &[(1, 2), (2, 3), (2, 4), (2, 5)]),
            behind: Vec::new(),
        },
        Case {
            name: "constrained election: all hear only 2, which is behind; the leader is cut off".into(),
            members: 5,
            cuts: except(5, &[(2, 3), (2, 4), (2, 5)]),
            behind: vec![2],
        },
        Case {
            name: "chain 1–2–3–4–5, the leader at its end".into(),
            members: 5,
            cuts: except(5, &[(1, 2), (2, 3), (3, 4), (4, 5)]),
            behind: Vec::new(),
        },
    ]
}

fn sample(count: usize) -> Vec<Case> {
    let mut random = Random::new(5);
    let links: Vec<(u64, u64)> = (1..=5)
        .flat_map(|one| (1..=5).map(move |other| (one, other)))
        .filter(|(one, other)| one != other)
        .collect();
    (0..count)
        .map(|_| {
            let percent = 15 + random.below(35);
            let cuts: Cuts = links.iter().copied().filter(|_| random.chance(percent)).collect();
            Case { name: arrows(&cuts), members: 5, cuts, behind: Vec::new() }
        })
        .collect()
}

/// Timeouts until a write was served, of some runs: the median and the longest.
fn measure(protocol: ProtocolKind, case: &Case, runs: u64) -> String {
    let id = |number: &u64| MemberId(*number);
    let cuts: Vec<(MemberId, MemberId)> = case.cuts.iter().map(|(from, to)| (id(from), id(to))).collect();
    let behind: Vec<MemberId> = case.behind.iter().map(id).collect();
    let give_up_ms = GIVE_UP_TIMEOUTS * ELECTION_TIMEOUT_MS;
    let mut times: Vec<Option<Time>> = (1..=runs)
        .map(|seed| cuts::time_to_serve(protocol, seed, case.members, &cuts, &behind, give_up_ms))
        .collect();
    times.sort_by_key(|time| time.map_or(u64::MAX, |time| time.0));
    let timeouts = |time: Option<Time>| {
        time.map_or_else(
            || "never".into(),
            |time| format!("{:.1}", time.0 as f64 / ELECTION_TIMEOUT_MS as f64),
        )
    };
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    format!("{} / {}", timeouts(median), timeouts(longest))
}

/// Whether some member hears a quorum and is heard by it: then a protocol can serve.
fn can_serve(case: &Case) -> &'static str {
    let quorum = case.members / 2 + 1;
    let hears = |one: u64, other: u64| {
        one == other || !case.cuts.contains(&(other, one)) && !case.cuts.contains(&(one, other))
    };
    let connected = |one: u64| (1..=case.members).filter(|&other| hears(one, other)).count() as u64;
    if (1..=case.members).any(|one| connected(one) >= quorum) { "yes" } else { "no" }
}

/// The table, as Markdown.
#[must_use]
pub fn table(runs: u64, sampled: usize) -> String {
    let groups: BTreeMap<u8, (&str, Vec<Case>)> = BTreeMap::from([
        (0, ("Named cases", named())),
        (1, ("Three members: every set of broken directions, up to renaming the followers", of_three())),
        (2, ("Five members: a sample", sample(sampled))),
    ]);
    let mut text = format!(
        "# Partial partitions\n\nGenerated by `make partitions` (`sim partitions --runs {runs} --sample {sampled}`); don't edit.\n\nTime until a write is served again through some member, in election timeouts: median / \
         longest of {runs} runs; *never* means not within {GIVE_UP_TIMEOUTS}. Member 1 led before the cut. `1–2` is broken both \
         ways; over `1→2` nothing that 1 sends arrives. *connected*: some member exchanges messages both ways with a quorum.\n"
    );
    for (title, cases) in groups.values() {
        let _ = writeln!(text, "\n## {title}\n");
        let _ = writeln!(text, "| broken | connected | Raft | Multi-Paxos | Zab |\n|---|---|---|---|---|");
        for case in cases {
            let row: Vec<String> =
                ProtocolKind::ALL.iter().map(|protocol| measure(*protocol, case, runs)).collect();
            let _ = writeln!(text, "| {} | {} | {} |", case.name, can_serve(case), row.join(" | "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_members_have_thirty_six_cases() {
        // 64 sets, of which 8 are their own mirror image: (64 + 8) / 2.
        assert_eq!(of_three().len(), 36);
    }
}
