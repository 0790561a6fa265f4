//! What goes wrong, and where it makes a difference.

use super::cluster::{Cluster, Cut, Next, Wish};
use super::node::Kept;
use crate::id::MemberId;
use crate::input::Input;

/// One thing that goes wrong, or goes early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// The message that would arrive next is lost.
    Lose,
    /// It arrives late.
    Delay,
    /// It arrives, and once more late.
    Repeat,
    /// A member's process ends and starts again; this stays of what was not synced.
    Crash(MemberId, Kept),
    /// A member ticks as if its deadline had passed.
    Hasten(MemberId),
    /// A disk syncs nothing for a while.
    Stall(MemberId),
    /// Nothing reaches a member or leaves it for a while.
    Cut(MemberId),
    /// Nothing passes between these two members and the others for a while.
    Split(MemberId, MemberId),
    /// A leader is cut off for a while; the others see their connections to it reset, and the second one acts first.
    Depose(MemberId, MemberId),
    /// The next wish does not wait until nothing moves; whoever believes that it leads gets it.
    Early,
}

/// Moments at which nothing moves that a fault lasts: a stalled disk, a late message; a cut, in which others elect; and one in which
/// they have a reason to do so at once.
const LATE: u32 = 4;
const CUT: u32 = 8;
const DEPOSED: u32 = 3;

impl Cluster {
    /// What can go wrong here. A fault that only concerns a member that has no part in the next step is left for later: before or
    /// behind that step it is the same.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let next = self.next();
        let mut faults = vec![];
        if matches!(next, Next::Arrive { .. }) {
            faults.extend([Fault::Lose, Fault::Delay, Fault::Repeat]);
        }
        for (&id, node) in self.nodes.iter().filter(|(_, node)| !node.removed) {
            let (reaches, concerns) = match next {
                Next::Sync(disk) => (disk == id, false),
                Next::Arrive { from, to } => (to == id, to == id || from == id),
                Next::Rest => (true, true),
            };
            if reaches {
                faults.push(Fault::Crash(id, Kept::Nothing));
            }
            if reaches && !node.unsynced.is_empty() {
                faults.extend([Fault::Crash(id, Kept::HardState), Fault::Crash(id, Kept::Everything)]);
                faults.push(Fault::Stall(id));
            }
            if concerns && self.cut.is_none() {
                faults.push(Fault::Cut(id));
            }
            if reaches || !matches!(next, Next::Sync(_)) {
                faults.push(Fault::Hasten(id));
            }
        }
        if !matches!(next, Next::Sync(_)) {
            self.faults_of_leaders(&mut faults);
        }
        faults
    }

    fn faults_of_leaders(&self, faults: &mut Vec<Fault>) {
        let leaders = self.leaders();
        let successors = self.nodes.iter().filter(|(_, node)| !node.removed).map(|(&id, _)| id);
        for &leader in &leaders {
            let voters = self.nodes[&leader].machine.membership().voters();
            let successors = successors.clone().filter(|id| *id != leader && voters.contains(id));
            faults.extend(successors.map(|successor| Fault::Depose(leader, successor)));
        }
        let early = self.wishes.front().is_some_and(|wish| matches!(wish, Wish::Read) || !leaders.is_empty());
        if early {
            faults.push(Fault::Early);
        }
        if self.nodes.len() > 3 && self.cut.is_none() {
            let first = MemberId(1);
            let others = self.nodes.keys().copied().filter(|id| *id != first);
            faults.extend(others.map(|other| Fault::Split(first, other)));
        }
    }

    pub(super) fn fail(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Lose => drop(self.network.pop_front()),
            Fault::Delay => self.late.extend(self.network.pop_front().map(|letter| (LATE, letter))),
            Fault::Repeat => self.late.extend(self.network.front().map(|letter| (LATE, letter.clone()))),
            Fault::Crash(id, kept) => {
                let kind = self.kind;
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.change().crash(kind, id, kept);
                }
            }
            Fault::Hasten(id) => self.hasten(id)?,
            Fault::Stall(id) => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.change().stalled = LATE;
                }
            }
            Fault::Cut(id) => self.cut = Some(Cut { side: (id, id), left: CUT }),
            Fault::Split(one, other) => self.cut = Some(Cut { side: (one, other), left: CUT }),
            Fault::Depose(leader, successor) => {
                self.cut = Some(Cut { side: (leader, leader), left: DEPOSED });
                for id in self.nodes.keys().copied().filter(|id| *id != leader).collect::<Vec<_>>() {
                    self.step(id, Input::Unreachable { peer: leader, reset: true })?;
                }
                self.hasten(successor)?;
            }
            Fault::Early => {
                let Some(wish) = self.wishes.pop_front() else { return Ok(()) };
                if matches!(wish, Wish::Read) {
                    return self.make(MemberId(1), &wish);
                }
                for leader in self.leaders() {
                    self.make(leader, &wish)?;
                }
            }
        }
        Ok(())
    }

    fn hasten(&mut self, id: MemberId) -> Result<(), String> {
        self.now = self.now.max(self.nodes[&id].machine.deadline());
        self.step(id, Input::Tick)
    }
}
