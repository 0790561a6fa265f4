//! Stories about values: quorums and memberships.
//!
//! | command | what it tells |
//! |---|---|
//! | `voters 1 2 3`, `voters 1 2 3 leaving 3 4 5` | sets who decides |
//! | `votes 1=yes 2=no` | how the vote stands |
//! | `reached 1=5 2=7` | the highest value that a quorum has reached |
//! | `members 1 2 3L` | sets the present membership |
//! | `change +4 -1` | the entry that starts the change, and the one that ends it; or why not |

use std::collections::{BTreeMap, BTreeSet};

use super::command::Change;
use super::{Teller, words};
use crate::id::MemberId;
use crate::membership::Membership;
use crate::quorum::{Outcome, Quorum};

/// The present values.
pub(super) struct Numbers {
    quorum: Quorum,
    membership: Membership,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { quorum: Quorum::joint(BTreeSet::new(), BTreeSet::new()), membership: Membership::default() }
    }
}

fn id(word: &str) -> Result<MemberId, String> {
    word.parse().map(MemberId).map_err(|_| format!("{word:?} is no member"))
}

fn pairs<T>(list: &[&str], value: impl Fn(&str) -> Option<T>) -> Result<BTreeMap<MemberId, T>, String> {
    let pair = |word: &&str| {
        let (name, told) = word.split_once('=').ok_or_else(|| format!("{word:?} has no ="))?;
        Ok((id(name)?, value(told).ok_or_else(|| format!("{told:?} is not understood"))?))
    };
    list.iter().map(pair).collect()
}

impl Teller for Numbers {
    fn tell(&mut self, command: &str) -> Result<Vec<String>, String> {
        let list: Vec<&str> = command.split_whitespace().collect();
        Ok(match list[..] {
            ["voters", ref rest @ ..] => {
                let mut sides = rest.split(|word| *word == "leaving");
                let mut side = || {
                    let words = sides.next().unwrap_or_default();
                    words.iter().map(|word| id(word)).collect::<Result<BTreeSet<_>, String>>()
                };
                self.quorum = Quorum::joint(side()?, side()?);
                Vec::new()
            }
            ["votes", ref rest @ ..] => {
                let votes = pairs(rest, |told| ["no", "yes"].iter().position(|word| *word == told))?;
                let outcome = self.quorum.outcome(|id| votes.get(&id).map(|&vote| vote == 1));
                let words = match outcome {
                    Outcome::Won => "won",
                    Outcome::Lost => "lost",
                    Outcome::Open => "open",
                };
                vec![words.to_owned()]
            }
            ["reached", ref rest @ ..] => {
                let values = pairs(rest, |told| told.parse::<u64>().ok())?;
                let reached = self.quorum.reached_value(|id| values.get(&id).copied().unwrap_or_default());
                vec![reached.to_string()]
            }
            ["members", ref rest @ ..] => {
                self.membership = Membership::default();
                let joined: Vec<String> = rest.iter().map(|word| format!("+{word}")).collect();
                let joined: Vec<&str> = joined.iter().map(String::as_str).collect();
                Change::parse(&joined)?.apply(&mut self.membership);
                Vec::new()
            }
            ["change", ref rest @ ..] => {
                let mut target = self.membership.clone();
                Change::parse(rest)?.apply(&mut target);
                match self.membership.check(&target) {
                    Err(invalid) => vec![format!("refused: {invalid}")],
                    Ok(()) => {
                        let first = self.membership.towards(target);
                        self.membership = first.settled();
                        let last = first.is_joint().then(|| words::membership(&self.membership));
                        [words::membership(&first)].into_iter().chain(last).collect()
                    }
                }
            }
            _ => return Err("unknown command".to_owned()),
        })
    }
}
