//! Rare states of Zab's synchronisation (phase 2), seen from the messages that arrive and the members that stop. SNAP is seen as an
//! installed snapshot: Zab sends none outside this phase.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_consensus::id::{Epoch, Index, MemberId};
use quorate_consensus::kind::ProtocolKind;
use quorate_consensus::log::LogRead as _;
use quorate_consensus::zab;
use quorate_replica::envelope::Envelope;
use quorate_replica::event::GroupId;
use quorate_replica::host::Host;

use super::World;

/// A leader's DIFF has brought a follower to what NEWLEADER names.
pub(super) const DIFF: &str = "synchronised by DIFF";
/// A follower drops what is not in the leader's history.
pub(super) const TRUNC: &str = "history cut by TRUNC";
/// A follower stops with history of the leader's on its disk, and not yet its epoch as the current one.
pub(super) const BEFORE_EPOCH: &str = "crash between history and current epoch";

/// The last entry of a log.
type End = (Index, Option<Epoch>);

/// By member, the newest epoch that it accepted, and where its log ended then.
#[derive(Debug, Default)]
pub(super) struct Accepted(BTreeMap<MemberId, (Epoch, End)>);

fn end(host: &Host) -> End {
    let log = host.log(GroupId::DEFAULT);
    let last = log.last_index();
    (last, log.epoch(last).ok())
}

impl Accepted {
    fn stepped(&mut self, id: MemberId, host: &Host) {
        let epoch = host.hard_state(GroupId::DEFAULT).epoch;
        if self.0.get(&id).is_none_or(|(known, _)| *known != epoch) {
            self.0.insert(id, (epoch, end(host)));
        }
    }

    /// Whether a member that has not made its epoch the current one has other history than when it accepted it.
    fn has_history(&self, id: MemberId, host: &Host) -> bool {
        let hard = host.hard_state(GroupId::DEFAULT);
        let Some((epoch, accepted)) = self.0.get(&id) else { return false };
        hard.established < hard.epoch && *epoch == hard.epoch && *accepted != end(host)
    }
}

impl World {
    /// A member took a step.
    pub(super) fn accepts(&mut self, id: MemberId) {
        let host = self.machines.get(&id).and_then(|machine| machine.host.as_ref());
        if let (ProtocolKind::Zab, Some(host)) = (self.protocol, host) {
            self.accepted.stepped(id, host);
        }
    }

    /// A message is about to be taken by a member.
    pub(super) fn hears(&mut self, id: MemberId, payload: &Bytes) {
        if self.protocol != ProtocolKind::Zab {
            return;
        }
        let Some(host) = self.machines.get(&id).and_then(|machine| machine.host.as_ref()) else { return };
        let Ok(Envelope::Protocol(inner)) = Envelope::decode(payload.clone()) else { return };
        let Ok(zab::Message { body, .. }) = zab::Message::decode(inner) else { return };
        if let zab::Body::Truncate { to } = body
            && end(host).0 > to.index
        {
            self.reached(TRUNC);
        } else if let zab::Body::NewLeader { last } = body
            && end(host) == (last.index, Some(last.epoch))
            && self.accepted.has_history(id, host)
        {
            self.reached(DIFF);
        }
    }

    /// A member is about to stop.
    pub(super) fn stops_unsynchronised(&mut self, id: MemberId) {
        let Some(host) = self.machines.get(&id).and_then(|machine| machine.host.as_ref()) else { return };
        let (durable, _) = host.durable(GroupId::DEFAULT);
        let whole = durable == end(host).0;
        if self.protocol == ProtocolKind::Zab && whole && self.accepted.has_history(id, host) {
            self.reached(BEFORE_EPOCH);
        }
    }
}
