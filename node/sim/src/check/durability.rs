//! Acknowledged means present: when everything has settled, every member of the cluster holds what clients were told.

use quorate_state::command::CommandKind;
use quorate_state::event::{Event, KeyValue};
use quorate_state::reader::Reader;
use quorate_state::request::Range;

use super::model::Model;
use super::witness::Witness;
use crate::history::{Operation, Outcome, Record};

/// What one member holds at the end.
#[derive(Clone, Debug)]
pub struct Holding {
    /// The newest revision.
    pub revision: i64,
    /// What is forgotten.
    pub compacted: i64,
    /// Every pair, by key.
    pub pairs: Vec<KeyValue>,
    /// What happened from the compacted revision on.
    pub events: Vec<Event>,
    /// Leases.
    pub leases: Vec<i64>,
}

impl Holding {
    /// What a reader sees.
    ///
    /// # Errors
    /// What can't be read.
    pub fn of(reader: &Reader) -> Result<Self, String> {
        let whole = Range { key: vec![0].into(), range_end: vec![0].into(), ..Range::default() };
        let unreadable = |what: String| format!("a state can't be read: {what}");
        let pairs = reader.range(&whole).map_err(|error| unreadable(error.to_string()))?.kvs;
        let events =
            reader.events(reader.compacted(), i64::MAX).map_err(|error| unreadable(error.to_string()))?;
        let leases = reader.leases().map_err(|error| unreadable(error.to_string()))?;
        Ok(Self {
            revision: reader.revision(),
            compacted: reader.compacted(),
            pairs,
            events,
            leases: leases.into_iter().map(|(id, _)| id).collect(),
        })
    }
}

/// Checks what a member holds at the end against what clients were told.
///
/// # Errors
/// A sentence that names what is missing.
pub fn check(records: &[Record], witness: &Witness, holding: &Holding) -> Result<(), String> {
    let told = records.iter().filter_map(Record::revision).max().unwrap_or(1);
    if holding.revision < told.max(witness.last()) {
        return Err(format!(
            "revision {told} was acknowledged, but {} is the last at the end",
            holding.revision
        ));
    }
    let mut model = Model::without_leases();
    witness.iter().for_each(|(_, events)| model.follow(events));
    if model.pairs() != holding.pairs {
        return Err(format!("the last state is {:?}, not {:?}", holding.pairs, model.pairs()));
    }
    history(witness, holding)?;
    let (mut compacted, mut compactable) = (0, 0);
    for record in records {
        let Operation::Command(command) = &record.operation else { continue };
        match (command, &record.outcome) {
            (CommandKind::Compact(revision), Outcome::Applied(_)) => {
                (compacted, compactable) = (compacted.max(*revision), compactable.max(*revision));
            }
            (CommandKind::Compact(revision), Outcome::Unknown) => compactable = compactable.max(*revision),
            (CommandKind::LeaseRevoke(revoke), Outcome::Applied(_))
                if holding.leases.contains(&revoke.id) =>
            {
                return Err(format!("lease {} was revoked and is there at the end", revoke.id));
            }
            (_, _) => {}
        }
    }
    if !(compacted..=compactable).contains(&holding.compacted) {
        return Err(format!("compacted up to {}, but {compacted} was acknowledged", holding.compacted));
    }
    Ok(())
}

/// What is not compacted is there with all its events. Those of the compacted revision don't tell what was there before.
fn history(witness: &Witness, holding: &Holding) -> Result<(), String> {
    let mut held = holding.events.iter();
    for event in witness.since(holding.compacted) {
        let before = event.prev_kv.clone().filter(|_| event.kv.mod_revision > holding.compacted);
        let event = Event { prev_kv: before, ..event.clone() };
        match held.next() {
            Some(found) if *found == event => {}
            found => return Err(format!("the history holds {found:?} in the place of {event:?}")),
        }
    }
    held.next().map_or(Ok(()), |event| Err(format!("the history holds {event:?}, which never happened")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;
    use quorate_state::command::LeaseRevoke;
    use quorate_state::response::{Body, Response};

    fn sound() -> (Vec<Record>, Witness, Holding) {
        let (mut records, witness) = sample::history();
        let mut model = Model::without_leases();
        witness.iter().for_each(|(_, events)| model.follow(events));
        let mut events: Vec<Event> = witness.since(3).cloned().collect();
        let of_compacted = events.iter_mut().filter(|event| event.kv.mod_revision == 3);
        of_compacted.for_each(|event| event.prev_kv = None);
        let revision = witness.last();
        let holding = Holding { revision, compacted: 3, pairs: model.pairs(), events, leases: vec![7] };
        let done = |body| Outcome::Applied(Response { revision, body });
        records.push(sample::command(90, CommandKind::Compact(3), done(Body::Compact)));
        let revoke = CommandKind::LeaseRevoke(LeaseRevoke { id: 8, expired_in_epoch: 0 });
        records.push(sample::command(91, revoke, done(Body::LeaseRevoke)));
        (records, witness, holding)
    }

    #[test]
    fn a_sound_end_is_accepted_and_each_tampered_one_is_not() {
        let (records, witness, holding) = sound();
        assert_eq!(check(&records, &witness, &holding), Ok(()));
        let tampered = |tamper: &dyn Fn(&mut Holding)| {
            let (records, witness, mut holding) = sound();
            tamper(&mut holding);
            check(&records, &witness, &holding).expect_err("it was tampered with")
        };
        assert!(tampered(&|holding| holding.revision -= 1).contains("acknowledged"));
        assert!(tampered(&|holding| drop(holding.pairs.pop())).contains("the last state is"));
        assert!(tampered(&|holding| drop(holding.events.remove(0))).contains("in the place of"));
        assert!(
            tampered(&|holding| holding.events.push(holding.events[0].clone())).contains("never happened")
        );
        assert!(tampered(&|holding| holding.leases.push(8)).contains("revoked and is there"));
        let forgotten = |holding: &mut Holding| {
            holding.compacted = 4;
            holding.events.retain(|event| event.kv.mod_revision >= 4);
            holding.events.iter_mut().take(1).for_each(|event| event.prev_kv = None);
        };
        assert!(tampered(&forgotten).contains("compacted up to 4"));
    }
}
