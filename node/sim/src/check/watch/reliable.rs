//! Nothing is missing between a watch's start at a member and the last event that it heard from there.

use super::{Heard, Watch};
use crate::check::witness::Witness;

pub(super) fn check(watch: &Watch, witness: &Witness) -> Result<(), String> {
    for part in watch.parts() {
        let Some(Heard::Started(from)) = part.first() else { continue };
        let mut heard = part.iter().flat_map(|heard| match heard {
            Heard::Events(_, events) => events.as_slice(),
            Heard::Started(_) | Heard::Compacted(_) => &[],
        });
        let last = part.iter().rev().find_map(|heard| match heard {
            Heard::Events(_, events) => Some(events.last()?.kv.mod_revision),
            Heard::Started(_) | Heard::Compacted(_) => None,
        });
        let Some(last) = last else { continue };
        let wanted = witness.since(*from).take_while(|event| event.kv.mod_revision <= last);
        for event in wanted.filter(|event| watch.wants(event)) {
            let found = heard.next();
            if found.is_none_or(|found| {
                found.kv.key != event.kv.key || found.kv.mod_revision != event.kv.mod_revision
            }) {
                return Err(format!("an event is missing: {event:?}; in its place came {found:?}"));
            }
        }
    }
    Ok(())
}
