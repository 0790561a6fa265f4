//! Stories that only Multi-Paxos can tell.

use super::{Body, Message, Paxos};
use crate::config::Config;
use crate::conformance::log::MemoryLog;
use crate::conformance::world::member;
use crate::effect::Effect;
use crate::entry::{Entry, HardState, Kind, SnapshotMark};
use crate::id::{Epoch, Index, MemberId, Time};
use crate::input::Input;
use crate::log::Layout;
use crate::membership::{Membership, Role};
use crate::protocol::Protocol;

const VOTER: MemberId = MemberId(2);

fn three_voters() -> Membership {
    Membership { members: (1..=3).map(|id| (MemberId(id), member(id))).collect(), ..Membership::default() }
}

/// Member 1, and what it does; its disk writes at once.
struct Story {
    paxos: Paxos,
    log: MemoryLog,
    effects: Vec<Effect>,
    now: Time,
}

impl Story {
    /// One of three voters, empty.
    fn new(now: Time) -> Self {
        let mark = SnapshotMark { index: Index(0), epoch: Epoch(0), membership: three_voters() };
        let log = MemoryLog::new(Layout::Slots);
        let paxos = Paxos::new(Config::new(MemberId(1), 1), HardState::default(), mark, &log, Time(0));
        Self { paxos: paxos.expect("the log is sound"), log, effects: Vec::new(), now }
    }

    fn input(&mut self, input: Input) {
        let begin = self.effects.len();
        self.paxos.step(self.now, input, &self.log, &mut self.effects);
        let writes: Vec<_> = self.effects[begin..]
            .iter()
            .filter_map(|it| if let Effect::Write(write) = it { Some(write.clone()) } else { None })
            .collect();
        for write in writes {
            self.log.apply(&write);
            self.input(Input::Persisted(write.id));
        }
    }

    /// Member 2 says something, in the ballot of what it was told last.
    fn voter_says(&mut self, body: Body) {
        let ballot = self.told().last().expect("it was told something").ballot;
        let payload = Message { ballot, body }.encode();
        self.input(Input::Message { from: VOTER, payload });
    }

    fn told(&self) -> impl Iterator<Item = Message> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Send { to: VOTER, payload, .. } => Message::decode(payload.clone()).ok(),
            _ => None,
        })
    }
}

/// A leader that finds a stop entry proposes nothing behind it until it is chosen. An acceptor that knows more to be chosen says so,
/// and counts for the slots that the leader has proposed.
#[test]
fn an_acceptor_may_know_more_to_be_chosen_than_its_leader_proposed() {
    let mut story = Story::new(Time(60_000));
    story.input(Input::Tick);
    story.voter_says(Body::CanvassReply { granted: true });
    let mut changed = three_voters();
    changed.members.get_mut(&MemberId(3)).expect("it is a voter").role = Role::Learner;
    (changed.outgoing, changed.version) = (three_voters().members, 1);
    let stop = Entry { index: Index(1), epoch: Epoch(1), kind: Kind::Membership, payload: changed.encode() };
    let behind = Entry { index: Index(2), epoch: Epoch(1), kind: Kind::NoOp, payload: bytes::Bytes::new() };
    let entries = vec![stop, behind];
    story.voter_says(Body::Promise { from: Index(1), entries, next: Index(3), last: Index(2) });
    let proposed: Vec<Index> = story
        .told()
        .filter_map(
            |message| if let Body::Accept { entries, .. } = message.body { Some(entries) } else { None },
        )
        .flatten()
        .map(|entry| entry.index)
        .collect();
    assert_eq!(proposed, [Index(1)], "{:?}", story.effects);
    story.voter_says(Body::Accepted { prefix: Index(2), first: Index(1), last: Index(1) });
    assert!(story.paxos.status().commit >= Index(1), "{:?}", story.effects);
}

/// Voters on either side of a stop may elect two in one ballot. An acceptor that promised it to the newer ones' is not won over by the
/// older ones', which would ask it for the same promise among the newer ones next.
#[test]
fn a_ballot_is_not_promised_again_across_a_stop() {
    let mut story = Story::new(Time(1));
    let mut says = |from: MemberId, body: Body| {
        let payload = Message { ballot: Epoch(1), body }.encode();
        story.input(Input::Message { from, payload });
    };
    says(MemberId(3), Body::Prepare { from: Index(1), stop: Index(9) });
    let value = Entry { index: Index(1), epoch: Epoch(1), kind: Kind::NoOp, payload: bytes::Bytes::new() };
    says(VOTER, Body::Accept { entries: vec![value], commit: Index(0), stop: Index(0) });
    says(VOTER, Body::Prepare { from: Index(1), stop: Index(9) });
    let told: Vec<Body> = story.told().map(|message| message.body).collect();
    assert_eq!(told, [Body::Refused], "{:?}", story.effects);
}
