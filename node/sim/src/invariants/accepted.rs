//! Multi-Paxos: an acceptor never takes back what it accepted: a slot is replaced in a later ballot only, and never given up (Paxos
//! Made Simple 2.2, P1a: it accepts in no ballot below what it promised; the promises of phase 1 name the latest that it accepted).
//! The logs of Raft and Zab are cut where a leader's differ.

use quorate_consensus::id::MemberId;
use quorate_consensus::log::Layout;

use super::logs::Look;

/// Member `id` was looked at.
pub(super) fn check(id: MemberId, layout: Layout, look: &Look<'_>) -> Result<(), String> {
    if layout == Layout::Tail {
        return Ok(());
    }
    for (index, durable, now) in look.compared() {
        match now {
            None => return Err(format!("{id} cut slot {index} off")),
            Some(now) if now < durable => {
                return Err(format!("{id} replaced {index} of ballot {durable} by one of ballot {now}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::logs::sample;

    fn found(layout: Layout, now: &[(u64, u64)]) -> Result<(), String> {
        let (held, was_durable) = (sample::held(now), sample::durable(&[(4, 2), (5, 3)]));
        check(MemberId(1), layout, &Look { held: &held, was_durable, restarted: false })
    }

    #[test]
    fn a_slot_is_replaced_in_a_later_ballot_only() {
        assert_eq!(found(Layout::Slots, &[(4, 2), (5, 4)]), Ok(()));
        for taken_back in [&[(4, 2), (5, 2)][..], &[(5, 3)]] {
            assert!(found(Layout::Slots, taken_back).is_err(), "{taken_back:?}");
            assert_eq!(found(Layout::Tail, taken_back), Ok(()), "a log is cut");
        }
    }
}
