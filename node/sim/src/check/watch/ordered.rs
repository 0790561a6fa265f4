//! Revisions never go back, over all answers and members.

use super::Watch;

pub(super) fn check(watch: &Watch) -> Result<(), String> {
    let mut last = 0;
    for event in watch.events() {
        if event.kv.mod_revision < last {
            return Err(format!("events are not in order: {event:?} came behind revision {last}"));
        }
        last = event.kv.mod_revision;
    }
    Ok(())
}
