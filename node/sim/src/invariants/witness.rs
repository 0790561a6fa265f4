//! A witness never leads: it votes and holds no data, so it could neither serve nor send on what is decided (Pâris: Voting with
//! Witnesses, ICDCS 1986: a quorum needs a copy with data, which a witness is not).

use quorate_consensus::protocol::{Part, Status};

/// A member took a step.
pub(super) fn check(status: &Status, witness: bool) -> Result<(), String> {
    if witness && status.part == Part::Leader {
        return Err(format!("witness {} leads", status.id));
    }
    Ok(())
}
