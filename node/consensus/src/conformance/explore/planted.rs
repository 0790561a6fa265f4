//! Every planted bug is found, but for those that these scenes can't show.

use Mutant::*;
use ProtocolKind::{MultiPaxos, Raft, Zab};

use super::{run, scene};
use crate::kind::ProtocolKind;
use crate::mutants::Mutant;

type Pair = (ProtocolKind, Mutant);

/// What is not found, and why not. The simulator finds all of it.
const MISSED: &[(&str, &[Pair])] = &[
    ("it harms progress only, and nobody judges that here", &[(Zab, Zookeeper4685)]),
    (
        "there is no witness here",
        &[
            (MultiPaxos, HeaderHidesChoice),
            (Raft, WitnessLeads),
            (MultiPaxos, WitnessLeads),
            (Zab, WitnessLeads),
        ],
    ),
    ("nobody sends a snapshot here", &[(MultiPaxos, SnapshotWithoutBallots)]),
    (
        "a change of leaders in the middle of a change of voters, and what each of them proposes",
        &[
            (Raft, ChangeBeforeOwnCommit),
            (Raft, ConfigurationAtApply),
            (MultiPaxos, StopBypassed),
            (MultiPaxos, UnproposedBehindStop),
        ],
    ),
    (
        "leaders that follow each other, and a crash or a late message at the right moment, too",
        &[
            (Raft, CommitOlderTermByCounting),
            (MultiPaxos, OwnPromiseBeforeSync),
            (Zab, Zookeeper4643),
            (Zab, Zookeeper4785),
            (Zab, Zookeeper4925),
            (Zab, EpochAcknowledgedTwice),
            (Zab, AckEpochBeforeSync),
            (Zab, LateTruncObeyed),
        ],
    ),
];

/// What breaks.
fn found(kind: ProtocolKind, mutant: Mutant) -> Option<String> {
    Mutant::plant(Some(mutant));
    let mut scenes = scene::long(kind).into_iter().chain(scene::short(kind));
    let found = scenes.find_map(|scene| {
        let broken = run(&scene, &mut Vec::new()).0.err()?;
        Some(format!("{}: {}", scene.name, broken.chars().take(200).collect::<String>()))
    });
    Mutant::plant(None);
    found
}

fn judge(kind: ProtocolKind) {
    let pairs = Mutant::ALL.iter().filter(|mutant| mutant.protocols().contains(&kind));
    let mut wrong = Vec::new();
    for &mutant in pairs {
        let expected = !MISSED.iter().any(|(_, missed)| missed.contains(&(kind, mutant)));
        let found = found(kind, mutant);
        println!("{kind} {mutant:?}: {}", found.as_deref().unwrap_or("missed"));
        if found.is_some() != expected {
            wrong.push(format!("{mutant:?} is {}", if expected { "missed" } else { "found" }));
        }
    }
    assert!(wrong.is_empty(), "{kind}: {wrong:?}");
}

#[test]
fn bugs_of_raft_are_found() {
    judge(Raft);
}

#[test]
fn bugs_of_multi_paxos_are_found() {
    judge(MultiPaxos);
}

#[test]
fn bugs_of_zab_are_found() {
    judge(Zab);
}

#[test]
fn what_is_missed_could_be_there() {
    for (kind, mutant) in MISSED.iter().flat_map(|(_, missed)| missed.iter()) {
        assert!(mutant.protocols().contains(kind), "{kind} can't have {mutant:?}");
    }
}
