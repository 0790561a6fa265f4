//! Effects and messages in words.

use bytes::Bytes;

use crate::effect::{Effect, Write};
use crate::entry::{Entry, HardState, Kind};
use crate::id::{Index, MemberId};
use crate::kind::ProtocolKind;
use crate::membership::{Membership, Role};
use crate::{paxos, raft, zab};

/// `1/2 a`: index, epoch, value.
pub(super) fn entry(entry: &Entry) -> String {
    let value = match entry.kind {
        Kind::NoOp => "no-op".to_owned(),
        Kind::Header => "(no value)".to_owned(),
        Kind::Command => String::from_utf8_lossy(&entry.payload).into_owned(),
        Kind::Membership => match Membership::decode(&entry.payload) {
            Ok(value) => membership(&value),
            Err(error) => error.to_string(),
        },
    };
    format!("{}/{} {value}", entry.index, entry.epoch)
}

fn entries(list: &[Entry]) -> String {
    if list.is_empty() { "nothing".to_owned() } else { join(list.iter().map(entry)) }
}

fn join(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// `members 1 2 4L, leaving 1 3`: learners have an L, witnesses a W.
pub(super) fn membership(membership: &Membership) -> String {
    let names = |members: &std::collections::BTreeMap<MemberId, crate::membership::Member>| {
        let name = |member: &crate::membership::Member| {
            let role = match member.role {
                Role::Voter => "",
                Role::Learner => "L",
                Role::Witness => "W",
            };
            format!(" {}{role}", member.id)
        };
        members.values().map(name).collect::<String>()
    };
    let leaving = if membership.is_joint() {
        format!(" leaving{}", names(&membership.outgoing))
    } else {
        String::new()
    };
    format!("members{}{leaving}", names(&membership.members))
}

fn write(write: &Write) -> String {
    let mut parts = Vec::new();
    if let Some(keep) = write.keep {
        parts.push(format!("cut behind {keep}"));
    }
    if !write.entries.is_empty() {
        parts.push(entries(&write.entries));
    }
    if let Some(HardState { epoch, vote, established, commit: _ }) = write.hard_state {
        let vote = vote.map_or(String::new(), |vote| format!(" for {vote}"));
        let established =
            if established.0 > 0 { format!(" established {established}") } else { String::new() };
        parts.push(format!("[epoch {epoch}{vote}{established}]"));
    }
    format!("write {}: {}", write.id, parts.join(" "))
}

/// One effect of a member.
pub(super) fn effect(kind: ProtocolKind, id: MemberId, effect: &Effect) -> String {
    let words = match effect {
        Effect::Write(it) => write(it),
        Effect::Send { to, payload, after } => {
            let after = after.map_or(String::new(), |write| format!(" (when {write} is durable)"));
            return format!("{id} -> {to} {}{after}", message(kind, payload.clone()));
        }
        Effect::Commit(index) => format!("commits up to {index}"),
        Effect::Accepted { id, index, epoch } => format!("takes proposal {} at {index}/{epoch}", id.0),
        Effect::Refuse { id, refusal } => format!("refuses proposal {}: {refusal}", id.0),
        Effect::ReadReady { id, index } => format!("may serve read {id} at {index}"),
        Effect::ReadRefused { id, refusal } => format!("refuses read {id}: {refusal}"),
        Effect::SendSnapshot { to } => format!("sends a snapshot to {to}"),
        Effect::Leadership { epoch, leader, established } => {
            let leader = leader.map_or("nobody".to_owned(), |leader| leader.to_string());
            let serving = if *established { ", serving" } else { "" };
            format!("sees {leader} lead in epoch {epoch}{serving}")
        }
        Effect::Removed => "knows that it was removed".to_owned(),
    };
    format!("{id} {words}")
}

/// `Name epoch: what it says`.
pub(super) fn message(kind: ProtocolKind, payload: Bytes) -> String {
    let decoded = match kind {
        ProtocolKind::Raft => raft::Message::decode(payload).map(|it| (it.term, raft(it.body))).ok(),
        ProtocolKind::MultiPaxos => {
            paxos::Message::decode(payload).map(|it| (it.ballot, paxos(it.body))).ok()
        }
        ProtocolKind::Zab => zab::Message::decode(payload).map(|it| (it.epoch, zab(it.body))).ok(),
    };
    let (epoch, (name, says)) = decoded.expect("members speak their protocol");
    if says.is_empty() { format!("{name} {epoch}") } else { format!("{name} {epoch}: {says}") }
}

fn yes(granted: bool) -> String {
    if granted { "yes".to_owned() } else { "no".to_owned() }
}

fn read_answer(index: Option<Index>) -> String {
    index.map_or("refused".to_owned(), |index| format!("at {index}"))
}

fn raft(body: raft::Body) -> (&'static str, String) {
    use raft::Body;
    match body {
        Body::Vote { pre, forced, last_index, last_term } => {
            let forced = if forced { ", the leader wants it" } else { "" };
            let name = if pre { "PreVote" } else { "Vote" };
            (name, format!("log ends at {last_index}/{last_term}{forced}"))
        }
        Body::VoteReply { pre: true, granted } => ("PreVoteReply", yes(granted)),
        Body::VoteReply { pre: false, granted } => ("VoteReply", yes(granted)),
        Body::Append { previous, previous_term, entries: list, commit } => {
            ("Append", format!("after {previous}/{previous_term} {}; commit {commit}", entries(&list)))
        }
        Body::Appended { matched } => ("Appended", format!("up to {matched}")),
        Body::Rejected { previous, hint, hint_term } => {
            ("Rejected", format!("{previous} does not match, perhaps {hint}/{hint_term}"))
        }
        Body::Heartbeat { commit, round } => ("Heartbeat", format!("commit {commit}, round {round}")),
        Body::HeartbeatReply { round } => ("HeartbeatReply", format!("round {round}")),
        Body::Read(id) => ("Read", id.to_string()),
        Body::ReadReply { id, index } => ("ReadReply", format!("{id} {}", read_answer(index))),
        Body::TimeoutNow => ("TimeoutNow", String::new()),
        Body::Removed => ("Removed", String::new()),
    }
}

fn paxos(body: paxos::Body) -> (&'static str, String) {
    use paxos::Body;
    match body {
        Body::Canvass => ("Canvass", String::new()),
        Body::CanvassReply { granted } => ("CanvassReply", yes(granted)),
        Body::Prepare { from, .. } => ("Prepare", format!("from slot {from}")),
        Body::Promise { from, entries: list, next, last } => {
            let more = if next <= last { format!(", more from {next}") } else { String::new() };
            ("Promise", format!("from slot {from} accepted {}{more}", entries(&list)))
        }
        Body::Refused => ("Refused", String::new()),
        Body::Behind => ("Behind", String::new()),
        Body::Accept { entries: list, commit, stop: _ } => {
            ("Accept", format!("{}; chosen {commit}", entries(&list)))
        }
        Body::Accepted { prefix, first, last } => {
            ("Accepted", format!("{first} to {last}, without gaps up to {prefix}"))
        }
        Body::Beat { commit, round, .. } => ("Beat", format!("chosen {commit}, round {round}")),
        Body::BeatReply { prefix, round } => {
            ("BeatReply", format!("without gaps up to {prefix}, round {round}"))
        }
        Body::Read(id) => ("Read", id.to_string()),
        Body::ReadReply { id, index } => ("ReadReply", format!("{id} {}", read_answer(index))),
        Body::TakeOver => ("TakeOver", String::new()),
        Body::Removed => ("Removed", String::new()),
    }
}

fn zxid(zxid: zab::Zxid) -> String {
    format!("{}/{}", zxid.index, zxid.epoch)
}

fn zab(body: zab::Body) -> (&'static str, String) {
    use zab::{Body, State};
    match body {
        Body::Notification(told) => {
            let state = match told.state {
                State::Looking => "looking",
                State::Following => "following",
                State::Leading => "leading",
            };
            let vote = told.vote.map_or(String::new(), |vote| {
                format!(
                    ", for {} (current {}, history ends at {})",
                    vote.leader,
                    vote.current,
                    zxid(vote.last)
                )
            });
            ("Notification", format!("round {}, {state}{vote}", told.round))
        }
        Body::FollowerInfo => ("FollowerInfo", String::new()),
        Body::LeaderInfo => ("LeaderInfo", String::new()),
        Body::AckEpoch { current, last, counts } => {
            let counts = if counts { "" } else { ", does not count" };
            ("AckEpoch", format!("current {current}, history ends at {}{counts}", zxid(last)))
        }
        Body::Truncate { to } => ("Truncate", format!("to {}", zxid(to))),
        Body::History { last } => ("History", format!("ends at {}", zxid(last))),
        Body::Propose { previous, entries: list, commit } => {
            ("Propose", format!("after {} {}; commit {commit}", zxid(previous), entries(&list)))
        }
        Body::NewLeader { last } => ("NewLeader", format!("history up to {}", zxid(last))),
        Body::AckNewLeader { matched } => ("AckNewLeader", format!("up to {matched}")),
        Body::UpToDate { commit } => ("UpToDate", format!("commit {commit}")),
        Body::Ack { matched, current } => {
            ("Ack", format!("up to {matched}{}", if current { "" } else { ", epoch not current" }))
        }
        Body::Ping { commit, round } => ("Ping", format!("commit {commit}, round {round}")),
        Body::Pong { round, matched } => ("Pong", format!("round {round}, up to {matched}")),
        Body::Read(id) => ("Read", id.to_string()),
        Body::ReadReply { id, index } => ("ReadReply", format!("{id} {}", read_answer(index))),
        Body::Abdicate { successor } => ("Abdicate", format!("for {successor}")),
        Body::Removed => ("Removed", String::new()),
    }
}
