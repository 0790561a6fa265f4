//! What will go wrong in a world, as data: when, for how long, what. It is drawn from a seed before the world begins, apart
//! from all other chance, so that faults can be left out and the rest stays as it was.

use std::fmt;

use crate::random::Random;

/// Whom a fault hits; found when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Whoever leads; somebody if nobody does.
    Leader,
    /// The machine of this number, counted around.
    Machine(u64),
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of 100 messages so many are lost.
    Loss(u64),
    /// Every message takes up to so many milliseconds longer.
    Delay(u64),
    /// Of 100 messages so many come twice.
    Duplication(u64),
    /// Of 100 messages so many are overtaken by those of the next half second.
    Reordering(u64),
    /// Of 100 messages so many come seconds later.
    Late(u64),
    /// Whatever is sent to a machine comes at least so many milliseconds later, in order.
    Lag(Target, u64),
    /// Two halves that do not hear each other; the bits say who is on which side.
    Partition(u64),
    /// Two machines do not hear each other; all others do (half-dead switch, Cloudflare 2020).
    PartialPartition(Target, Target),
    /// The second one does not hear the first one.
    OneWay(Target, Target),
    /// Two machines hear each other every other so many milliseconds.
    Flapping(Target, Target, u64),
    /// A machine hears nobody and nobody hears it.
    Isolation(Target),
    /// The power of a machine fails: of what was not synced, chance decides what stays.
    PowerLoss(Target),
    /// A process is killed: the page cache stays.
    Kill(Target),
    /// The power of all machines fails at once.
    Blackout,
    /// A machine stands still and then goes on.
    Pause(Target),
    /// A clock shows so many milliseconds for 1,000.
    ClockRate(Target, u64),
    /// A clock jumps ahead by so many milliseconds.
    ClockJump(Target, u64),
    /// Syncs take up to so many milliseconds.
    SlowDisk(Target, u64),
    /// A sync takes seconds.
    StalledDisk(Target),
    /// Syncs fail, and the page cache says that nothing is left to write.
    SyncError(Target),
    /// Writes fail.
    WriteError(Target),
    /// Files can't grow.
    DiskFull(Target),
    /// A bit of a file flips, and the process is started again.
    BitRot(Target),
    /// A write lands somewhere else in its file, and the process is started again later.
    MisdirectedWrite(Target),
    /// A machine loses its disk for good.
    Wipe(Target),
    /// Somebody asks for a change of the membership.
    Churn,
    /// Snapshots break off on their way, or their receiver's power fails.
    SnapshotsInterrupted,
    /// So many clients come at once.
    Overload(u64),
    /// Somebody asks for another leader.
    LeaderTransfer(Target),
    /// A connection is reset.
    ConnectionReset(Target, Target),
}

impl Fault {
    /// The class that it is counted in.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Loss(_) => "messages lost",
            Self::Delay(_) => "messages delayed",
            Self::Duplication(_) => "messages duplicated",
            Self::Reordering(_) => "messages reordered",
            Self::Late(_) => "messages late by seconds",
            Self::Lag(..) => "a machine hears everything late",
            Self::Partition(_) => "partition in two",
            Self::PartialPartition(..) => "partial partition",
            Self::OneWay(..) => "one-way cut",
            Self::Flapping(..) => "flapping link",
            Self::Isolation(_) => "isolation",
            Self::PowerLoss(_) => "power loss",
            Self::Kill(_) => "process killed",
            Self::Blackout => "power loss of all at once",
            Self::Pause(_) => "pause",
            Self::ClockRate(..) => "clock skew",
            Self::ClockJump(..) => "clock jump",
            Self::SlowDisk(..) => "slow disk",
            Self::StalledDisk(_) => "stalled disk",
            Self::SyncError(_) => "sync error",
            Self::WriteError(_) => "write error",
            Self::DiskFull(_) => "disk full",
            Self::BitRot(_) => "bit rot",
            Self::MisdirectedWrite(_) => "misdirected write",
            Self::Wipe(_) => "disk lost",
            Self::Churn => "membership change asked for",
            Self::SnapshotsInterrupted => "snapshots interrupted",
            Self::Overload(_) => "overload",
            Self::LeaderTransfer(_) => "leader transfer",
            Self::ConnectionReset(..) => "connection reset",
        }
    }
}

/// The classes that the schedule of a seed is drawn from.
pub const DRAWN: [&str; 28] = [
    "messages lost",
    "messages delayed",
    "messages duplicated",
    "messages reordered",
    "partition in two",
    "partial partition",
    "one-way cut",
    "flapping link",
    "isolation",
    "power loss",
    "process killed",
    "power loss of all at once",
    "pause",
    "clock skew",
    "clock jump",
    "slow disk",
    "stalled disk",
    "sync error",
    "write error",
    "disk full",
    "bit rot",
    "misdirected write",
    "disk lost",
    "membership change asked for",
    "snapshots interrupted",
    "overload",
    "leader transfer",
    "connection reset",
];

