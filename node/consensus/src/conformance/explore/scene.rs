//! What is explored: a small cluster, what is asked of it, and how much goes wrong.

use super::cluster::{Cluster, Wish};
use super::fault::Fault;
use super::voters;
use crate::id::MemberId;
use crate::kind::ProtocolKind;
use crate::membership::Membership;

/// One exploration.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) cluster: Cluster,
    /// So many faults, at most.
    pub(super) faults: u32,
    /// Whether these faults only.
    pub(super) offers: fn(Fault) -> bool,
}

fn any(_: Fault) -> bool {
    true
}

fn depositions(fault: Fault) -> bool {
    matches!(fault, Fault::Depose(..))
}

/// A member goes, 4 comes.
fn without(id: u64) -> Membership {
    let mut target = voters(1..=4);
    target.members.remove(&MemberId(id));
    target.removed.insert(MemberId(id));
    target
}

fn scene(
    name: &'static str,
    kind: ProtocolKind,
    count: u64,
    wishes: &[Wish],
    ticks: u32,
    faults: u32,
) -> Scene {
    let cluster = Cluster::new(kind, &voters(1..=3), count, wishes.to_vec(), ticks);
    Scene { name, cluster, faults, offers: any }
}

impl Scene {
    /// Nothing goes wrong before somebody leads.
    fn led(self) -> Self {
        Self { cluster: self.cluster.settled(), ..self }
    }
}

/// Long runs with one fault.
pub(super) fn long(kind: ProtocolKind) -> Vec<Scene> {
    use Wish::{Alone, Change, Propose, Read};
    vec![
        scene("values", kind, 3, &[Propose(2), Read, Propose(1), Read], 12, 1),
        scene("alone", kind, 3, &[Propose(1), Alone, Propose(1), Read], 12, 1),
        scene("change", kind, 4, &[Propose(1), Change(without(1)), Read, Propose(1)], 12, 1),
    ]
}

/// Short runs with two faults, or three leaders that are deposed.
pub(super) fn short(kind: ProtocolKind) -> Vec<Scene> {
    use Wish::{Alone, Propose, Read};
    vec![
        scene("values", kind, 3, &[Propose(2), Read], 3, 2).led(),
        scene("election", kind, 3, &[Propose(1)], 3, 2),
        scene("alone", kind, 3, &[Alone, Propose(1)], 3, 2).led(),
        Scene {
            offers: depositions,
            ..scene("leaders", kind, 3, &[Propose(1), Propose(1), Read], 2, 3).led()
        },
    ]
}

/// A short run with two faults while one member goes and another comes.
pub(super) fn change(kind: ProtocolKind) -> Scene {
    scene("change", kind, 4, &[Wish::Change(without(1)), Wish::Propose(1)], 2, 2).led()
}
