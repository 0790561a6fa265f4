//! A start over an entry that can't be read is refused, for every protocol.

use std::sync::Arc;

use quorate_consensus::config::Config;
use quorate_consensus::id::{MemberId, Time};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::membership::{Member, Membership, Role};
use quorate_replica::error::BootError;
use quorate_replica::event::{Event, GroupId, Request, RequestId};
use quorate_replica::host::{Host, HostConfig, Retention};
use quorate_replica::output::Output;
use quorate_state::command::{Command, CommandKind};
use quorate_state::request::Put;
use quorate_storage::backend::memory::MemoryBackend;
use quorate_storage::disk::sim::SimDisk;
use quorate_storage::wal;

const ID: MemberId = MemberId(1);

fn config(protocol: ProtocolKind) -> HostConfig {
    let member = Member {
        id: ID,
        name: "m1".into(),
        peer_urls: vec!["test://1".into()],
        client_urls: Vec::new(),
        role: Role::Voter,
        zone: String::new(),
        leader_priority: 0,
    };
    HostConfig {
        cluster_id: 1,
        protocol,
        consensus: Config::new(ID, 1),
        wal: wal::Config { segment_bytes_max: 4096, segment_headers_max: 64, cache_bytes_max: 1024 },
        retention: Retention { release_after: 40, catch_up_entries: 20 },
        initial: Membership { members: [(ID, member)].into_iter().collect(), ..Membership::default() },
    }
}

/// Ticks from `from_ms` on for ten seconds, with sound syncs.
fn run(host: &mut Host, from_ms: u64) {
    for ms in (from_ms..from_ms + 10_000).step_by(10) {
        let now = Time(0).after_ms(ms);
        host.step(now, GroupId::DEFAULT, Event::Tick).expect("it goes on");
        for output in host.flush(now).expect("it goes on") {
            if let Output::Sync(job) = output {
                let number = job.run().expect("the disk works");
                host.synced(now, number).expect("it goes on");
            }
        }
    }
}

/// A put whose entry spans several sectors, no two of them alike.
fn put() -> Event {
    let value: Vec<u8> = (0..2000u32).flat_map(u32::to_be_bytes).take(3000).collect();
    let put = Put { key: "key".into(), value: value.into(), ..Put::default() };
    let request = Request::Command(Command::new(CommandKind::Put(put)));
    Event::Request { id: RequestId(1), request, deadline: Time(0).after_ms(60_000) }
}

#[test]
fn an_entry_that_recovery_itself_damaged_is_refused() {
    for protocol in ProtocolKind::ALL {
        let (disk, backend) = (SimDisk::default(), MemoryBackend::default());
        let open =
            || Host::open(config(protocol), Arc::new(disk.clone()), Arc::new(backend.clone()), Time(0));
        let mut host = open().expect("a new member starts");
        run(&mut host, 10);
        host.step(Time(0).after_ms(10_010), GroupId::DEFAULT, put()).expect("it goes on");
        run(&mut host, 10_020);
        disk.kill();
        // The last batch is not marked as durable: it is written again after it was checked, and lands on itself.
        disk.misdirect_next_write(1);
        let refused = open();
        assert!(matches!(refused, Err(BootError::Faulty(_))), "{protocol}: {:?}", refused.map(drop));
    }
}