/// A class of the world itself: the power fails between a write and its sync.
pub const CRASH_IN_SYNC: &str = "power loss between write and sync";
/// A class of worlds of two versions: a member starts in the newer one.
pub const UPGRADED: &str = "member upgraded";
/// A class of worlds of two versions: a member starts in the older one again.
pub const TAKEN_BACK: &str = "upgrade taken back";

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub at_ms: u64,
    /// How long it lasts; nothing for what happens once.
    pub for_ms: u64,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, for_ms, fault } = self;
        write!(f, "{at_ms:>8} ms, for {for_ms:>5} ms: {} {fault:?}", fault.class())
    }
}

/// Everything that will go wrong, and when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// In the order of their begin.
    pub faults: Vec<Planned>,
    /// Then the world heals.
    pub faulty_ms: u64,
}

/// Between the begins of two faults, on average at most.
const BETWEEN_MS_MAX: u64 = 500;
/// How long a fault lasts, at most.
const LASTS_MS_MAX: u64 = 6_000;

impl Schedule {
    /// The schedule of a seed.
    #[must_use]
    pub fn of(seed: u64, faulty_ms: u64) -> Self {
        // Another stream than the world's.
        let mut random = Random::new(seed ^ 0x5eed_0fa1_7fa1_7000);
        let between_ms = 100 + random.below(BETWEEN_MS_MAX - 100);
        // Each world leaves some classes out, so that the others are met alone, too (swarm testing, Groce 2012).
        let without: u64 = random.draw() & random.draw();
        let mut faults = Vec::new();
        let mut at_ms = random.below(between_ms);
        while at_ms < faulty_ms {
            let kind = random.below(KINDS);
            let fault = any_fault(kind, &mut random);
            let lasts_ms_max = if random.chance(30) { LASTS_MS_MAX } else { LASTS_MS_MAX / 4 };
            let for_ms = 50 + random.below(lasts_ms_max);
            if without >> kind & 1 == 0 {
                faults.push(Planned { at_ms, for_ms, fault });
            }
            at_ms += 1 + random.below(2 * between_ms);
        }
        Self { faults, faulty_ms }
    }

    /// Faults of a few classes only, close together: where a hunt goes that knows what it looks for.
    #[must_use]
    pub fn of_few(seed: u64, faulty_ms: u64, few: &[fn(&mut Random) -> Fault]) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_0fa1_7fe0_0000);
        let between_ms = 50 + random.below(400);
        let lasts_ms = 200 + random.below(2_000);
        let mut faults = Vec::new();
        let mut at_ms = 500;
        while at_ms < faulty_ms {
            let fault = few[random.below(few.len() as u64) as usize](&mut random);
            faults.push(Planned { at_ms, for_ms: 50 + random.below(lasts_ms), fault });
            at_ms += 1 + random.below(2 * between_ms);
        }
        Self { faults, faulty_ms }
    }

    /// The same without some faults: those at these places stay.
    #[must_use]
    pub fn keeping(&self, places: &[usize]) -> Self {
        let kept = places.iter().filter_map(|&place| self.faults.get(place).copied());
        Self { faults: kept.collect(), faulty_ms: self.faulty_ms }
    }
}

/// Kinds as chance draws them; some classes have several.
const KINDS: u64 = 40;

fn target(random: &mut Random) -> Target {
    if random.chance(35) { Target::Leader } else { Target::Machine(random.below(64)) }
}

fn any_fault(kind: u64, random: &mut Random) -> Fault {
    let (one, other) = (target(random), Target::Machine(random.below(64)));
    match kind {
        0 | 1 => Fault::Loss(1 + random.below(30)),
        2 => Fault::Delay(20 + random.below(400)),
        3 => Fault::Duplication(1 + random.below(20)),
        4 => Fault::Reordering(1 + random.below(30)),
        5 | 6 => Fault::Partition(random.draw()),
        7 | 8 => Fault::PartialPartition(one, other),
        9 | 10 => Fault::OneWay(one, other),
        11 => Fault::OneWay(other, one),
        12 => Fault::Flapping(one, other, 50 + random.below(700)),
        13 | 14 => Fault::Isolation(one),
        15..18 => Fault::PowerLoss(one),
        18..20 => Fault::Kill(one),
        20 => Fault::Blackout,
        21 | 22 => Fault::Pause(one),
        23 => Fault::ClockRate(one, 600 + random.below(1_000)),
        24 => Fault::ClockJump(one, random.below(4_000)),
        25 => Fault::SlowDisk(one, 40 + random.below(400)),
        26 => Fault::StalledDisk(one),
        27 => Fault::SyncError(one),
        28 => Fault::WriteError(one),
        29 => Fault::DiskFull(one),
        30 => Fault::BitRot(one),
        31 => Fault::MisdirectedWrite(one),
        32 => Fault::Wipe(one),
        33 | 34 => Fault::Churn,
        35 => Fault::SnapshotsInterrupted,
        36 => Fault::Overload(20 + random.below(60)),
        37 => Fault::LeaderTransfer(one),
        38 => Fault::ConnectionReset(other, one),
        _ => Fault::Churn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_has_one_schedule_and_seeds_have_all_classes() {
        assert_eq!(Schedule::of(7, 20_000), Schedule::of(7, 20_000));
        let all = (0..200).flat_map(|seed| Schedule::of(seed, 20_000).faults);
        let classes: BTreeSet<&str> = all.map(|planned| planned.fault.class()).collect();
        assert_eq!(classes, BTreeSet::from(DRAWN));
    }
}
