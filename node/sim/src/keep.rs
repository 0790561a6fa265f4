//! Which faults of a schedule stay, as the command line says it.

use std::fmt;
use std::str::FromStr;

/// No fault stays.
const NONE: &str = "none";

/// The places of the faults that stay: numbers with commas between them, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep(pub Vec<usize>);

/// Not what [`Keep`] reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place of a fault: give numbers with commas between them, or {NONE}")]
pub struct NotAPlace(String);

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(NONE);
        }
        let places: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&places.join(","))
    }
}

impl FromStr for Keep {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        if text == NONE {
            return Ok(Self(Vec::new()));
        }
        let place = |place: &str| place.trim().parse().map_err(|_| NotAPlace(place.to_owned()));
        text.split(',').map(place).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for (places, text) in [(vec![], "none"), (vec![7], "7"), (vec![0, 3, 12], "0,3,12")] {
            let keep = Keep(places);
            assert_eq!(keep.to_string(), text);
            assert_eq!(text.parse(), Ok(keep));
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for text in ["", "none,1", "1,,2", "-1", "all"] {
            assert!(text.parse::<Keep>().is_err(), "{text}");
        }
    }
}
