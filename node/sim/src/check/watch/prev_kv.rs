//! Events tell what was there before, exactly where that was asked for. A compaction to their revision may take it away.

use std::collections::BTreeSet;

use super::Watch;
use crate::check::witness::Witness;

pub(super) fn check(watch: &Watch, witness: &Witness, compactions: &BTreeSet<i64>) -> Result<(), String> {
    for heard in watch.events() {
        if !watch.prev_kv {
            if heard.prev_kv.is_some() {
                return Err(format!("a watch did not ask what was there before: {heard:?}"));
            }
            continue;
        }
        let events = witness.events(heard.kv.mod_revision);
        let happened = events.iter().find(|event| event.kv.key == heard.kv.key);
        let expected = happened.and_then(|event| event.prev_kv.as_ref());
        let forgotten = heard.prev_kv.is_none() && compactions.contains(&heard.kv.mod_revision);
        if heard.prev_kv.as_ref() != expected && !forgotten {
            return Err(format!("what was there before was {expected:?}: {heard:?}"));
        }
    }
    Ok(())
}
