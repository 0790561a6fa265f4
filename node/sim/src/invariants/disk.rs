//! What was durable in a member's log is there after a restart, before the member's first step (Raft: thesis 3.8;
//! Paxos Made Simple 2.5: an acceptor's stable storage; Zab 2011, section IV: a history is in stable storage). The first step
//! would be too late: the first message that a member takes may be a new leader's, which cuts what the leader lacks.
//!
//! An acceptor of Multi-Paxos may find a slot in a later ballot than it was durable in: its write was under way when it stopped.

use quorate_consensus::id::MemberId;
use quorate_consensus::log::Layout;

use super::logs::Look;

/// Member `id` was looked at.
pub(super) fn check(id: MemberId, layout: Layout, look: &Look<'_>) -> Result<(), String> {
    if !look.restarted {
        return Ok(());
    }
    for (index, durable, now) in look.compared() {
        let there = match layout {
            Layout::Tail => now == Some(durable),
            Layout::Slots => now >= Some(durable),
        };
        if !there {
            let found = now.map_or("nothing".to_owned(), |epoch| format!("one of epoch {epoch}"));
            return Err(format!("{id} lost {index} of epoch {durable}, which was durable: {found} is there"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::logs::sample;

    fn found(layout: Layout, restarted: bool, now: &[(u64, u64)]) -> Result<(), String> {
        let (held, was_durable) = (sample::held(now), sample::durable(&[(4, 2), (5, 3)]));
        check(MemberId(1), layout, &Look { held: &held, was_durable, restarted })
    }

    #[test]
    fn what_was_durable_is_found_again() {
        for layout in [Layout::Tail, Layout::Slots] {
            assert_eq!(found(layout, true, &[(4, 2), (5, 3), (6, 3)]), Ok(()));
            for lost in [&[(4, 2)][..], &[(4, 2), (5, 2)]] {
                assert!(found(layout, true, lost).is_err(), "{layout:?}, {lost:?}");
                assert_eq!(found(layout, false, lost), Ok(()), "no restart");
            }
        }
        let later = &[(4, 2), (5, 4)];
        assert!(found(Layout::Tail, true, later).is_err(), "nobody cut it");
        assert_eq!(
            found(Layout::Slots, true, later),
            Ok(()),
            "a later ballot may have been on its way to the disk"
        );
    }
}
