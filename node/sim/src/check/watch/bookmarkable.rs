//! An answer's header names a revision up to which everything has been heard: also one without events.

use super::{Heard, Watch};
use crate::check::witness::Witness;

pub(super) fn check(watch: &Watch, witness: &Witness) -> Result<(), String> {
    for part in watch.parts() {
        let Some(Heard::Started(from)) = part.first() else { continue };
        let (mut heard_through, mut named) = (from - 1, from - 1);
        for heard in part {
            let Heard::Events(header, events) = heard else { continue };
            heard_through = events.last().map_or(heard_through, |event| event.kv.mod_revision);
            if *header < named || *header < heard_through {
                return Err(format!("a header went back to {header} behind {}", named.max(heard_through)));
            }
            named = *header;
            let missed = witness
                .since(heard_through + 1)
                .take_while(|event| event.kv.mod_revision <= named)
                .find(|event| watch.wants(event));
            if let Some(event) = missed {
                return Err(format!("an answer names revision {named}, but {event:?} had been missed"));
            }
        }
    }
    Ok(())
}
