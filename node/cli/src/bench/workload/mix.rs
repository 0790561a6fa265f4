//! Which operations, in which ratio.

use anyhow::{Context as _, Result, bail};

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Operation {
    /// Writes a key.
    Put,
    /// Reads a key.
    Get { serializable: bool },
    /// Reads so many keys that follow each other.
    Range { keys: u64, serializable: bool },
    /// Reads all keys in pages, all at the revision of the first page, as Kubernetes lists.
    List { page: u64 },
    /// Writes a key if nobody wrote it since this client last saw it, else reads it.
    Swap,
}

impl Operation {
    /// Its class in the results.
    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get { .. } => "get",
            Self::Range { .. } => "range",
            Self::List { .. } => "list",
            Self::Swap => "txn",
        }
    }
}

/// Operations with weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::bench) struct Mix {
    parts: Vec<(Operation, u32)>,
    sum: u32,
}

/// A weight is at most this, so that sums fit.
const WEIGHT_MAX: u32 = 1_000_000;

impl Mix {
    /// One kind alone.
    pub(in crate::bench) fn only(operation: Operation) -> Self {
        Self { parts: vec![(operation, 1)], sum: 1 }
    }

    /// Reads `put=20,get=70,range=10`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::bench) fn parse(
        text: &str,
        range_keys: u64,
        page: u64,
        serializable: bool,
    ) -> Result<Self> {
        let mut parts: Vec<(Operation, u32)> = Vec::new();
        for part in text.split(',') {
            let (name, weight) =
                part.split_once('=').with_context(|| format!("{part:?}: NAME=WEIGHT is expected"))?;
            let operation = match name.trim() {
                "put" => Operation::Put,
                "get" => Operation::Get { serializable },
                "range" => Operation::Range { keys: range_keys, serializable },
                "list" => Operation::List { page },
                "txn" => Operation::Swap,
                other => bail!("{other:?} is none of put, get, range, list, txn"),
            };
            if parts.iter().any(|(known, _)| *known == operation) {
                bail!("{name} is there twice");
            }
            match weight.trim().parse::<u32>() {
                Ok(weight @ 1..=WEIGHT_MAX) => parts.push((operation, weight)),
                _ => bail!("{weight:?} is no weight from 1 to {WEIGHT_MAX}"),
            }
        }
        let sum = parts.iter().map(|(_, weight)| weight).sum();
        Ok(Self { parts, sum })
    }

    /// Chooses one.
    pub(in crate::bench) fn next(&self, random: &mut fastrand::Rng) -> Operation {
        let mut at = if self.parts.len() == 1 { 0 } else { random.u32(0..self.sum) };
        for (operation, weight) in &self.parts {
            if at < *weight {
                return *operation;
            }
            at -= weight;
        }
        // The weights add up to the sum: the last one has returned.
        self.parts.last().map_or(Operation::Put, |(operation, _)| *operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_come_as_often_as_their_weight_says() {
        let mix = Mix::parse("put=20, get=70,range=10", 100, 500, true).unwrap();
        let mut random = fastrand::Rng::with_seed(3);
        let drawn: Vec<Operation> = (0..100_000).map(|_| mix.next(&mut random)).collect();
        for (operation, expected) in [
            (Operation::Put, 20_000_i64),
            (Operation::Get { serializable: true }, 70_000),
            (Operation::Range { keys: 100, serializable: true }, 10_000),
        ] {
            let count = drawn.iter().filter(|drawn| **drawn == operation).count() as i64;
            assert!((count - expected).abs() < 1_000, "{operation:?}: {count}");
        }
    }

    #[test]
    fn wrong_ratios_are_told() {
        for (text, why) in [
            ("put", "NAME=WEIGHT"),
            ("put=1,put=2", "twice"),
            ("fly=1", "none of"),
            ("put=0", "no weight"),
            ("put=1.5", "no weight"),
        ] {
            let error = Mix::parse(text, 1, 1, false).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
