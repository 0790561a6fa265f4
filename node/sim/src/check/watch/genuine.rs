//! Every event happened, just so: value, kind, lease, version, and whether the key was new (etcd's "isCreate").

use super::Watch;
use crate::check::witness::Witness;

pub(super) fn check(watch: &Watch, witness: &Witness) -> Result<(), String> {
    let happened = |heard: &quorate_state::event::Event| {
        let events = witness.events(heard.kv.mod_revision);
        events.iter().any(|event| event.kind == heard.kind && event.kv == heard.kv)
    };
    match watch.events().find(|event| !happened(event)) {
        None => Ok(()),
        Some(event) => Err(format!("a watch heard what never happened: {event:?}")),
    }
}
