//! Stories that only Raft can tell.

use super::{Body, Message, Raft};
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

/// A log of commands with these terms.
fn log(terms: &[u64]) -> MemoryLog {
    let entries = (1..).zip(terms).map(|(index, &term)| Entry {
        index: Index(index),
        epoch: Epoch(term),
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
fn a_follower_whose_log_differs_at_the_leaders_snapshot_gets_the_snapshot() {
    let mut log = log(&[1, 1, 5, 5]);
    log.compact(Index(3));
    let mark = SnapshotMark { index: Index(3), epoch: Epoch(5), membership: voters(3) };
    let hard_state = HardState { epoch: Epoch(5), commit: Index(3), ..HardState::default() };
    let mut raft =
        Raft::new(Config::new(MemberId(1), 1), hard_state, mark, &log, Time(0)).expect("the log is sound");
    let mut now = Time(0);
    let mut step = |input: Option<(u64, Body)>| {
        now = now.after_ms(5_000);
        let input = input.map_or(Input::Tick, |(term, body)| Input::Message {
            from: MemberId(2),
            payload: Message { term: Epoch(term), body }.encode(),
        });
        let mut effects = Vec::new();
        raft.step(now, input, &log, &mut effects);
        let writes: Vec<_> = effects
            .iter()
            .filter_map(|it| if let Effect::Write(write) = it { Some(write) } else { None })
            .collect();
        writes.into_iter().for_each(|write| log.apply(write));
        let write = raft.outbox.newest_write();
        raft.step(now, Input::Persisted(write), &log, &mut effects);
        effects
    };
    step(None);
    step(Some((6, Body::VoteReply { pre: true, granted: true })));
    step(Some((6, Body::VoteReply { pre: false, granted: true })));
    // Its entries 2 and 3 are of a leader of term 4 that decided nothing.
    let hint = Body::Rejected { previous: Index(4), hint: Index(3), hint_term: Epoch(4) };
    let effects = step(Some((6, hint)));
    let snapshot = effects.iter().any(|it| matches!(it, Effect::SendSnapshot { to } if *to == MemberId(2)));
    assert!(snapshot, "no entry of this log can follow its entry 3: {effects:?}");
}
