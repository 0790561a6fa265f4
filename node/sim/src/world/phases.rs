//! A world's three phases: safety under every fault; a random quorum goes on while the rest stays down; everybody agrees.

use std::collections::BTreeSet;

use quorate_consensus::id::{MemberId, Time};
use quorate_replica::event::GroupId;

use super::{Happening, Report, World, clients};
use crate::check;
use crate::check::search::Verdict;
use crate::finding::{Finding, Kind};
use crate::schedule::Schedule;

/// A healed quorum serves writes within this time: twenty election timeouts. Leaders that tie, reads that are asked again and
/// snapshots take some; the bound is for what never ends.
const QUORUM_PROGRESS_MS: u64 = 20_000;
/// It has to serve so many.
const QUORUM_COMMANDS: u64 = 3;
/// After healing everybody agrees within this time, lost members replaced.
const PROGRESS_MS: u64 = 60_000;

impl World {
    /// Safety under the faults of the seed's schedule for `faulty_ms`, then progress of a random quorum, then agreement, then
    /// all judges.
    ///
    /// # Errors
    /// What went wrong.
    pub fn run(self, faulty_ms: u64) -> Result<Report, Finding> {
        let schedule = Schedule::of(self.seed, faulty_ms);
        self.run_schedule(schedule)
    }

    /// The same with another schedule.
    ///
    /// # Errors
    /// What went wrong.
    pub fn run_schedule(mut self, schedule: Schedule) -> Result<Report, Finding> {
        for (place, planned) in schedule.faults.iter().enumerate() {
            self.plan(planned.at_ms, Happening::FaultBegins { place });
        }
        let faulty_ms = schedule.faulty_ms;
        self.schedule = schedule;
        self.plan(0, Happening::Operate);
        while self.now.0 < faulty_ms {
            self.step()?;
        }
        self.quorum_goes_on()?;
        self.all_agree()?;
        self.verify()?;
        self.report.simulated_ms = self.now.0;
        self.report.trace = self.trace.finish();
        Ok(self.report)
    }

    fn step(&mut self) -> Result<(), Finding> {
        self.advance();
        self.sound()
    }

    /// Every fault ends, but whoever is not in a random quorum stays down.
    fn quorum_goes_on(&mut self) -> Result<(), Finding> {
        self.tell(|| "a random quorum heals".into());
        self.schedule.faults.clear();
        self.end_faults();
        let Some(mut quorum) = self.random_quorum() else { return Ok(()) };
        self.only(&quorum);
        self.plans_changes = false;
        let (mut deadline, wanted) =
            (self.now.after_ms(QUORUM_PROGRESS_MS), self.clients.succeeded + QUORUM_COMMANDS);
        while self.clients.succeeded < wanted {
            // A change that a client asked for before may be decided only now.
            if !self.is_quorum(&quorum) {
                let Some(larger) = self.random_quorum() else { break };
                quorum.extend(larger);
                self.only(&quorum);
                deadline = self.now.after_ms(QUORUM_PROGRESS_MS);
            }
            if self.now > deadline {
                let states = self.states();
                let what =
                    format!("the quorum {quorum:?} served nothing for {QUORUM_PROGRESS_MS} ms\n{states}");
                return Err(Kind::Stuck.found()(what));
            }
            self.step()?;
        }
        self.plans_changes = true;
        self.held_down.clear();
        self.reached("a random quorum went on");
        Ok(())
    }

    /// These members run, and no others.
    fn only(&mut self, quorum: &BTreeSet<MemberId>) {
        self.tell(|| format!("members {quorum:?} go on"));
        self.held_down = self.machines.keys().copied().filter(|id| !quorum.contains(id)).collect();
        for id in self.held_down.clone() {
            if self.machines[&id].host.is_some() {
                self.crash(id);
            }
        }
        self.boot_all();
    }

    /// Whether these members are a quorum of what each of them takes for the membership.
    fn is_quorum(&self, members: &BTreeSet<MemberId>) -> bool {
        let quorums = members.iter().map(|id| self.machines[id].membership.quorum());
        quorums.into_iter().all(|quorum| quorum.reached(|id| members.contains(&id)))
    }

    /// Sound members that are a quorum of every membership that is in force, or comes into force when a change that was under way
    /// is decided; `None` if there are none. All members with data are among them where there are witnesses: of another quorum nobody
    /// may hold what is decided.
    fn random_quorum(&mut self) -> Option<BTreeSet<MemberId>> {
        let mut sound: Vec<MemberId> = self
            .machines
            .iter()
            .filter(|(id, machine)| !machine.is_gone() && !self.atlas.is_damaged(**id))
            .map(|(&id, _)| id)
            .collect();
        for at in (1..sound.len()).rev() {
            sound.swap(at, self.random.below(at as u64 + 1) as usize);
        }
        let published = sound.iter().map(|id| self.machines[id].membership.quorum());
        let undecided = sound.iter().flat_map(|id| self.invariants.undecided_memberships(*id));
        let known: Vec<_> = published.chain(undecided.map(|membership| membership.quorum())).collect();
        let mut chosen = BTreeSet::new();
        if self.witnesses > 0 {
            chosen.extend(sound.iter().copied().filter(|id| !self.without_data.contains(id)));
        }
        for id in sound {
            chosen.insert(id);
            if known.iter().all(|quorum| quorum.reached(|id| chosen.contains(&id))) {
                return Some(chosen);
            }
        }
        None
    }

