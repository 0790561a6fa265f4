//! Rows of the table `Newest` that were written last: a put of a key that was put not long ago does not ask the engine.

use bytes::Bytes;

/// Keys of the same remainder of their checksum share a bucket: keys chosen to collide cost hits and no time.
const BUCKETS: usize = 8_192;
/// Rows in a bucket; a new one takes the place of the one that was written first.
const BUCKET_ROWS_MAX: usize = 4;
/// Keys and values that are held, at most.
const BYTES_MAX: usize = 8 << 20;
/// A longer row is not held: it would take the place of many.
const ROW_BYTES_MAX: usize = 4 << 10;

/// A row: its key, and its value.
type Row = (Bytes, Bytes);

/// Rows as the state has them now. One that is missing says nothing: it has to be looked for in the engine.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// None or [`BUCKETS`]; each in the order of writing.
    buckets: Vec<Vec<Row>>,
    bytes: usize,
}

impl Recent {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        let bucket = self.buckets.get(place(key))?;
        bucket.iter().find(|(held, _)| held == key).map(|(_, value)| value)
    }

    /// Takes a row over as it is now; `None` for one that is gone.
    pub(crate) fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        if self.buckets.is_empty() {
            self.buckets.resize_with(BUCKETS, Vec::new);
        }
        let bucket = &mut self.buckets[place(&key)];
        if let Some(at) = bucket.iter().position(|(held, _)| *held == key) {
            self.bytes -= size(&bucket.remove(at));
        }
        let Some(row) = value.map(|value| (key, value)).filter(|row| size(row) <= ROW_BYTES_MAX) else {
            return;
        };
        if bucket.len() == BUCKET_ROWS_MAX {
            self.bytes -= size(&bucket.remove(0));
        }
        if self.bytes + size(&row) > BYTES_MAX {
            self.bytes -= bucket.drain(..).map(|row| size(&row)).sum::<usize>();
        }
        if self.bytes + size(&row) <= BYTES_MAX {
            self.bytes += size(&row);
            bucket.push(row);
        }
    }
}

fn place(key: &[u8]) -> usize {
    crc32c::crc32c(key) as usize % BUCKETS
}

fn size((key, value): &Row) -> usize {
    key.len() + value.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Whatever is written, what is held is what was written last, within the bounds.
    fn check(keys: u64, value_bytes: u64) -> usize {
        let (mut recent, mut twin) = (Recent::default(), BTreeMap::new());
        let mut state = 1_u64;
        for _ in 0..4 * keys {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = state >> 20;
            let key = Bytes::from(format!("key/{}", random % keys));
            let value = Bytes::from(vec![random as u8; (random / 7 % value_bytes) as usize]);
            let value = Some(value).filter(|_| !(random / 11).is_multiple_of(4));
            recent.set(key.clone(), value.clone());
            twin.insert(key, value);
        }
        let mut held = 0;
        for (key, value) in &twin {
            if let Some(found) = recent.get(key) {
                assert_eq!(Some(found), value.as_ref());
                held += 1;
            }
        }
        let rows = || recent.buckets.iter().flatten();
        assert_eq!(rows().count(), held);
        assert_eq!(rows().map(size).sum::<usize>(), recent.bytes);
        assert!(recent.bytes <= BYTES_MAX);
        held
    }

    #[test]
    fn few_keys_are_held_all() {
        // A quarter was deleted last.
        let held = check(2_000, 100);
        assert!((1_400..1_600).contains(&held), "{held}");
    }

    #[test]
    fn many_keys_stay_within_the_buckets() {
        let held = check(200_000, 10);
        assert!(held <= BUCKETS * BUCKET_ROWS_MAX && held > BUCKETS, "{held}");
    }

    #[test]
    fn large_rows_stay_within_the_bytes() {
        let held = check(40_000, 6_000);
        assert!(held > BYTES_MAX / ROW_BYTES_MAX, "{held}");
    }
}
