//! What a start refuses, and what it drops.

use std::sync::Arc;

use quorate_consensus::config::Config;
use quorate_consensus::id::{Index, MemberId, Time};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::log::LogRead;
use quorate_consensus::membership::{Member, Membership, Role};
use quorate_replica::error::BootError;
use quorate_replica::event::{Event, GroupId, Request, RequestId};
use quorate_replica::host::{Host, HostConfig, Retention};
use quorate_replica::output::Output;
use quorate_state::command::{Command, CommandKind};
use quorate_state::machine::StateMachine;
use quorate_state::request::Put;
use quorate_storage::backend::memory::MemoryBackend;
use quorate_storage::backend::{Backend, Batch};
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
        retention: Retention { release_after: 40, catch_up_entries: 20, witness_headers: 100 },
        feature_level: quorate_state::machine::LEVEL,
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
fn put(number: u64) -> Event {
    let value: Vec<u8> = (0..2000u32).flat_map(u32::to_be_bytes).take(3000).collect();
    let put = Put { key: "key".into(), value: value.into(), ..Put::default() };
    let request = Request::Command(Command::new(CommandKind::Put(put)));
    Event::Request { id: RequestId(number), request, deadline: Time(0).after_ms(600_000) }
}

#[test]
fn an_entry_that_recovery_itself_damaged_is_refused() {
    for protocol in ProtocolKind::ALL {
        let (disk, backend) = (SimDisk::default(), MemoryBackend::default());
        let open =
            || Host::open(config(protocol), Arc::new(disk.clone()), Arc::new(backend.clone()), Time(0));
        let mut host = open().expect("a new member starts");
        run(&mut host, 10);
        host.step(Time(0).after_ms(10_010), GroupId::DEFAULT, put(1)).expect("it goes on");
        run(&mut host, 10_020);
        disk.kill();
        // The last batch is not marked as durable: it is written again after it was checked, and lands on itself.
        disk.misdirect_next_write(1);
        let refused = open();
        assert!(matches!(refused, Err(BootError::Faulty(_))), "{protocol}: {:?}", refused.map(drop));
    }
}

/// A member alone that has applied five puts, durably.
fn with_five_puts(protocol: ProtocolKind) -> (SimDisk, MemoryBackend, Index) {
    let (disk, backend) = (SimDisk::default(), MemoryBackend::default());
    let host = Host::open(config(protocol), Arc::new(disk.clone()), Arc::new(backend.clone()), Time(0));
    let mut host = host.expect("a new member starts");
    run(&mut host, 10);
    for number in 1..=5 {
        host.step(Time(0).after_ms(10_000 * number + 10), GroupId::DEFAULT, put(number)).expect("it goes on");
        run(&mut host, 10_000 * number + 20);
    }
    let (applied, _) = host.replica(GroupId::DEFAULT).expect("its group").state().applied();
    backend.persist().expect("memory works");
    (disk, backend, Index(applied))
}

/// Power may fail when a snapshot's state is on the disk, and the log from before still is.
#[test]
fn a_log_from_before_an_installed_state_is_not_taken_for_what_was_decided() {
    let protocol = ProtocolKind::MultiPaxos;
    let (disk, own, applied) = with_five_puts(protocol);
    let open = |backend: &MemoryBackend| {
        Host::open(config(protocol), Arc::new(disk.clone()), Arc::new(backend.clone()), Time(0))
            .expect("the member starts")
    };
    let start_of_log = |host: &Host| host.log(GroupId::DEFAULT).snapshot_index();
    assert!(start_of_log(&open(&own)) < applied, "its own state's log stays");
    let (_, others, _) = with_five_puts(protocol);
    let changes = vec![StateMachine::installed_mark(applied.0)];
    others.commit(Batch { changes }).expect("memory works");
    others.persist().expect("memory works");
    assert_eq!(
        start_of_log(&open(&others)),
        applied,
        "every slot has a value, but perhaps not the one that was chosen"
    );
}
