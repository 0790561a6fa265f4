//! A witness as a whole replica, for every protocol: it takes part, and its disk and state hold no data.

use bytes::Bytes;
use quorate_consensus::entry::Kind;
use quorate_consensus::id::{Index, MemberId};
use quorate_consensus::kind::ProtocolKind;
use quorate_replica::event::Request;
use quorate_replica::host::Host;
use quorate_replica::output::{Answer, Failure};
use quorate_state::machine::LEVEL;
use quorate_state::request::Range;

use crate::{Cluster, GROUP, WITNESS};

fn keys(host: &Host) -> usize {
    let reader = host.replica(GROUP).expect("the group").state().reader();
    let everything =
        Range { key: Bytes::from_static(b"\0"), range_end: Bytes::from_static(b"\0"), ..Range::default() };
    reader.range(&everything).expect("a range").kvs.len()
}

/// Whatever needs data is refused with `why`.
fn serves_nobody(cluster: &mut Cluster, member: MemberId, why: Failure) {
    let reads = [Request::Read, Request::KeepAlive(1), Request::TimeToLive(1)];
    let mut asked: Vec<_> = reads.into_iter().map(|read| cluster.ask(member, read)).collect();
    asked.push(cluster.put(member, 1));
    cluster.run(100);
    for name in asked {
        assert!(
            matches!(cluster.answer(name), Some(Err(failure)) if *failure == why),
            "{}",
            cluster.protocol
        );
    }
}

#[test]
fn a_witness_decides_with_one_data_member_and_holds_no_data() {
    for protocol in ProtocolKind::ALL {
        let mut cluster = Cluster::new(protocol);
        cluster.run(5_000);
        let leader = cluster.leader();
        assert_ne!(leader, WITNESS, "{protocol}");
        let other = MemberId(3 - leader.0);
        cluster.down.push(other);
        let last = (0..200)
            .map(|key| {
                let name = cluster.put(leader, key);
                cluster.run(10);
                name
            })
            .last();
        cluster.run(1_000);
        assert!(
            matches!(cluster.answer(last.expect("puts")), Some(Ok(_))),
            "{protocol}: decided with the witness"
        );
        let witness = &cluster.hosts[&WITNESS];
        assert_eq!((keys(witness), keys(&cluster.hosts[&leader])), (0, 200), "{protocol}");
        let entries = witness.entries(GROUP, Index(1), Index(u64::MAX));
        let base = witness.status(GROUP).expect("the group").commit;
        assert!(entries.iter().all(|entry| entry.kind != Kind::Command), "{protocol}: {base}");
        // The other one comes back: the log before it is gone, so it gets a snapshot, from the member that has data.
        cluster.down.clear();
        cluster.run(5_000);
        assert_eq!(keys(&cluster.hosts[&other]), 200, "{protocol}");
        assert!(cluster.snapshots > 0, "{protocol}");
    }
}

#[test]
fn a_witness_far_behind_gets_a_snapshot_without_data_and_serves_nobody() {
    for protocol in ProtocolKind::ALL {
        let mut cluster = Cluster::new(protocol);
        cluster.run(5_000);
        let leader = cluster.leader();
        cluster.down.push(WITNESS);
        for key in 0..200 {
            cluster.put(leader, key);
            cluster.run(10);
        }
        cluster.down.clear();
        cluster.run(5_000);
        assert!(cluster.snapshots > 0, "{protocol}");
        let commits = cluster.hosts.values().map(|host| host.status(GROUP).expect("the group").commit);
        assert_eq!(commits.collect::<std::collections::BTreeSet<_>>().len(), 1, "{protocol}");
        assert_eq!(keys(&cluster.hosts[&WITNESS]), 0, "{protocol}");
        serves_nobody(&mut cluster, WITNESS, Failure::Witness);
    }
}

#[test]
fn a_witness_knows_the_members_for_certain_while_a_quorum_confirms_it() {
    for protocol in ProtocolKind::ALL {
        let mut cluster = Cluster::new(protocol);
        cluster.run(5_000);
        let name = cluster.ask(WITNESS, Request::ReadMembership);
        cluster.run(1_000);
        assert!(matches!(cluster.answer(name), Some(Ok(Answer::Readable(_)))), "{protocol}");
        let leader = cluster.leader();
        cluster.down.extend([leader, MemberId(3 - leader.0)]);
        let name = cluster.ask(WITNESS, Request::ReadMembership);
        cluster.run(20_000);
        assert!(!matches!(cluster.answer(name), Some(Ok(_))), "{protocol}: nobody confirms it");
    }
}

#[test]
fn a_member_that_its_membership_does_not_name_serves_nobody() {
    for protocol in ProtocolKind::ALL {
        let mut cluster = Cluster::new(protocol);
        cluster.run(5_000);
        // As one that joins is while it reads the memberships from before it was added.
        let newcomer = MemberId(4);
        cluster.start(newcomer, LEVEL).expect("it starts");
        serves_nobody(&mut cluster, newcomer, Failure::NotMember);
    }
}