    /// Everybody runs; clients stop; lost members are replaced; all apply the same.
    fn all_agree(&mut self) -> Result<(), Finding> {
        self.tell(|| "everything heals".into());
        self.boot_all();
        self.clients.stopped = true;
        let deadline = self.now.after_ms(PROGRESS_MS);
        while let Some(unmet) = self.unmet() {
            if self.now > deadline {
                let states = self.states();
                let what = format!("no agreement {PROGRESS_MS} ms after healing: {unmet}\n{states}");
                return Err(Kind::Stuck.found()(what));
            }
            self.step()?;
            // Whoever asked for a newcomer may have ended before it heard the answer.
            if let Some(membership) = self.membership().cloned() {
                self.start_newcomers(&membership);
            }
        }
        Ok(())
    }

    /// One line for each member.
    fn states(&self) -> String {
        let states = self.machines.iter().map(|(id, machine)| {
            let host = machine.host.as_ref();
            match host.and_then(|host| host.replica(GroupId::DEFAULT)) {
                Some(replica) => {
                    let (applied, membership) = (replica.state().applied(), replica.membership());
                    let roles: Vec<_> = membership
                        .members
                        .iter()
                        .map(|(id, member)| format!("{id} {:?}", member.role))
                        .collect();
                    format!("  {:?}, applied {applied:?}, members {roles:?}", replica.status())
                }
                None => format!("  {id} is down (lost {}, retired {})", machine.lost, machine.retired),
            }
        });
        states.collect::<Vec<_>>().join("\n")
    }

    /// What is missing until everybody has answered and all members have applied the same; `None` if nothing is.
    fn unmet(&self) -> Option<&'static str> {
        let Some(membership) = self.membership() else { return Some("nobody leads") };
        let applied = membership.members.keys().map(|id| {
            let host = self.machines.get(id).and_then(|machine| machine.host.as_ref());
            host.and_then(|host| Some(host.replica(GroupId::DEFAULT)?.state().applied()))
        });
        let applied: BTreeSet<_> = applied.collect();
        if self.clients.is_waiting() {
            Some("a client waits for an answer")
        } else if applied.contains(&None) {
            Some("a member is down")
        } else if applied.len() > 1 {
            Some("members have not applied the same")
        } else {
            membership.is_joint().then_some("the membership is joint")
        }
    }

    /// Every judge looks at what clients saw.
    fn verify(&mut self) -> Result<(), Finding> {
        let members: Vec<MemberId> = self
            .membership()
            .map(|membership| membership.members.keys().copied().collect())
            .unwrap_or_default();
        let with_data: Vec<MemberId> =
            members.into_iter().filter(|id| !self.without_data.contains(id)).collect();
        let mut hashes = BTreeSet::new();
        for id in &with_data {
            let host = self.machines.get(id).and_then(|machine| machine.host.as_ref());
            let Some(replica) = host.and_then(|host| host.replica(GroupId::DEFAULT)) else { continue };
            let reader = replica.state().reader();
            let hash = reader.hash(0).map_err(|error| error.to_string());
            hashes.insert(hash.map_err(Kind::States.found())?);
            let holding = check::durability::Holding::of(&reader).map_err(Kind::Kept.found())?;
            check::durability::check(&self.clients.records, &self.witness, &holding)
                .map_err(|what| Kind::Kept.found()(format!("member {id}: {what}")))?;
        }
        if hashes.len() != 1 {
            let what = format!("members that applied the same hold different states: {hashes:?}");
            return Err(Kind::States.found()(what));
        }
        self.finish_watches(with_data[0]).map_err(Kind::Watches.found())?;
        let records = &self.clients.records;
        self.report.operations = records.len() as u64;
        self.report.acknowledged = records.iter().filter(|record| clients::is_success(record)).count() as u64;
        let explained = check::linearizability::check(records, &self.witness).map_err(Kind::Order.found())?;
        check::compaction::check(records).map_err(Kind::Compaction.found())?;
        let clock = |from: u64, to: u64| {
            let to = Time(to.min(self.now.0));
            let passed = self
                .machines
                .values()
                .map(|machine| machine.clock.at(to).since_ms(machine.clock.before(Time(from))));
            passed.max().unwrap_or(0)
        };
        check::lease::check(records, &self.witness, &explained, &clock).map_err(Kind::Leases.found())?;
        let compactions = check::compaction::revisions(&self.clients.records);
        for followed in self.watchers.iter().flat_map(|watcher| &watcher.watches) {
            check::watch::check(&followed.watch, &self.witness, &compactions)
                .map_err(Kind::Watches.found())?;
            self.report.watched += followed.watch.heard.len() as u64;
        }
        self.observe_histories(&explained);
        match check::search::search(&self.clients.records) {
            Verdict::Linearizable(operations) => {
                self.report.searched += 1;
                self.report.searched_operations += operations as u64;
            }
            Verdict::GaveUp => self.report.gave_up += 1,
            Verdict::Not(stuck) => {
                let what = format!("no order was found: what could be next does not fit: {stuck}");
                return Err(Kind::Order.found()(what));
            }
        }
        Ok(())
    }
}
