//! Runs that need more faults than are explored, told step by step.

use super::cluster::{Cluster, Next, Wish};
use super::fault::Fault;
use super::node::Kept;
use super::{Membership, voters};
use crate::id::{Index, MemberId};
use crate::kind::ProtocolKind;

const ONE: MemberId = MemberId(1);
const TWO: MemberId = MemberId(2);
const THREE: MemberId = MemberId(3);
const FOUR: MemberId = MemberId(4);

/// Goes on until `there`; nothing passes between members that are `apart`.
fn until(cluster: &mut Cluster, apart: &[(MemberId, MemberId)], there: impl Fn(&Cluster) -> bool) {
    for _ in 0..500 {
        if there(cluster) {
            return;
        }
        if let Next::Arrive { from, to } = cluster.next()
            && (apart.contains(&(from, to)) || apart.contains(&(to, from)))
        {
            cluster.fail(Fault::Lose).expect("a loss breaks nothing");
            continue;
        }
        if let Err(what) = cluster.advance() {
            panic!("{what}");
        }
    }
    panic!("it does not come to that");
}

fn fail(cluster: &mut Cluster, fault: Fault) {
    if let Err(what) = cluster.fail(fault) {
        panic!("{what}");
    }
}

/// The old voters elect one member and the new ones another, in one ballot; the first one, which is a new voter, too, finds the stop
/// chosen and prepares the ballot again. Who promised it to the other must refuse.
#[test]
fn multi_paxos_has_one_leader_in_a_ballot_on_either_side_of_a_stop() {
    let mut target: Membership = voters(1..=4);
    target.members.remove(&THREE);
    target.removed.insert(THREE);
    let mut it = Cluster::new(ProtocolKind::MultiPaxos, &voters(1..=3), 4, vec![Wish::Change(target)], 30);
    until(&mut it, &[], |it| it.nodes[&ONE].machine.status().commit == Index(2));
    fail(&mut it, Fault::Crash(ONE, Kept::Nothing));
    until(&mut it, &[], |it| it.network.is_empty() && it.next() == Next::Rest);
    let apart = [(ONE, TWO), (TWO, THREE), (THREE, FOUR)];
    fail(&mut it, Fault::Hasten(TWO));
    fail(&mut it, Fault::Hasten(ONE));
    until(&mut it, &apart, |it| it.next() == Next::Rest);
    assert_eq!(it.leaders(), [TWO]);
}
