//! Leaders that give leadership away by themselves: for their disk, or for a voter of a higher priority.

use std::collections::BTreeSet;

use super::world::World;
use crate::id::{Epoch, MemberId};
use crate::kind::ProtocolKind;

/// The default election timeout.
const TIMEOUT_MS: u64 = 1_000;

fn set_sync_ms(world: &mut World, id: MemberId, sync_ms: Option<u64>) {
    world.nodes.get_mut(&id).expect("a node").sync_ms = sync_ms;
}

fn set_stopped(world: &mut World, id: MemberId, stopped: bool) {
    world.nodes.get_mut(&id).expect("a node").stopped = stopped;
}

/// Commands come in all the time. Who led, and in which epochs.
fn under_load(world: &mut World, ms: u64) -> BTreeSet<(Epoch, MemberId)> {
    let mut leaders = BTreeSet::new();
    for step in 0..ms / 10 {
        if step % 5 == 0 {
            world.propose_to_leader();
        }
        world.pass(10);
        let led = world.statuses().into_iter().filter(|status| status.established);
        leaders.extend(led.map(|status| (status.epoch, status.id)));
    }
    leaders
}

/// Runs under load until somebody else serves; how long that took.
fn until_another_serves(world: &mut World, than: MemberId, within_ms: u64) -> u64 {
    let began = world.now;
    while world.leader().is_none_or(|leader| leader == than) {
        let took_ms = world.now.since_ms(began);
        assert!(took_ms <= within_ms, "{}: {than} still leads after {took_ms} ms", world.kind);
        under_load(world, 10);
    }
    world.now.since_ms(began)
}

#[test]
fn a_leader_whose_disk_stalls_is_replaced_within_two_election_timeouts() {
    for (kind, voters, seed) in ProtocolKind::ALL.into_iter().flat_map(|kind| {
        [3, 5].into_iter().flat_map(move |voters| (1..4).map(move |seed| (kind, voters, seed)))
    }) {
        let mut world = World::new(kind, seed, voters, 0);
        let leader = world.heal_until_all_follow();
        under_load(&mut world, 500);
        set_sync_ms(&mut world, leader, None);
        until_another_serves(&mut world, leader, 2 * TIMEOUT_MS);
        // It stays replaced, and commands are decided without it.
        let before = world.committed.len();
        let leaders = under_load(&mut world, 12 * TIMEOUT_MS);
        assert_eq!(leaders.len(), 1, "{kind}, seed {seed}: leadership moved again: {leaders:?}");
        assert!(world.committed.len() > before + 100, "{kind}, seed {seed}");
        // A disk that works again takes nothing back.
        set_sync_ms(&mut world, leader, Some(0));
        assert_eq!(under_load(&mut world, 12 * TIMEOUT_MS).len(), 1, "{kind}, seed {seed}");
    }
}

#[test]
fn a_leader_whose_disk_stays_slow_is_replaced_once_within_two_election_timeouts() {
    for (kind, sync_ms) in ProtocolKind::ALL
        .into_iter()
        .flat_map(|kind| [260, 300, 500, 700, 950].map(move |sync_ms| (kind, sync_ms)))
    {
        let mut world = World::new(kind, sync_ms, 3, 0);
        let leader = world.heal_until_all_follow();
        under_load(&mut world, 1_000);
        set_sync_ms(&mut world, leader, Some(sync_ms));
        until_another_serves(&mut world, leader, 2 * TIMEOUT_MS);
        let leaders = under_load(&mut world, 30 * TIMEOUT_MS);
        assert_eq!(leaders.len(), 1, "{kind}, {sync_ms} ms: leadership moved again: {leaders:?}");
    }
}

#[test]
fn members_that_were_stopped_elect_at_once() {
    for (kind, seed) in ProtocolKind::ALL.into_iter().flat_map(|kind| (1..4).map(move |seed| (kind, seed))) {
        let mut world = World::new(kind, seed, 3, 0);
        for id in world.ids() {
            // Longer than the time between two commands: there is always a write under way.
            set_sync_ms(&mut world, id, Some(60));
        }
        for _ in 0..5 {
            let leader = world.heal_until_all_follow();
            under_load(&mut world, 500);
            set_stopped(&mut world, leader, true);
            until_another_serves(&mut world, leader, 3 * TIMEOUT_MS);
            under_load(&mut world, 500);
            set_stopped(&mut world, leader, false);
        }
    }
}

