//! Which keys are used, and how often each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use bytes::Bytes;

use super::zipf::Zipf;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Distribution {
    /// One after the other, from the first again after the last
    Sequential,
    /// Each equally often
    Uniform,
    /// A few very often (exponent 0.99, as YCSB has it); the often used ones lie spread over all keys
    Zipf,
}

/// Exponent of YCSB's Zipfian chooser.
const ZIPF_EXPONENT: f64 = 0.99;
/// Popular keys lie this far apart, like points of the golden section.
const SPREAD: f64 = 0.618_033_988_749_895;

/// The names of keys: a prefix, zeros and the number.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: Vec<u8>,
    size_bytes: usize,
}

impl Names {
    /// # Errors
    /// Prefix and numbers do not fit in the size, or there is no prefix.
    pub(super) fn new(prefix: &str, keys: u64, size_bytes: usize) -> Result<Self> {
        if prefix.is_empty() {
            bail!("--prefix must not be empty: it keeps these keys apart from all others");
        }
        let digits = keys.saturating_sub(1).to_string().len();
        if prefix.len() + digits > size_bytes {
            bail!(
                "keys of {size_bytes} bytes have no room for the prefix {prefix:?} and {digits} digits: \
                 choose a larger --key-size or a shorter --prefix"
            );
        }
        Ok(Self { prefix: prefix.into(), size_bytes })
    }

    /// The name of a key.
    pub(super) fn name(&self, number: u64) -> Bytes {
        let mut name = vec![b'0'; self.size_bytes];
        name[..self.prefix.len()].copy_from_slice(&self.prefix);
        let mut rest = number;
        for digit in name[self.prefix.len()..].iter_mut().rev() {
            if rest == 0 {
                break;
            }
            // Below ten.
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        name.into()
    }

    /// How long each is.
    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// What all of them begin with.
    pub(super) fn begin(&self) -> Bytes {
        self.prefix.clone().into()
    }

    /// The first name after all of them.
    pub(super) fn end(&self) -> Bytes {
        let mut end = self.prefix.clone();
        // The character after the last digit.
        end.push(b'9' + 1);
        end.into()
    }
}

/// Chooses numbers of keys.
#[derive(Clone, Debug)]
pub(super) enum Chooser {
    /// The counter is shared by all clients.
    Sequential {
        next: Arc<AtomicU64>,
        keys: u64,
    },
    Uniform {
        keys: u64,
    },
    Zipf {
        zipf: Zipf,
        keys: u64,
        step: u64,
    },
}

impl Chooser {
    pub(super) fn new(distribution: Distribution, keys: u64) -> Self {
        match distribution {
            Distribution::Sequential => Self::Sequential { next: Arc::default(), keys },
            Distribution::Uniform => Self::Uniform { keys },
            Distribution::Zipf => {
                Self::Zipf { zipf: Zipf::new(keys, ZIPF_EXPONENT), keys, step: coprime_step(keys) }
            }
        }
    }

    pub(super) fn next(&self, random: &mut fastrand::Rng) -> u64 {
        match self {
            Self::Sequential { next, keys } => next.fetch_add(1, Ordering::Relaxed) % keys,
            Self::Uniform { keys } => random.u64(0..*keys),
            Self::Zipf { zipf, keys, step } => {
                let rank = u128::from(zipf.sample(random) - 1);
                // Below `keys`.
                (rank * u128::from(*step) % u128::from(*keys)) as u64
            }
        }
    }
}

/// A step that visits all keys once before it comes back to the first.
fn coprime_step(keys: u64) -> u64 {
    let divisor = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let first = ((keys as f64 * SPREAD) as u64).max(1);
    (first..).find(|step| divisor(*step, keys) == 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(distribution: Distribution, keys: u64, draws: u64) -> Vec<u64> {
        let chooser = Chooser::new(distribution, keys);
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; keys as usize];
        (0..draws).for_each(|_| counts[chooser.next(&mut random) as usize] += 1);
        counts
    }

    #[test]
    fn names_sort_as_their_numbers_and_lie_before_the_end() {
        let names = Names::new("bench/", 1_000, 12).unwrap();
        assert_eq!(names.name(0), "bench/000000");
        assert_eq!(names.name(987), "bench/000987");
        assert!(names.name(999) < names.end() && names.name(99) < names.name(100));
        assert!(Names::new("bench/", 1_000, 9).is_ok());
        assert!(Names::new("bench/", 1_001, 9).unwrap_err().to_string().contains("--key-size"));
    }

    #[test]
    fn sequential_keys_come_in_turn_over_all_clients() {
        let chooser = Chooser::new(Distribution::Sequential, 3);
        let other = chooser.clone();
        let mut random = fastrand::Rng::with_seed(1);
        let drawn = [&chooser, &other, &chooser, &other].map(|chooser| chooser.next(&mut random));
        assert_eq!(drawn, [0, 1, 2, 0]);
    }

    #[test]
    fn uniform_keys_come_equally_often() {
        let counts = counts(Distribution::Uniform, 10, 100_000);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn zipf_keys_come_as_often_as_their_rank_says() {
        let keys = 1_000;
        let mut counts = counts(Distribution::Zipf, keys, 1_000_000);
        // The most popular key is the first; the next one lies a golden section away.
        let step = coprime_step(keys) as usize;
        assert!(counts[0] > counts[step] && counts[step] > counts[2 * step % 1_000]);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let weights: f64 = (1..=keys).map(|rank| (rank as f64).powf(-ZIPF_EXPONENT)).sum();
        for rank in [1, 2, 5, 20] {
            let expected = 1e6 * f64::from(rank).powf(-ZIPF_EXPONENT) / weights;
            let seen = counts[rank as usize - 1] as f64;
            assert!((seen / expected - 1.0).abs() < 0.05, "rank {rank}: {seen}, expected {expected}");
        }
    }
}
