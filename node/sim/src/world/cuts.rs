//! A small experiment: links break for good, and the time is taken until somebody serves a write again.

use quorate_consensus::id::{MemberId, Time};
use quorate_consensus::kind::ProtocolKind;
use quorate_replica::event::{Event, Request, RequestId};

use super::World;
use super::network::Trouble;
use crate::story::Story;

/// A leader is made of the first member within this time.
const READY_MS_MAX: u64 = 60_000;
/// It leads for so long before the links break.
const SETTLE_MS: u64 = 2_000;
/// Of that time, members that shall be behind hear nothing for so long.
const BEHIND_MS: u64 = 800;
/// The fault numbers of the experiment's own cuts.
const BEHIND: usize = usize::MAX - 1;
const BROKEN: usize = usize::MAX;

/// Milliseconds from the cut until a write that was asked after it is applied; `None` if that takes longer than
/// `give_up_ms`, or the first member never led.
#[must_use]
pub fn time_to_serve(
    protocol: ProtocolKind,
    seed: u64,
    members: u64,
    cuts: &[(MemberId, MemberId)],
    behind: &[MemberId],
    give_up_ms: u64,
) -> Option<Time> {
    let mut world = World::new(protocol, seed, members, Story::Silent);
    world.make_leader(MemberId(1))?;
    let all: Vec<MemberId> = world.machines.keys().copied().collect();
    world.go_on(SETTLE_MS - BEHIND_MS);
    let deaf = behind.iter().flat_map(|&id| all.iter().map(move |&peer| Trouble::Cut(peer, id)));
    world.network.begin(BEHIND, deaf.collect());
    world.go_on(BEHIND_MS);
    world.network.begin(BROKEN, cuts.iter().map(|&(from, to)| Trouble::Cut(from, to)).collect());
    world.network.end(BEHIND);
    let begin = world.now;
    let asked = world.moment().order;
    while world.now.since_ms(begin) < give_up_ms {
        world.advance();
        if world.clients.served_since(asked) {
            return Some(Time(world.now.since_ms(begin)));
        }
    }
    None
}

impl World {
    fn go_on(&mut self, for_ms: u64) {
        let until = self.now.after_ms(for_ms);
        while self.now < until {
            self.advance();
        }
    }

    /// Asks until this member leads.
    fn make_leader(&mut self, wanted: MemberId) -> Option<()> {
        while self.now.0 < READY_MS_MAX {
            self.go_on(500);
            match self.leader() {
                Some(leader) if leader == wanted => return Some(()),
                Some(leader) => {
                    self.moment += 1;
                    let deadline = self.local(leader).after_ms(1_000);
                    let request = Request::Transfer(Some(wanted));
                    self.event(leader, Event::Request { id: RequestId(self.moment), request, deadline });
                }
                None => {}
            }
        }
        None
    }
}
