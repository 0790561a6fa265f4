//! Who this member is: from its data directory, from `--initial-cluster`, or from the cluster that it joins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use quorate_api::peer::{self, MembersRequest};
use quorate_consensus::id::MemberId;
use quorate_consensus::membership::{Member, Membership, Role};
use quorate_storage::disk::Disk;
use quorate_storage::wal::{self, Wal, WalError};

use crate::config::Config;
use crate::tls::Tls;
use crate::transport::dial::dial;

/// How long a joining member looks for the cluster.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two rounds over the peers.
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// A member's identity and what its group starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: MemberId,
    /// The membership at the first start; empty at later ones.
    pub initial: Membership,
}

/// The member can't find out who it is.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The log's identity can't be read.
    #[error("the log can't be opened")]
    Wal(#[from] WalError),
    /// The name is not among the members.
    #[error("--name={name} is not in --initial-cluster={names}")]
    Unnamed {
        /// The name.
        name: String,
        /// Who is.
        names: String,
    },
    /// The URLs differ.
    #[error(
        "--initial-cluster says that {name} is at {listed}, but --initial-advertise-peer-urls says {advertised}"
    )]
    Urls {
        /// The name.
        name: String,
        /// There.
        listed: String,
        /// Here.
        advertised: String,
    },
    /// No peer answered.
    #[error("no member of the cluster answered: {0}")]
    NoPeer(String),
    /// The cluster knows no member with these URLs.
    #[error("the cluster has no member with peer URLs {0}: add it first (etcdctl member add --learner)")]
    Unknown(String),
    /// The member of these URLs has started before; it must not come back without its data.
    #[error(
        "data directory is empty but member {id:x} ({name}) has been a part of the cluster: its promises are lost with \
         its data; remove it, add a new member and start that"
    )]
    Lost {
        /// Its id.
        id: u64,
        /// Its name.
        name: String,
    },
    /// A removed id, or another protocol.
    #[error("{0}")]
    Refused(String),
}

/// A 64-bit name for these parts; never 0. The first bytes of SHA-256, equal on every member.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(0).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    digest.as_ref().first_chunk().map_or(1, |bytes| u64::from_be_bytes(*bytes).max(1))
}

/// A founding member's id.
#[must_use]
pub fn member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut urls: Vec<&[u8]> = peer_urls.iter().map(String::as_bytes).collect();
    urls.sort_unstable();
    urls.push(token.as_bytes());
    MemberId(hash(urls))
}

/// A later member's id: drawn, since ids are never used twice.
#[must_use]
pub fn new_member_id() -> MemberId {
    let mut bytes = [0; 8];
    // The system's randomness does not fail on Linux; the clock serves where it does.
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).is_err() {
        return MemberId(crate::driver::unix_nanoseconds());
    }
    MemberId(u64::from_be_bytes(bytes).max(1))
}

/// Finds out who this member is.
///
/// # Errors
/// Why it can't.
pub async fn identify(
    config: &Config,
    disk: Arc<dyn Disk>,
    tls: Option<Arc<Tls>>,
) -> Result<Identity, BootstrapError> {
    if Wal::exists(&*disk)? {
        let wal::Identity { cluster_id, member_id, .. } = Wal::open(disk, wal::Config::default())?.identity();
        return Ok(Identity { cluster_id, member_id: MemberId(member_id), initial: Membership::default() });
    }
    if config.join {
        return join(config, tls).await;
    }
    let founded = found(config)?;
    match running_cluster(config, tls).await {
        Some(reply) => found_late(config, reply, founded),
        None => Ok(founded),
    }
}

/// What another member says of a cluster that runs already. Members that don't answer are passed over: when a cluster is
/// founded, nobody does.
async fn running_cluster(config: &Config, tls: Option<Arc<Tls>>) -> Option<peer::MembersReply> {
    let others =
        config.initial_cluster.values().flatten().filter(|url| !config.advertise_peer_urls.contains(url));
    let mut asked: JoinSet<_> = others
        .map(|url| {
            let (url, tls) = (url.clone(), tls.clone());
            async move { ask(&url, tls).await }
        })
        .collect();
    while let Some(answer) = asked.join_next().await {
        if let Ok(Ok(reply)) = answer
            && (reply.leader_id != 0 || reply.members.iter().any(|member| !member.client_urls.is_empty()))
        {
            return Some(reply);
        }
    }
    None
}

