//! What must hold over a whole run, as far as one run remembers it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::hashed::Hashed;
use super::node::Node;
use crate::entry::Entry;
use crate::id::{Epoch, Index, MemberId, ReadId};
use crate::kind::ProtocolKind;
use crate::log::LogRead;
use crate::protocol::{Part, Status};
use crate::quorum::Quorum;

/// What one run has seen.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct History {
    committed: BTreeMap<Index, Committed>,
    /// By epoch, and in Multi-Paxos by the stop behind which its voters count: those on either side of one number their ballots alike.
    leaders: BTreeMap<(Epoch, Index), MemberId>,
    /// By epoch and index the value that was ever proposed there.
    proposed: BTreeMap<(Epoch, Index), Bytes>,
    /// Reads under way, with the commit index that they must not fall behind.
    reads: BTreeMap<(MemberId, ReadId), Index>,
}

/// What was committed, as somebody first knew it.
#[derive(Clone, Debug, Hash)]
struct Committed {
    /// The epoch in which that member was.
    epoch: Epoch,
    entry: Entry,
    /// Who had it durably then, and must keep it.
    holders: BTreeSet<MemberId>,
}

type Nodes = BTreeMap<MemberId, Hashed<Node>>;

impl History {
    /// The last index that somebody committed.
    pub(super) fn committed(&self) -> Index {
        self.committed.last_key_value().map_or(Index(0), |(index, _)| *index)
    }

    pub(super) fn asked(&mut self, id: MemberId, read: ReadId) {
        let floor = self.committed();
        self.reads.insert((id, read), floor);
    }

    /// Linearizability of reads: what was committed when it was asked is in.
    pub(super) fn answered(&mut self, id: MemberId, read: ReadId, index: Index) -> Result<(), String> {
        match self.reads.remove(&(id, read)) {
            Some(floor) if index < floor => Err(format!("{id} reads at {index}, but {floor} was committed")),
            Some(_) | None => Ok(()),
        }
    }

    /// One value in an epoch and index (Raft: Log Matching, first part; Paxos: one value per ballot and slot; Zab: Integrity).
    pub(super) fn wrote(&mut self, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let known =
                self.proposed.entry((entry.epoch, entry.index)).or_insert_with(|| entry.payload.clone());
            if *known != entry.payload {
                return Err(format!("two values in epoch {} at {}", entry.epoch, entry.index));
            }
        }
        Ok(())
    }

    /// Member `id` took a step that needs `quorum` to commit. Most steps add nothing to the history.
    pub(super) fn check(
        this: &mut Hashed<Self>,
        kind: ProtocolKind,
        id: MemberId,
        quorum: &Quorum,
        nodes: &Nodes,
    ) -> Result<(), String> {
        let node = &nodes[&id];
        let status = node.machine.status();
        if status.part == Part::Leader {
            let voters = (status.epoch, node.machine.membership().voters_since);
            if !this.leaders.contains_key(&voters) {
                this.change().leaders.insert(voters, id);
            }
            let leader = this.leaders[&voters];
            if leader != id {
                return Err(format!("{leader} and {id} lead in epoch {}", status.epoch));
            }
            this.leads(kind, &status, node)?;
        }
        for index in (1..=status.commit.0).map(Index) {
            let found =
                node.log.entries(index, index.next(), 1).map_err(|_| format!("{id} committed a hole"))?;
            let entry = &found[0];
            if this.committed.contains_key(&index) {
                this.agrees(kind, id, entry)?;
            } else {
                let holders = holders(kind, &status, entry, quorum, nodes)?;
                let committed = Committed { epoch: status.epoch, entry: entry.clone(), holders };
                this.change().committed.insert(index, committed);
            }
        }
        if kind != ProtocolKind::MultiPaxos {
            logs_match(id, nodes)?;
        }
        this.keeps(kind, id, node)
    }

    /// What a quorum had durably is not lost again.
    fn keeps(&self, kind: ProtocolKind, id: MemberId, node: &Node) -> Result<(), String> {
        let held = self.committed.iter().filter(|(_, it)| it.holders.contains(&id));
        match held.into_iter().find(|(_, it)| !node.holds(kind, &it.entry, it.epoch)) {
            Some((index, _)) => Err(format!("{id} was needed to commit {index}, and has lost it")),
            None => Ok(()),
        }
    }

    /// A leader of Raft or Zab has all that was committed before (Raft: Leader Completeness; Zab:
    /// Primary Integrity), and a primary of Zab has made its epoch current.
    fn leads(&self, kind: ProtocolKind, status: &Status, node: &Node) -> Result<(), String> {
        if kind == ProtocolKind::MultiPaxos {
            return Ok(());
        }
        for (index, Committed { epoch, entry, .. }) in &self.committed {
            if *epoch < status.epoch && node.log.epoch(*index) != Ok(entry.epoch) {
                return Err(format!(
                    "{} leads in epoch {} without committed {index}",
                    status.id, status.epoch
                ));
            }
        }
        if kind == ProtocolKind::Zab && node.durable_hard.established != status.epoch {
            return Err(format!("{} leads in epoch {}, which is not current there", status.id, status.epoch));
        }
        Ok(())
    }

    /// Agreement: what `id` holds for committed is what others committed.
    fn agrees(&self, kind: ProtocolKind, id: MemberId, entry: &Entry) -> Result<(), String> {
        let known = &self.committed[&entry.index].entry;
        let same = match kind {
            // One value, whatever ballots it was accepted in.
            ProtocolKind::MultiPaxos => known.payload == entry.payload && known.kind == entry.kind,
            ProtocolKind::Raft | ProtocolKind::Zab => known == entry,
        };
        if same { Ok(()) } else { Err(format!("{id} committed something else at {}", entry.index)) }
    }
}

/// Who has durably what is committed: a quorum.
fn holders(
    kind: ProtocolKind,
    status: &Status,
    entry: &Entry,
    quorum: &Quorum,
    nodes: &Nodes,
) -> Result<BTreeSet<MemberId>, String> {
    let holds = |id: &MemberId| nodes.get(id).is_some_and(|it| it.holds(kind, entry, status.epoch));
    let holders: BTreeSet<_> = quorum.voters().into_iter().filter(holds).collect();
    if quorum.reached(|id| holders.contains(&id)) {
        Ok(holders)
    } else {
        Err(format!("{} committed {}, which is not durable on a quorum", status.id, entry.index))
    }
}

/// Log Matching (Raft, thesis 3.5; Zab: Total Order): where two logs have an entry of one epoch, they are equal before it.
fn logs_match(id: MemberId, nodes: &Nodes) -> Result<(), String> {
    let mine = &nodes[&id].log;
    for (other, node) in nodes.iter().filter(|(other, _)| **other != id) {
        let theirs = &node.log;
        let mut index = mine.last_index().min(theirs.last_index());
        while index.0 > 0 && mine.epoch(index) != theirs.epoch(index) {
            index = index.previous();
        }
        let differs = (1..=index.0).map(Index).find(|index| mine.epoch(*index) != theirs.epoch(*index));
        if let Some(at) = differs {
            return Err(format!("the logs of {id} and {other} agree at {index} and differ at {at}"));
        }
    }
    Ok(())
}
