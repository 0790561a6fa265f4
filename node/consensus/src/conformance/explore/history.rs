//! What must hold over a whole run, as far as one run remembers it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::cluster::Node;
use crate::entry::Entry;
use crate::id::{Epoch, Index, MemberId, ReadId};
use crate::kind::ProtocolKind;
use crate::log::LogRead;
use crate::protocol::{Part, Status};

/// What one run has seen.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct History {
    /// By index what was committed, and the epoch in which somebody first knew.
    committed: BTreeMap<Index, (Epoch, Entry)>,
    leaders: BTreeMap<Epoch, MemberId>,
    /// By epoch and index the value that was ever proposed there.
    proposed: BTreeMap<(Epoch, Index), Bytes>,
    /// Reads under way, with the commit index that they must not fall behind.
    reads: BTreeMap<(MemberId, ReadId), Index>,
}

type Nodes = BTreeMap<MemberId, Node>;

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

    /// Member `id` took a step, and knows of commits up to `commit`.
    pub(super) fn check(&mut self, kind: ProtocolKind, id: MemberId, nodes: &Nodes) -> Result<(), String> {
        let node = &nodes[&id];
        let status = node.machine.status();
        self.one_leader(kind, &status, node)?;
        self.commits(kind, id, &status, nodes)?;
        if kind != ProtocolKind::MultiPaxos {
            logs_match(id, nodes)?;
        }
        Ok(())
    }

    /// One leader in an epoch. A leader of Raft or Zab has all that was committed before (Raft: Leader Completeness; Zab:
    /// Primary Integrity), and a primary of Zab has made its epoch current.
    fn one_leader(&mut self, kind: ProtocolKind, status: &Status, node: &Node) -> Result<(), String> {
        if status.part != Part::Leader {
            return Ok(());
        }
        let leader = *self.leaders.entry(status.epoch).or_insert(status.id);
        if leader != status.id {
            return Err(format!("{leader} and {} lead in epoch {}", status.id, status.epoch));
        }
        if kind == ProtocolKind::MultiPaxos {
            return Ok(());
        }
        for (index, (epoch, entry)) in &self.committed {
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

    /// Agreement, and that what is committed is durable on a quorum.
    fn commits(
        &mut self,
        kind: ProtocolKind,
        id: MemberId,
        status: &Status,
        nodes: &Nodes,
    ) -> Result<(), String> {
        let node = &nodes[&id];
        for index in (1..=status.commit.0).map(Index) {
            let found =
                node.log.entries(index, index.next(), 1).map_err(|_| format!("{id} committed a hole"))?;
            let entry = found[0].clone();
            let Some((_, known)) = self.committed.get(&index) else {
                let quorum = node.machine.membership().quorum();
                let holds = |holder| {
                    nodes.get(&holder).is_some_and(|holder| holder.holds(kind, &entry, status.epoch))
                };
                if !quorum.reached(holds) {
                    return Err(format!("{id} committed {index}, which is not durable on a quorum"));
                }
                self.committed.insert(index, (status.epoch, entry));
                continue;
            };
            let same = match kind {
                // One value, whatever ballots it was accepted in.
                ProtocolKind::MultiPaxos => known.payload == entry.payload && known.kind == entry.kind,
                ProtocolKind::Raft | ProtocolKind::Zab => *known == entry,
            };
            if !same {
                return Err(format!("{id} committed something else at {index}"));
            }
        }
        Ok(())
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
