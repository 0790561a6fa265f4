//! All events of a revision come in one answer.

use super::{Heard, Watch};

pub(super) fn check(watch: &Watch) -> Result<(), String> {
    let mut last = 0;
    for heard in &watch.heard {
        let Heard::Events(_, events) = heard else { continue };
        if let Some(first) = events.first()
            && first.kv.mod_revision == last
        {
            return Err(format!("revision {last} was torn: {first:?} came in a later answer"));
        }
        last = events.last().map_or(last, |event| event.kv.mod_revision);
    }
    Ok(())
}
