//! How many keys there are before a key, without a walk over them: what every limited range answers with (etcd walks its whole
//! index for it).
//!
//! The key space is cut into chunks of at most [`CHUNK_KEYS_MAX`] keys. Memory holds where each chunk begins and how many keys
//! it has, as a B-tree whose nodes know the sums below them; keys themselves stay in the engine. A count is the sum of whole chunks,
//! found in logarithmic time, and a scan of the two at the ends. The tree is persistent: a clone shares everything with the
//! original, and a change copies one path.

use std::sync::Arc;

use bytes::Bytes;

/// Keys of a chunk; one that has more is split. Counting scans less than two of them; each costs about a hundred bytes.
pub(crate) const CHUNK_KEYS_MAX: u64 = if cfg!(test) { 4 } else { 64 };
/// Parts of a node; one that has more is split.
const PARTS_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// From a key up to the next part: one chunk, or a node of the tree.
#[derive(Clone, Debug)]
struct Part {
    first: Bytes,
    keys: u64,
    /// `None`: a chunk.
    node: Option<Arc<Vec<Part>>>,
}

impl Part {
    fn chunk(first: Bytes, keys: u64) -> Self {
        Self { first, keys, node: None }
    }

    fn node(parts: Vec<Self>) -> Self {
        let first = parts.first().map(|part| part.first.clone()).unwrap_or_default();
        Self { first, keys: parts.iter().map(|part| part.keys).sum(), node: Some(Arc::new(parts)) }
    }
}

/// A chunk: where it begins, where the next one does, and its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) first: Bytes,
    /// `None`: it is the last.
    pub(crate) end: Option<Bytes>,
    pub(crate) keys: u64,
    /// Keys of all chunks before it.
    pub(crate) before: u64,
}

/// The counts of one state.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    root: Part,
}

impl Default for Counts {
    fn default() -> Self {
        Self { root: Part::node(vec![Part::chunk(Bytes::new(), 0)]) }
    }
}

impl Counts {
    /// Counts keys that come in order.
    ///
    /// # Errors
    /// The first one of the keys.
    pub(crate) fn of<E>(keys: impl Iterator<Item = Result<Bytes, E>>) -> Result<Self, E> {
        // Half full, as splits leave them.
        let mut parts: Vec<Part> = vec![Part::chunk(Bytes::new(), 0)];
        for key in keys {
            let key = key?;
            match parts.last_mut() {
                Some(last) if last.keys < CHUNK_KEYS_MAX / 2 => last.keys += 1,
                Some(_) | None => parts.push(Part::chunk(key, 1)),
            }
        }
        while parts.len() > PARTS_MAX {
            parts = parts.chunks(PARTS_MAX / 2).map(|parts| Part::node(parts.to_vec())).collect();
        }
        Ok(Self { root: Part::node(parts) })
    }

    /// All keys.
    pub(crate) fn keys(&self) -> u64 {
        self.root.keys
    }

    /// The chunk that a key belongs to.
    pub(crate) fn chunk(&self, key: &[u8]) -> Chunk {
        let (mut part, mut end, mut before) = (&self.root, None, 0);
        while let Some(parts) = &part.node {
            let at = place(parts, key);
            before += parts[..at].iter().map(|part| part.keys).sum::<u64>();
            end = parts.get(at + 1).map(|next| next.first.clone()).or(end);
            part = &parts[at];
        }
        Chunk { first: part.first.clone(), end, keys: part.keys, before }
    }

    /// A key is there that was not; `true` if its chunk has too many now and is to be [split](Self::split).
    pub(crate) fn add(&mut self, key: &[u8]) -> bool {
        let mut part = &mut self.root;
        loop {
            part.keys += 1;
            match &mut part.node {
                None => return part.keys > CHUNK_KEYS_MAX,
                Some(parts) => {
                    let at = place(parts, key);
                    part = &mut Arc::make_mut(parts)[at];
                }
            }
        }
    }

    /// A key is gone.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        remove(&mut self.root, key);
    }

    /// Ends a chunk before a key; `keys` of it stand there or behind.
    pub(crate) fn split(&mut self, at: &Bytes, keys: u64) {
        if let Some(right) = split(&mut self.root, at, keys) {
            let left = std::mem::replace(&mut self.root, Part::chunk(Bytes::new(), 0));
            self.root = Part::node(vec![left, right]);
        }
    }
}

/// Which part a key belongs to; a node has one at least, and the first begins no later than the keys asked for.
fn place(parts: &[Part], key: &[u8]) -> usize {
    parts.partition_point(|part| *part.first <= *key).saturating_sub(1)
}