#[test]
fn one_slow_sync_moves_nothing_and_neither_do_disks_that_are_all_slow() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 5, 3, 0);
        let leader = world.heal_until_all_follow();
        under_load(&mut world, 500);
        set_sync_ms(&mut world, leader, Some(800));
        under_load(&mut world, 20);
        set_sync_ms(&mut world, leader, Some(0));
        assert_eq!(under_load(&mut world, 10 * TIMEOUT_MS).len(), 1, "{kind}: one slow sync");
        for id in world.ids() {
            set_sync_ms(&mut world, id, Some(400));
        }
        let leaders = under_load(&mut world, 30 * TIMEOUT_MS);
        assert_eq!(leaders.len(), 1, "{kind}: all slow: {leaders:?}");
    }
}

#[test]
fn the_only_member_that_can_lead_leads_whatever_its_disk() {
    for kind in ProtocolKind::ALL {
        let mut world = World::new(kind, 3, 3, 0);
        let slow = world.heal_until_all_follow();
        under_load(&mut world, 1_000);
        set_sync_ms(&mut world, slow, Some(500));
        until_another_serves(&mut world, slow, 3 * TIMEOUT_MS);
        // The successor goes, and the third member lost what the other two have decided.
        let successor = world.leader().expect("just found");
        let third = world.ids().into_iter().find(|id| ![slow, successor].contains(id)).expect("a third");
        world.blocked.extend(world.ids().into_iter().flat_map(|id| [(third, id), (id, third)]));
        under_load(&mut world, TIMEOUT_MS);
        world.blocked.clear();
        world.blocked.extend(world.ids().into_iter().flat_map(|id| [(successor, id), (id, successor)]));
        until_another_serves(&mut world, successor, 12 * TIMEOUT_MS);
    }
}

fn preferring(kind: ProtocolKind, seed: u64, voters: u64, preferred: MemberId) -> World {
    let mut world = World::new(kind, seed, voters, 0);
    world.heal_until_all_follow();
    world.change(|membership| {
        membership.members.get_mut(&preferred).expect("a member").leader_priority = 1;
    });
    world
}

#[test]
fn a_voter_of_a_higher_priority_takes_over_when_it_is_in_sync() {
    for (kind, seed) in ProtocolKind::ALL.into_iter().flat_map(|kind| (1..3).map(move |seed| (kind, seed))) {
        for preferred in [1, 2, 3].map(MemberId) {
            let mut world = preferring(kind, seed, 3, preferred);
            world.heal_until("the preferred one leads", |world| world.leader() == Some(preferred));
            assert_eq!(under_load(&mut world, 10 * TIMEOUT_MS).len(), 1, "{kind}, seed {seed}: it stays");
            // It goes, and comes back.
            world.crash(preferred);
            until_another_serves(&mut world, preferred, 6 * TIMEOUT_MS);
            world.start(preferred);
            world.heal_until("it leads again", |world| {
                world.propose_to_leader();
                world.leader() == Some(preferred)
            });
        }
    }
}

/// How often leadership moves in each of four times, while the preferred voter reaches whoever leads and nobody else: it can't
/// lead, and every leader finds it in sync.
fn moves_for_nothing(kind: ProtocolKind, seed: u64) -> [usize; 4] {
    let preferred = MemberId(4);
    let mut world = preferring(kind, seed, 5, preferred);
    world.heal_until("the preferred one leads", |world| world.leader() == Some(preferred));
    [(); 4].map(|()| {
        let mut epochs = BTreeSet::new();
        for step in 0..10_000 {
            let leader = world.leader();
            world.blocked.clear();
            let others = world.ids().into_iter().filter(|id| *id != preferred && Some(*id) != leader);
            world.blocked.extend(others.flat_map(|id| [(preferred, id), (id, preferred)]));
            if step % 100 == 0 {
                world.propose_to_leader();
            }
            world.pass(10);
            epochs.extend(world.statuses().into_iter().filter(|it| it.established).map(|it| it.epoch));
        }
        epochs.len() - 1
    })
}

/// Over several seeds: each member remembers its own hand-overs alone, so that a leader that had not led before begins anew.
#[test]
fn a_preferred_voter_that_cannot_win_costs_less_and_less() {
    for kind in ProtocolKind::ALL {
        let moves: Vec<[usize; 4]> = (1..7).map(|seed| moves_for_nothing(kind, seed)).collect();
        let sum = |times: &[usize]| {
            moves.iter().map(|of| times.iter().map(|&time| of[time]).sum::<usize>()).sum::<usize>()
        };
        let (first, last) = (sum(&[0, 1]), sum(&[2, 3]));
        assert!(2 * last <= first, "{kind}: leadership keeps moving: {moves:?}");
    }
}
