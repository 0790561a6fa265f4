//! Upgrades of one member after the other, for every protocol.

use quorate_consensus::id::MemberId;
use quorate_consensus::kind::ProtocolKind;
use quorate_replica::error::BootError;
use quorate_state::error::MachineError;

use crate::{Cluster, GROUP, WITNESS};

const FIRST: MemberId = MemberId(1);
const SECOND: MemberId = MemberId(2);

/// The levels of the two members with data.
fn levels(cluster: &Cluster) -> [u32; 2] {
    [FIRST, SECOND].map(|id| cluster.hosts[&id].replica(GROUP).expect("the group").state().level())
}

#[test]
fn the_level_rises_when_the_last_member_understands_it_and_then_nobody_goes_back() {
    for protocol in ProtocolKind::ALL {
        let mut cluster = Cluster::new(protocol);
        cluster.run(5_000);
        for id in [FIRST, SECOND] {
            cluster.start(id, 2).expect("a later version starts");
            cluster.run(10_000);
        }
        assert_eq!(levels(&cluster), [1, 1], "{protocol}: the witness is of the earlier version");
        cluster.start(SECOND, 1).expect("nothing was switched on: the earlier version starts again");
        cluster.start(WITNESS, 2).expect("a later version starts");
        cluster.run(10_000);
        assert_eq!(levels(&cluster), [1, 1], "{protocol}: what the second one told before is not true now");
        cluster.start(SECOND, 3).expect("a later version starts");
        cluster.run(10_000);
        assert_eq!(levels(&cluster), [2, 2], "{protocol}: the lowest of 2, 3 and 2");
        for id in [FIRST, SECOND] {
            cluster.backends[&id].crash(|unpersisted| unpersisted);
            let refused = cluster.start(id, 1);
            let level = matches!(refused, Err(BootError::Machine(MachineError::Level { group: 2, own: 1 })));
            assert!(level, "{protocol}: {refused:?}");
        }
    }
}

#[test]
fn a_member_that_is_away_keeps_the_level_down() {
    for protocol in ProtocolKind::ALL {
        let mut cluster = Cluster::new(protocol);
        for id in [FIRST, SECOND, WITNESS] {
            cluster.start(id, 2).expect("a later version starts");
        }
        cluster.down.push(WITNESS);
        cluster.run(10_000);
        assert_eq!(levels(&cluster), [1, 1], "{protocol}");
        cluster.down.clear();
        cluster.run(10_000);
        assert_eq!(levels(&cluster), [2, 2], "{protocol}");
    }
}