fn remove(part: &mut Part, key: &[u8]) {
    part.keys = part.keys.saturating_sub(1);
    let Some(parts) = &mut part.node else { return };
    let parts = Arc::make_mut(parts);
    let at = place(parts, key);
    remove(&mut parts[at], key);
    // What has become small joins its neighbour, so that keys that come and go leave no chunks behind.
    let left = at.saturating_sub(1);
    for at in [at, left] {
        if let [one, other, ..] = &parts[at..]
            && let Some(joined) = joined(one, other)
        {
            parts[at] = joined;
            parts.remove(at + 1);
        }
    }
}

/// Two neighbours as one, if they are small enough.
fn joined(left: &Part, right: &Part) -> Option<Part> {
    let (first, keys) = (left.first.clone(), left.keys + right.keys);
    match (&left.node, &right.node) {
        (None, None) => (keys <= CHUNK_KEYS_MAX / 2).then(|| Part::chunk(first, keys)),
        (Some(one), Some(other)) => (one.len() + other.len() <= PARTS_MAX / 2).then(|| Part {
            first,
            keys,
            node: Some(Arc::new([&one[..], &other[..]].concat())),
        }),
        // All leaves are equally deep.
        (None, Some(_)) | (Some(_), None) => None,
    }
}

/// Splits the chunk of a key; the right half of this part if it has too many parts then.
fn split(part: &mut Part, at: &Bytes, keys: u64) -> Option<Part> {
    let Some(parts) = &mut part.node else {
        part.keys -= keys;
        return Some(Part::chunk(at.clone(), keys));
    };
    let parts = Arc::make_mut(parts);
    let place = place(parts, at);
    let right = split(&mut parts[place], at, keys)?;
    parts.insert(place + 1, right);
    if parts.len() <= PARTS_MAX {
        return None;
    }
    let right = Part::node(parts.split_off(parts.len() / 2));
    part.keys -= right.keys;
    Some(right)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use super::*;

    type Keys = BTreeSet<Bytes>;

    fn key(number: u16) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    fn of(keys: &Keys) -> Counts {
        let all: Result<_, Infallible> = Counts::of(keys.iter().cloned().map(Ok));
        all.unwrap()
    }

    fn change(counts: &mut Counts, keys: &mut Keys, number: u16, present: bool) {
        let key = key(number);
        if present && keys.insert(key.clone()) && counts.add(&key) {
            let chunk = counts.chunk(&key);
            let inside: Vec<&Bytes> = keys
                .range(chunk.first..)
                .take_while(|key| chunk.end.as_ref().is_none_or(|end| *key < end))
                .collect();
            let middle = inside.len() / 2;
            counts.split(inside[middle], (inside.len() - middle) as u64);
        } else if !present && keys.remove(&key) {
            counts.remove(&key);
        }
    }

    /// Chunks cover all keys in order, with the right sums; none is too large.
    fn check(counts: &Counts, keys: &Keys) {
        assert_eq!(counts.keys(), keys.len() as u64);
        let (mut first, mut before) = (Bytes::new(), 0);
        loop {
            let chunk = counts.chunk(&first);
            assert_eq!((&chunk.first, chunk.before), (&first, before));
            let inside = |key: &&Bytes| chunk.end.as_ref().is_none_or(|end| *key < end);
            assert_eq!(chunk.keys, keys.range(first..).take_while(inside).count() as u64);
            assert!(chunk.keys <= CHUNK_KEYS_MAX);
            before += chunk.keys;
            match chunk.end {
                Some(end) => first = end,
                None => break,
            }
        }
        assert_eq!(before, keys.len() as u64);
    }

    proptest::proptest! {
        #[test]
        fn chunks_are_counted_whatever_comes_and_goes(
            begin in proptest::collection::btree_set(0u16..400, 0..200),
            changes in proptest::collection::vec((0u16..400, proptest::bool::weighted(0.6)), 0..400),
        ) {
            let mut keys: Keys = begin.into_iter().map(key).collect();
            let mut counts = of(&keys);
            check(&counts, &keys);
            for (number, present) in changes {
                let before = (counts.clone(), keys.clone());
                change(&mut counts, &mut keys, number, present);
                check(&before.0, &before.1);
                check(&counts, &keys);
            }
        }
    }

    #[test]
    fn keys_that_come_and_go_leave_no_chunks_behind() {
        let (mut counts, mut keys) = (Counts::default(), Keys::new());
        for number in 0..1_000 {
            change(&mut counts, &mut keys, number, true);
            if let Some(old) = number.checked_sub(5) {
                change(&mut counts, &mut keys, old, false);
            }
        }
        (995..1_000).for_each(|number| change(&mut counts, &mut keys, number, false));
        check(&counts, &keys);
        let mut chunks = 1;
        let mut at = counts.chunk(b"");
        while let Some(end) = at.end {
            at = counts.chunk(&end);
            chunks += 1;
        }
        // One for each node that was split off may be left.
        assert!(chunks < 10, "{chunks}");
    }
}
