//! Requests of this member's clients that wait for an answer.

use std::collections::{BTreeMap, BTreeSet};

use quorate_consensus::id::{Index, MemberId, Time};

use crate::event::RequestId;

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Its command to be applied here.
    Applied,
    /// An index from the protocol.
    ReadIndex,
    /// This index to be applied here.
    ReadAt(Index),
    /// The leader's word that the membership changed.
    Decided,
    /// The entry that changed the membership to be applied here.
    ChangedAt(Index),
    /// Somebody else (this member, if named) to lead.
    NewLeader {
        /// Who led.
        from: MemberId,
        /// Who shall.
        to: Option<MemberId>,
    },
    /// The leader's word about a lease.
    Lease,
}

/// The requests by name, bounded.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    requests: BTreeMap<RequestId, (Time, Waiting)>,
    by_deadline: BTreeSet<(Time, RequestId)>,
    by_index: BTreeSet<(Index, RequestId)>,
}

impl Waiting {
    fn index(self) -> Option<Index> {
        match self {
            Self::ReadAt(index) | Self::ChangedAt(index) => Some(index),
            Self::Applied | Self::ReadIndex | Self::Decided | Self::NewLeader { .. } | Self::Lease => None,
        }
    }
}

impl Pending {
    /// How many may wait on one member: etcd's bound on the gap between commit and apply. More are refused.
    pub(crate) const REQUESTS_MAX: usize = 5_000;

    pub(crate) fn is_full(&self) -> bool {
        self.requests.len() >= Self::REQUESTS_MAX
    }

    pub(crate) fn contains(&self, id: RequestId) -> bool {
        self.requests.contains_key(&id)
    }

    pub(crate) fn insert(&mut self, id: RequestId, deadline: Time, waiting: Waiting) {
        assert!(self.requests.insert(id, (deadline, waiting)).is_none(), "request {id:?} was named twice");
        self.by_deadline.insert((deadline, id));
        self.by_index.extend(waiting.index().map(|index| (index, id)));
    }

    /// Changes what a request waits for, if it still does.
    pub(crate) fn update(&mut self, id: RequestId, waiting: Waiting) {
        if let Some((deadline, _)) = self.take(id) {
            self.insert(id, deadline, waiting);
        }
    }

    /// Takes a request out; `None` if nobody waits (any more).
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Waiting> {
        self.take(id).map(|(_, waiting)| waiting)
    }

    fn take(&mut self, id: RequestId) -> Option<(Time, Waiting)> {
        let (deadline, waiting) = self.requests.remove(&id)?;
        self.by_deadline.remove(&(deadline, id));
        if let Some(index) = waiting.index() {
            self.by_index.remove(&(index, id));
        }
        Some((deadline, waiting))
    }

    /// Takes out every request whose deadline has passed.
    pub(crate) fn take_expired(&mut self, now: Time) -> Vec<RequestId> {
        let ids: Vec<RequestId> =
            self.by_deadline.iter().take_while(|(deadline, _)| *deadline <= now).map(|&(_, id)| id).collect();
        for &id in &ids {
            self.take(id);
        }
        ids
    }

    /// Takes out every request that waited for this index, or one before it, to be applied.
    pub(crate) fn take_applied(&mut self, applied: Index) -> Vec<(RequestId, Waiting)> {
        let ids: Vec<RequestId> =
            self.by_index.iter().take_while(|(index, _)| *index <= applied).map(|&(_, id)| id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// Takes out the requests for a new leader. Rare, so it may look at all.
    pub(crate) fn take_transfers(&mut self, leader: MemberId) -> Vec<RequestId> {
        let done = |waiting: &Waiting| match *waiting {
            Waiting::NewLeader { from, to } => to.map_or(leader != from, |to| to == leader),
            Waiting::Applied
            | Waiting::ReadIndex
            | Waiting::ReadAt(_)
            | Waiting::Decided
            | Waiting::ChangedAt(_)
            | Waiting::Lease => false,
        };
        let ids: Vec<RequestId> =
            self.requests.iter().filter(|(_, (_, waiting))| done(waiting)).map(|(&id, _)| id).collect();
        for &id in &ids {
            self.take(id);
        }
        ids
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.by_deadline.first().map(|&(deadline, _)| deadline)
    }
}
