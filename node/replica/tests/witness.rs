//! A witness as a whole replica, for every protocol: it takes part, and its disk and state hold no data.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_consensus::config::Config;
use quorate_consensus::entry::Kind;
use quorate_consensus::id::{Index, MemberId, Time};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::membership::{Member, Membership, Role};
use quorate_replica::event::{Event, GroupId, Request, RequestId};
use quorate_replica::host::{Host, HostConfig, Retention};
use quorate_replica::output::{Answer, Failure, Output};
use quorate_state::command::{Command, CommandKind};
use quorate_state::request::{Put, Range};
use quorate_storage::backend::Backend;
use quorate_storage::backend::memory::MemoryBackend;
use quorate_storage::disk::sim::SimDisk;
use quorate_storage::wal;

const GROUP: GroupId = GroupId::DEFAULT;
const WITNESS: MemberId = MemberId(3);
/// Longer than any test.
const LATE: Time = Time(1_000_000);

type Replies = Vec<(MemberId, RequestId, Result<Answer, Failure>)>;

/// Hosts on perfect links and disks; those in `down` do and get nothing.
struct Cluster {
    now: Time,
    hosts: BTreeMap<MemberId, Host>,
    backends: BTreeMap<MemberId, MemoryBackend>,
    down: Vec<MemberId>,
    replies: Replies,
    requests: u64,
    snapshots: u64,
}

fn member(id: u64, role: Role) -> Member {
    Member {
        id: MemberId(id),
        name: format!("m{id}"),
        peer_urls: vec![format!("test://{id}")],
        client_urls: Vec::new(),
        role,
        zone: String::new(),
        leader_priority: 0,
    }
}

impl Cluster {
    fn new(protocol: ProtocolKind) -> Self {
        let roles = [(1, Role::Voter), (2, Role::Voter), (WITNESS.0, Role::Witness)];
        let members = roles.map(|(id, role)| (MemberId(id), member(id, role)));
        let initial = Membership { members: members.into_iter().collect(), ..Membership::default() };
        let mut cluster = Self {
            now: Time(0),
            hosts: BTreeMap::new(),
            backends: BTreeMap::new(),
            down: Vec::new(),
            replies: Vec::new(),
            requests: 0,
            snapshots: 0,
        };
        for &id in initial.members.keys() {
            let config = HostConfig {
                cluster_id: 1,
                protocol,
                consensus: Config::new(id, id.0),
                wal: wal::Config { segment_bytes_max: 4096, segment_headers_max: 64, cache_bytes_max: 1024 },
                retention: Retention { release_after: 40, catch_up_entries: 20, witness_headers: 100 },
                initial: initial.clone(),
            };
            let backend = MemoryBackend::default();
            let host = Host::open(config, Arc::new(SimDisk::default()), Arc::new(backend.clone()), Time(0));
            cluster.hosts.insert(id, host.expect("a new member starts"));
            cluster.backends.insert(id, backend);
        }
        cluster
    }

    fn step(&mut self, id: MemberId, event: Event) {
        if !self.down.contains(&id) {
            self.hosts.get_mut(&id).expect("a host").step(self.now, GROUP, event).expect("it goes on");
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now = self.now.after_ms(10);
            let ids: Vec<MemberId> = self.hosts.keys().copied().collect();
            for &id in &ids {
                self.step(id, Event::Tick);
            }
            // A few rounds: what arrives is answered within the same step of time.
            for &id in ids.iter().cycle().take(4 * ids.len()) {
                let outputs = self.hosts.get_mut(&id).expect("a host").flush(self.now).expect("it goes on");
                outputs.into_iter().for_each(|output| self.perform(id, output));
            }
        }
    }

    fn perform(&mut self, id: MemberId, output: Output) {
        match output {
            Output::Send { to, payload, .. } if !self.down.contains(&id) => {
                self.step(to, Event::Peer { from: id, payload });
            }
            Output::Sync(job) => {
                let number = job.run().expect("the disk works");
                self.hosts.get_mut(&id).expect("a host").synced(self.now, number).expect("it goes on");
            }
            Output::Reply { id: request, result } => self.replies.push((id, request, result)),
            Output::SendSnapshot { to, mut snapshot, .. } => {
                let ok = !self.down.contains(&to);
                let mut chunks = Vec::new();
                while let Some(chunk) = snapshot.next_chunk().expect("memory works") {
                    chunks.push(chunk);
                }
                if ok {
                    self.snapshots += 1;
                    let mark = (snapshot.index, snapshot.epoch);
                    let host = self.hosts.get_mut(&to).expect("a host");
                    host.install(self.now, GROUP, mark, chunks).expect("it goes on");
                }
                self.step(id, Event::SnapshotSent { to, ok });
            }
            Output::Persist { group, through } => {
                self.backends[&id].persist().expect("memory works");
                self.hosts.get_mut(&id).expect("a host").persisted(group, through).expect("it goes on");
            }
            Output::Send { .. }
            | Output::Published { .. }
            | Output::Leadership { .. }
            | Output::Membership { .. }
            | Output::Removed { .. } => {}
        }
    }

    fn ask(&mut self, id: MemberId, request: Request) -> RequestId {
        self.requests += 1;
        let name = RequestId(self.requests);
        self.step(id, Event::Request { id: name, request, deadline: LATE });
        name
    }

    fn put(&mut self, id: MemberId, key: u64) -> RequestId {
        let put = Put { key: Bytes::from(format!("key {key}")), value: "data".into(), ..Put::default() };
        self.ask(id, Request::Command(Command::new(CommandKind::Put(put))))
    }

    fn leader(&self) -> MemberId {
        let leads = |id: &&MemberId| self.hosts[*id].status(GROUP).is_some_and(|status| status.established);
        *self.hosts.keys().find(leads).expect("a leader")
    }

    fn answer(&self, name: RequestId) -> Option<&Result<Answer, Failure>> {
        self.replies.iter().find(|(_, request, _)| *request == name).map(|(_, _, result)| result)
    }
}

fn keys(host: &Host) -> usize {
    let reader = host.replica(GROUP).expect("the group").state().reader();
    let everything =
        Range { key: Bytes::from_static(b"\0"), range_end: Bytes::from_static(b"\0"), ..Range::default() };
    reader.range(&everything).expect("a range").kvs.len()
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
        for request in [Request::Read, Request::KeepAlive(1)] {
            let name = cluster.ask(WITNESS, request);
            cluster.run(100);
            assert!(matches!(cluster.answer(name), Some(Err(Failure::Witness))), "{protocol}");
        }
        let name = cluster.put(WITNESS, 1);
        cluster.run(100);
        assert!(matches!(cluster.answer(name), Some(Err(Failure::Witness))), "{protocol}");
    }
}
