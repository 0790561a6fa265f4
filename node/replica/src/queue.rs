//! Commands on their way to the leader's log, or to the leader.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::event::RequestId;
use crate::payload::Origin;

/// Commands in the order they came. Those for which a leader has no room wait here until what it has under way is decided: a
/// client waits rather than being refused, as long as memory allows.
#[derive(Debug, Default)]
pub(crate) struct CommandQueue {
    commands: VecDeque<(Origin, Bytes)>,
    size_bytes: usize,
}

impl CommandQueue {
    /// Bytes that may wait, about: what a fast disk writes while a client waits for its answer. With more a member is overloaded.
    const SIZE_BYTES_MAX: usize = 256 << 20;

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.size_bytes >= Self::SIZE_BYTES_MAX
    }

    pub(crate) fn push(&mut self, origin: Origin, command: Bytes) {
        self.size_bytes += command.len();
        self.commands.push_back((origin, command));
    }

    /// Takes the first ones, until they fill the room.
    pub(crate) fn take(&mut self, mut room_bytes: usize) -> Vec<(Origin, Bytes)> {
        let mut taken = Vec::new();
        while room_bytes > 0
            && let Some((origin, command)) = self.commands.pop_front()
        {
            room_bytes = room_bytes.saturating_sub(command.len());
            self.size_bytes -= command.len();
            taken.push((origin, command));
        }
        taken
    }

    /// Forgets those whose origin does not pass.
    pub(crate) fn retain(&mut self, passes: impl Fn(Origin) -> bool) {
        self.commands.retain(|(origin, _)| passes(*origin));
        self.size_bytes = self.commands.iter().map(|(_, command)| command.len()).sum();
    }

    /// Puts a member's own commands before all others, instead of those of it that are here.
    pub(crate) fn replace<'a>(
        &mut self,
        member: quorate_consensus::id::MemberId,
        commands: impl Iterator<Item = (RequestId, &'a Bytes)>,
    ) {
        let own: Vec<_> =
            commands.map(|(request, command)| (Origin { member, request }, command.clone())).collect();
        self.retain(|origin| origin.member != member);
        for (origin, command) in own.into_iter().rev() {
            self.size_bytes += command.len();
            self.commands.push_front((origin, command));
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_consensus::id::MemberId;

    use super::*;

    fn origin(member: u64, request: u64) -> Origin {
        Origin { member: MemberId(member), request: RequestId(request) }
    }

    #[test]
    fn what_finds_no_room_waits_in_order() {
        let mut queue = CommandQueue::default();
        for request in 1..=4 {
            queue.push(origin(1, request), Bytes::from(vec![0; 10]));
        }
        assert!(queue.take(0).is_empty());
        let requests = |taken: Vec<(Origin, Bytes)>| -> Vec<u64> {
            taken.into_iter().map(|(origin, _)| origin.request.0).collect()
        };
        // The last one may be larger than the room.
        assert_eq!(requests(queue.take(11)), [1, 2]);
        queue.push(origin(2, 9), Bytes::from(vec![0; 10]));
        let again =
            [(RequestId(1), Bytes::from_static(b"one")), (RequestId(3), Bytes::from_static(b"three"))];
        queue.replace(MemberId(1), again.iter().map(|(request, command)| (*request, command)));
        assert_eq!(queue.size_bytes, 3 + 5 + 10);
        assert_eq!(requests(queue.take(usize::MAX)), [1, 3, 9]);
        assert!(queue.is_empty() && queue.size_bytes == 0);
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut queue = CommandQueue::default();
        let half = Bytes::from(vec![0; CommandQueue::SIZE_BYTES_MAX / 2]);
        queue.push(origin(1, 1), half.clone());
        assert!(!queue.is_full());
        queue.push(origin(1, 2), half);
        assert!(queue.is_full());
        queue.take(1);
        assert!(!queue.is_full());
    }
}