/// A member without data that is told to found a cluster which runs already: it may be a founder that comes late, one
/// that was added, or one that lost its data and must not vote again.
fn found_late(
    config: &Config,
    reply: peer::MembersReply,
    founded: Identity,
) -> Result<Identity, BootstrapError> {
    let same =
        |member: &&peer::Member| member.peer_urls.iter().any(|url| config.advertise_peer_urls.contains(url));
    let mut mine = reply.members.iter().filter(same);
    let waits = mine.clone().all(|member| member.client_urls.is_empty() && !member.name.is_empty());
    if mine.next().is_some() && waits {
        return Ok(founded);
    }
    own_place(config, reply)
}

fn found(config: &Config) -> Result<Identity, BootstrapError> {
    let Some(own) = config.initial_cluster.get(&config.name) else {
        let names = config.initial_cluster.keys().cloned().collect::<Vec<_>>().join(",");
        return Err(BootstrapError::Unnamed { name: config.name.clone(), names });
    };
    if own.iter().collect::<BTreeSet<_>>() != config.advertise_peer_urls.iter().collect() {
        return Err(BootstrapError::Urls {
            name: config.name.clone(),
            listed: own.join(","),
            advertised: config.advertise_peer_urls.join(","),
        });
    }
    let members: BTreeMap<MemberId, Member> = config
        .initial_cluster
        .iter()
        .map(|(name, peer_urls)| {
            let id = member_id(peer_urls, &config.token);
            let witness = config.initial_witnesses.contains(name);
            let member = Member {
                id,
                name: name.clone(),
                peer_urls: peer_urls.clone(),
                client_urls: Vec::new(),
                role: if witness { Role::Witness } else { Role::Voter },
                zone: String::new(),
                leader_priority: 0,
            };
            (id, member)
        })
        .collect();
    let mut ids: Vec<[u8; 8]> = members.keys().map(|id| id.0.to_be_bytes()).collect();
    // Founders that were told different roles are different clusters, which refuse each other.
    let witnesses = members.values().filter(|member| member.role == Role::Witness);
    ids.extend(witnesses.map(|member| member.id.0.to_be_bytes()));
    Ok(Identity {
        cluster_id: hash(ids.iter().map(<[u8; 8]>::as_slice)),
        member_id: member_id(own, &config.token),
        initial: Membership { members, ..Membership::default() },
    })
}

