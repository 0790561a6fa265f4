//! Stories that only Zab can tell.

use super::{Body, Message, Notification, State, Vote, Zab, Zxid};
use crate::config::Config;
use crate::conformance::log::MemoryLog;
use crate::conformance::world::member;
use crate::effect::{Effect, Write};
use crate::entry::{Entry, HardState, Kind, SnapshotMark};
use crate::id::{Epoch, Index, MemberId, Time, WriteId};
use crate::input::Input;
use crate::log::Layout;
use crate::membership::Membership;
use crate::protocol::Protocol;

/// A log of commands of these epochs.
fn log(epochs: &[u64]) -> MemoryLog {
    let entries = (1..).zip(epochs).map(|(index, &epoch)| Entry {
        index: Index(index),
        epoch: Epoch(epoch),
        kind: Kind::Command,
        payload: bytes::Bytes::new(),
    });
    let mut log = MemoryLog::new(Layout::Tail);
    log.apply(&Write { id: WriteId(1), keep: None, entries: entries.collect(), hard_state: None });
    log
}

fn voters(count: u64) -> Membership {
    Membership {
        members: (1..=count).map(|id| (MemberId(id), member(id))).collect(),
        ..Membership::default()
    }
}

#[test]
fn a_follower_whose_history_differs_at_the_leaders_snapshot_gets_the_snapshot() {
    let mut log = log(&[1, 1, 2, 2]);
    log.compact(Index(3));
    let mark = SnapshotMark { index: Index(3), epoch: Epoch(2), membership: voters(3) };
    let hard_state =
        HardState { epoch: Epoch(2), established: Epoch(2), commit: Index(3), ..HardState::default() };
    let mut zab =
        Zab::new(Config::new(MemberId(1), 1), hard_state, mark, &log, Time(0)).expect("the log is sound");
    let mut effects = Vec::new();
    zab.step(Time(0), Input::Tick, &log, &mut effects);
    let last = Zxid { epoch: Epoch(2), index: Index(4) };
    let vote = Some(Vote { current: Epoch(2), last, priority: 0, leader: MemberId(1) });
    let agrees = Body::Notification(Notification { round: 1, state: State::Looking, vote });
    let theirs = Zxid { epoch: Epoch(1), index: Index(3) };
    let follows = Body::AckEpoch { current: Epoch(1), last: theirs, counts: true };
    let said = [(2, 2, agrees.clone()), (3, 2, agrees), (2, 1, Body::FollowerInfo), (2, 3, follows)];
    for (from, epoch, body) in said {
        let payload = Message { epoch: Epoch(epoch), body }.encode();
        zab.step(Time(1), Input::Message { from: MemberId(from), payload }, &log, &mut effects);
        zab.step(Time(1), Input::Persisted(zab.outbox.newest_write()), &log, &mut effects);
    }
    let snapshot = effects.iter().any(|it| matches!(it, Effect::SendSnapshot { to } if *to == MemberId(2)));
    assert!(snapshot, "no entry of this history can follow its entry 3: {effects:?}");
}

/// A member that is a voter by a change it has not heard of looks for a leader without a vote of its own. Its round is the higher
/// one after some elections; unless it were taken, it would answer no vote of the others for ever.
#[test]
fn the_round_of_one_without_a_vote_is_taken() {
    let log = log(&[1]);
    let hard_state = HardState { epoch: Epoch(1), established: Epoch(1), ..HardState::default() };
    let mark = SnapshotMark { index: Index(0), epoch: Epoch(0), membership: voters(3) };
    let mut zab =
        Zab::new(Config::new(MemberId(1), 1), hard_state, mark, &log, Time(0)).expect("the log is sound");
    let mut effects = Vec::new();
    zab.step(Time(0), Input::Tick, &log, &mut effects);
    effects.clear();
    let told = Body::Notification(Notification { round: 7, state: State::Looking, vote: None });
    let payload = Message { epoch: Epoch(1), body: told }.encode();
    zab.step(Time(1), Input::Message { from: MemberId(2), payload }, &log, &mut effects);
    let answered = effects.iter().any(|effect| match effect {
        Effect::Send { to, payload, .. } if *to == MemberId(2) => {
            let message = Message::decode(payload.clone()).expect("it was encoded");
            matches!(message.body, Body::Notification(Notification { round: 7, vote: Some(_), .. }))
        }
        _ => false,
    });
    assert!(answered, "{effects:?}");
}
