//! No event comes twice.

use std::collections::BTreeSet;

use super::Watch;

pub(super) fn check(watch: &Watch) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match watch.events().find(|event| !seen.insert((event.kv.mod_revision, event.kv.key.clone()))) {
        None => Ok(()),
        Some(event) => Err(format!("an event came twice: {event:?}")),
    }
}