async fn join(config: &Config, tls: Option<Arc<Tls>>) -> Result<Identity, BootstrapError> {
    let others: Vec<&String> = config
        .initial_cluster
        .values()
        .flatten()
        .filter(|url| !config.advertise_peer_urls.contains(url))
        .collect();
    let began = Instant::now();
    let mut problem = BootstrapError::NoPeer("--initial-cluster names no other member".into());
    while began.elapsed() < JOIN_TIMEOUT && !others.is_empty() {
        for url in &others {
            match ask(url, tls.clone()).await {
                // A member that lags may not know this one yet: ask on.
                Ok(reply) => match own_place(config, reply) {
                    Err(error @ BootstrapError::Unknown(_)) => problem = error,
                    decided => return decided,
                },
                Err(why) => problem = BootstrapError::NoPeer(why),
            }
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
    Err(problem)
}

async fn ask(url: &str, tls: Option<Arc<Tls>>) -> Result<peer::MembersReply, String> {
    let mut client = dial(url, tls).await?;
    let reply = tokio::time::timeout(Duration::from_secs(3), client.members(MembersRequest {})).await;
    let reply = reply.map_err(|_| format!("{url} did not answer in time"))?;
    Ok(reply.map_err(|status| format!("{url}: {}", status.message()))?.into_inner())
}

fn own_place(config: &Config, reply: peer::MembersReply) -> Result<Identity, BootstrapError> {
    if reply.protocol != config.protocol.to_string() {
        let text = format!("the cluster runs {}, this member was told {}", reply.protocol, config.protocol);
        return Err(BootstrapError::Refused(text));
    }
    let same = |member: &&Member| member.peer_urls.iter().any(|url| config.advertise_peer_urls.contains(url));
    let members: Vec<Member> = reply.members.into_iter().map(member).collect();
    let mine: Vec<&Member> = members.iter().filter(same).collect();
    // A newcomer may share its URLs with the lost member that it replaces: the one without a name is it.
    let Some(own) = mine.iter().find(|member| member.name.is_empty()) else {
        return Err(match mine.first() {
            Some(started) => BootstrapError::Lost { id: started.id.0, name: started.name.clone() },
            None => BootstrapError::Unknown(config.advertise_peer_urls.join(",")),
        });
    };
    let member_id = own.id;
    Ok(Identity {
        cluster_id: reply.cluster_id,
        member_id,
        initial: Membership {
            members: members.into_iter().map(|member| (member.id, member)).collect(),
            removed: reply.removed.into_iter().map(MemberId).collect(),
            ..Membership::default()
        },
    })
}

fn member(member: peer::Member) -> Member {
    let role = match member.role() {
        peer::member::Role::Voter | peer::member::Role::Unspecified => Role::Voter,
        peer::member::Role::Learner => Role::Learner,
        peer::member::Role::Witness => Role::Witness,
    };
    Member {
        id: MemberId(member.id),
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        role,
        zone: member.zone,
        leader_priority: member.leader_priority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags::Values;

    fn config(name: &str, url: &str) -> Config {
        let arguments = [
            format!("--name={name}"),
            format!("--initial-advertise-peer-urls={url}"),
            "--initial-cluster=a=http://h:1,b=http://h:2".into(),
        ];
        Config::from_values(&Values::read(arguments, |_| None).unwrap()).unwrap()
    }

    #[test]
    fn founders_agree_on_who_they_are() {
        let (a, b) = (found(&config("a", "http://h:1")).unwrap(), found(&config("b", "http://h:2")).unwrap());
        assert_eq!((a.cluster_id, &a.initial), (b.cluster_id, &b.initial));
        assert_ne!(a.member_id, b.member_id);
        assert!(matches!(found(&config("c", "http://h:1")), Err(BootstrapError::Unnamed { .. })));
        assert!(matches!(found(&config("a", "http://h:2")), Err(BootstrapError::Urls { .. })));
    }

    #[test]
    fn founders_that_disagree_on_witnesses_are_different_clusters() {
        let mut told = config("a", "http://h:1");
        let plain = found(&told).unwrap();
        told.initial_witnesses.insert("b".into());
        let founded = found(&told).unwrap();
        assert_ne!(founded.cluster_id, plain.cluster_id);
        let b = founded.initial.members.values().find(|member| member.name == "b").unwrap();
        assert_eq!(b.role, Role::Witness);
    }

    #[test]
    fn a_running_cluster_is_not_founded_again() {
        let late = |name: &str, client: &[&str]| {
            let config = config("a", "http://h:1");
            let reply = peer::MembersReply {
                protocol: "Raft".into(),
                leader_id: 9,
                members: vec![peer::Member {
                    id: 7,
                    name: name.into(),
                    peer_urls: vec!["http://h:1".into()],
                    client_urls: client.iter().map(|&url| url.to_owned()).collect(),
                    ..Default::default()
                }],
                ..Default::default()
            };
            let founded = found(&config).unwrap();
            let id = founded.member_id;
            (found_late(&config, reply, founded), id)
        };
        let (waiting, own) = late("a", &[]);
        assert_eq!(waiting.unwrap().member_id, own, "a founder that comes late");
        assert_eq!(late("", &[]).0.unwrap().member_id, MemberId(7), "one that was added");
        let lost = late("a", &["http://c:1"]).0.unwrap_err();
        assert!(matches!(lost, BootstrapError::Lost { id: 7, .. }), "one that lost its data: {lost}");
    }

    #[test]
    fn a_member_that_lost_its_data_does_not_come_back() {
        let reply = |name: &str| peer::MembersReply {
            protocol: "Raft".into(),
            members: vec![peer::Member {
                id: 7,
                name: name.into(),
                peer_urls: vec!["http://h:1".into()],
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(own_place(&config("a", "http://h:1"), reply("")).unwrap().member_id, MemberId(7));
        let lost = own_place(&config("a", "http://h:1"), reply("a")).unwrap_err();
        assert!(lost.to_string().starts_with("data directory is empty but member"));
        assert!(matches!(own_place(&config("b", "http://h:2"), reply("")), Err(BootstrapError::Unknown(_))));
    }
}
