//! Large values: what a member sends at once stays small beside a heartbeat's time, and every client is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_consensus::config::Config;
use quorate_consensus::id::{MemberId, Time};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::membership::{Member, Membership, Role};
use quorate_replica::event::{Event, GroupId, Request, RequestId};
use quorate_replica::host::{Host, HostConfig, Retention};
use quorate_replica::output::Output;
use quorate_state::command::{Command, CommandKind};
use quorate_state::request::Put;
use quorate_storage::backend::memory::MemoryBackend;
use quorate_storage::disk::sim::SimDisk;
use quorate_storage::wal;

const GROUP: GroupId = GroupId::DEFAULT;
const VALUE_BYTES: usize = 1 << 20;
const REQUESTS: u64 = 30;
/// What a member may send to another at once.
const SENT_BYTES_MAX: usize = 6 << 20;

/// Members on perfect links and disks.
struct Cluster {
    now: Time,
    hosts: BTreeMap<MemberId, Host>,
    answered: u64,
    /// The most that one flush sent to one member.
    sent_bytes_max: usize,
}

impl Cluster {
    fn new(protocol: ProtocolKind) -> Self {
        let members = [1, 2, 3].map(|id| {
            let member = Member {
                id: MemberId(id),
                name: format!("m{id}"),
                peer_urls: vec![format!("test://{id}")],
                client_urls: Vec::new(),
                role: Role::Voter,
                zone: String::new(),
                leader_priority: 0,
            };
            (MemberId(id), member)
        });
        let initial = Membership { members: members.into_iter().collect(), ..Membership::default() };
        let open = |id: MemberId| {
            let config = HostConfig {
                cluster_id: 1,
                protocol,
                consensus: Config::new(id, id.0),
                wal: wal::Config::default(),
                retention: Retention::default(),
                feature_level: quorate_state::machine::LEVEL,
                initial: initial.clone(),
            };
            let backend = Arc::new(MemoryBackend::default());
            let host = Host::open(config, Arc::new(SimDisk::default()), backend, Time(0));
            (id, host.expect("a new member starts"))
        };
        let hosts = initial.members.keys().map(|&id| open(id)).collect();
        Self { now: Time(0), hosts, answered: 0, sent_bytes_max: 0 }
    }

    fn step(&mut self, id: MemberId, event: Event) {
        self.hosts.get_mut(&id).expect("a host").step(self.now, GROUP, event).expect("it goes on");
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now = self.now.after_ms(10);
            let ids: Vec<MemberId> = self.hosts.keys().copied().collect();
            ids.iter().for_each(|&id| self.step(id, Event::Tick));
            for &id in ids.iter().cycle().take(4 * ids.len()) {
                let outputs = self.hosts.get_mut(&id).expect("a host").flush(self.now).expect("it goes on");
                self.perform(id, outputs);
            }
        }
    }

    fn perform(&mut self, id: MemberId, outputs: Vec<Output>) {
        let mut sent: BTreeMap<MemberId, usize> = BTreeMap::new();
        for output in outputs {
            match output {
                Output::Send { to, payload, .. } => {
                    *sent.entry(to).or_default() += payload.len();
                    self.step(to, Event::Peer { from: id, payload });
                }
                Output::Sync(job) => {
                    let number = job.run().expect("the disk works");
                    let host = self.hosts.get_mut(&id).expect("a host");
                    host.synced(self.now, number).expect("it goes on");
                }
                Output::Reply { result, .. } => {
                    result.expect("an answer");
                    self.answered += 1;
                }
                Output::SendSnapshot { .. }
                | Output::Persist { .. }
                | Output::Published { .. }
                | Output::Leadership { .. }
                | Output::Membership { .. }
                | Output::Removed { .. } => {}
            }
        }
        self.sent_bytes_max = sent.into_values().fold(self.sent_bytes_max, usize::max);
    }
}

#[test]
fn large_values_of_many_clients_travel_a_few_at_a_time() {
    for protocol in ProtocolKind::ALL {
        let mut cluster = Cluster::new(protocol);
        cluster.run(5_000);
        let members: Vec<MemberId> = cluster.hosts.keys().copied().collect();
        for number in 1..=REQUESTS {
            for &id in &members {
                let value = Bytes::from(vec![7; VALUE_BYTES]);
                let put = Put { key: format!("key {number}").into(), value, ..Put::default() };
                let request = Request::Command(Command::new(CommandKind::Put(put)));
                let deadline = cluster.now.after_ms(5_000);
                cluster.step(id, Event::Request { id: RequestId(number), request, deadline });
            }
        }
        cluster.run(4_000);
        assert_eq!(cluster.answered, REQUESTS * members.len() as u64, "{protocol}");
        assert!(cluster.sent_bytes_max <= SENT_BYTES_MAX, "{protocol}: {}", cluster.sent_bytes_max);
    }
}
