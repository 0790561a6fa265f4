//! A watch hears only of keys and kinds that it asked for.

use super::Watch;

pub(super) fn check(watch: &Watch) -> Result<(), String> {
    match watch.events().find(|event| !watch.wants(event)) {
        None => Ok(()),
        Some(event) => {
            Err(format!("a watch of {:?}..{:?} did not ask for {event:?}", watch.key, watch.range_end))
        }
    }
}
