//! Three members as whole replicas, on perfect links and disks: two with data and a witness.

mod levels;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_consensus::config::Config;
use quorate_consensus::id::{MemberId, Time};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::membership::{Member, Membership, Role};
use quorate_replica::error::BootError;
use quorate_replica::event::{Event, GroupId, Request, RequestId};
use quorate_replica::host::{Host, HostConfig, Retention};
use quorate_replica::output::{Answer, Failure, Output};
use quorate_state::command::{Command, CommandKind};
use quorate_state::machine::LEVEL;
use quorate_state::request::Put;
use quorate_storage::backend::Backend;
use quorate_storage::backend::memory::MemoryBackend;
use quorate_storage::disk::sim::SimDisk;
use quorate_storage::wal;

const GROUP: GroupId = GroupId::DEFAULT;
const WITNESS: MemberId = MemberId(3);
/// Longer than any test.
const LATE: Time = Time(1_000_000);

type Replies = Vec<(MemberId, RequestId, Result<Answer, Failure>)>;

/// Those in `down` do and get nothing.
struct Cluster {
    now: Time,
    hosts: BTreeMap<MemberId, Host>,
    protocol: ProtocolKind,
    initial: Membership,
    disks: BTreeMap<MemberId, SimDisk>,
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
        let ids = members.each_ref().map(|(id, _)| *id);
        let mut cluster = Self {
            now: Time(0),
            hosts: BTreeMap::new(),
            protocol,
            initial: Membership { members: members.into_iter().collect(), ..Membership::default() },
            disks: BTreeMap::new(),
            backends: BTreeMap::new(),
            down: Vec::new(),
            replies: Vec::new(),
            requests: 0,
            snapshots: 0,
        };
        for id in ids {
            cluster.start(id, LEVEL).expect("a new member starts");
        }
        cluster
    }

    /// Starts a member, for the first time or again, in a version that understands levels up to this one.
    fn start(&mut self, id: MemberId, feature_level: u32) -> Result<(), BootError> {
        let config = HostConfig {
            cluster_id: 1,
            protocol: self.protocol,
            consensus: Config::new(id, id.0),
            wal: wal::Config { segment_bytes_max: 4096, segment_headers_max: 64, cache_bytes_max: 1024 },
            retention: Retention { release_after: 40, catch_up_entries: 20, witness_headers: 100 },
            feature_level,
            initial: self.initial.clone(),
        };
        let (disk, backend) = (self.disks.entry(id).or_default(), self.backends.entry(id).or_default());
        let host = Host::open(config, Arc::new(disk.clone()), Arc::new(backend.clone()), self.now)?;
        self.hosts.insert(id, host);
        Ok(())
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
