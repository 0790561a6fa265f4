//! A watch that starts at a revision, on any member, goes on exactly there: it hears nothing from before, it starts where it
//! stopped, and is told of a compaction only where that took away what it asked for.

use super::{Heard, Watch};

pub(super) fn check(watch: &Watch) -> Result<(), String> {
    let mut next: Option<i64> = None;
    let (mut from, mut heard_through) = (0, 0);
    for heard in &watch.heard {
        match heard {
            Heard::Started(revision) => {
                if next.is_some_and(|next| next < *revision) {
                    return Err(format!(
                        "a watch went on at {revision}, before the revision {next:?} was heard"
                    ));
                }
                (from, heard_through) = (*revision, revision - 1);
            }
            Heard::Events(revision, events) => {
                if let Some(early) = events.iter().find(|event| event.kv.mod_revision < from) {
                    return Err(format!(
                        "an event of before the revision {from}, which was asked for: {early:?}"
                    ));
                }
                next = Some(next.unwrap_or(0).max(revision + 1));
                heard_through = heard_through.max(*revision);
            }
            Heard::Compacted(revision) => {
                if *revision <= heard_through + 1 {
                    return Err(format!(
                        "a watch that had heard {heard_through} was ended though {revision} is compacted, which leaves the next one"
                    ));
                }
                next = Some(*revision);
            }
        }
    }
    Ok(())
}
