//! The commands of a story about members.
//!
//! | command | what happens |
//! |---|---|
//! | `members 3`, `members 3 + 2` | three voters start; two processes more that are no members |
//! | `members 2 witnesses 1`, `members 2 witnesses 1 + 1` | two voters with data and a witness; a process more |
//! | `one-by-one` | before `members`: messages carry one entry each |
//! | `elect 1` | everybody has waited too long for a leader, and this member stands |
//! | `wait MS`, `tick`, `tick 1 2` | the clock goes on; members tick that are due, or these |
//! | `deliver`, `deliver 1->2 Vote` | messages that are on their way arrive: all, or those meant |
//! | `drop ...` | they are lost |
//! | `sync 1 2`, `stall 1` | disks are done; from now on `settle` leaves this one out |
//! | `settle`, `settle 1 2` | messages arrive and disks sync until nothing moves; only among these |
//! | `run MS` | time goes on and everything is done when it is due |
//! | `cut 1-2 3-4`, `heal` | links lose everything, both ways; all links and disks work again |
//! | `crash 1`, `crash 1 keeping 2`, `restart 1` | unsynced writes are lost, but for so many |
//! | `propose 1 a b`, `read 1 7`, `transfer 1 2` | what the layers above ask for |
//! | `change 1 +4 -1 +5L +6W` | 4 comes, 1 goes, 5 comes as a learner, 6 as a witness |
//! | `reset 1 2` | 1 sees its connection to 2 reset |
//! | `compact 1` | what is applied goes into a snapshot |
//! | `status`, `log 1` | what they know |
//! | `expect leader 1`, `expect no leader` | fails if not so, `REWRITE=1` or not |
//! | `expect committed 1 a`, `expect not committed 1 a` | whether a value is decided there |
//! | `expect voters 1 2 3 4` | whether 2, 3 and 4 vote as 1 knows it |
//! | `expect said WORDS`, `expect not said WORDS` | whether a line so far has these words |

use std::collections::BTreeSet;

use crate::id::MemberId;
use crate::membership::{Membership, Role};

use super::super::world::member;

/// One command.
pub(super) enum Command {
    /// Voters with data, witnesses, processes that are no members.
    Members([u64; 3]),
    /// Entries travel alone from the next start on.
    OneByOne,
    Elect(MemberId),
    Wait(u64),
    Tick(Vec<MemberId>),
    Run(u64),
    Deliver(Filter),
    Drop(Filter),
    Sync(Vec<MemberId>),
    Settle(Vec<MemberId>),
    Stall(Vec<MemberId>),
    Cut(Vec<(MemberId, MemberId)>),
    Heal,
    Crash {
        id: MemberId,
        keeping: usize,
    },
    Restart(MemberId),
    Propose {
        id: MemberId,
        values: Vec<String>,
    },
    Read {
        id: MemberId,
        read: u64,
    },
    Transfer {
        id: MemberId,
        to: Option<MemberId>,
    },
    Change {
        id: MemberId,
        change: Change,
    },
    Reset {
        id: MemberId,
        peer: MemberId,
    },
    Compact(MemberId),
    Status,
    Log(MemberId),
    Expect(Expected),
}

/// What must hold.
pub(super) enum Expected {
    Leader {
        id: Option<MemberId>,
        not: bool,
    },
    Committed {
        id: MemberId,
        value: String,
        not: bool,
    },
    Said {
        words: String,
        not: bool,
    },
    /// Who votes, as a member knows it.
    Voters {
        id: MemberId,
        voters: BTreeSet<MemberId>,
        not: bool,
    },
}

/// Which messages are meant.
#[derive(Default)]
pub(super) struct Filter {
    from: Option<MemberId>,
    to: Option<MemberId>,
    name: Option<String>,
}

/// Who comes and who goes.
pub(super) struct Change(Vec<(bool, MemberId, Role)>);

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

fn id(word: &str) -> Result<MemberId, String> {
    number(word).map(MemberId)
}

fn ids(words: &[&str]) -> Result<Vec<MemberId>, String> {
    words.iter().map(|word| id(word)).collect()
}

impl Command {
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words[..] {
            ["members", voters] => Self::Members([number(voters)?, 0, 0]),
            ["members", voters, "witnesses", witnesses] => {
                Self::Members([number(voters)?, number(witnesses)?, 0])
            }
            ["members", voters, "witnesses", witnesses, "+", others] => {
                Self::Members([number(voters)?, number(witnesses)?, number(others)?])
            }
            ["members", voters, "+", others] => Self::Members([number(voters)?, 0, number(others)?]),
            ["one-by-one"] => Self::OneByOne,
            ["elect", it] => Self::Elect(id(it)?),
            ["wait", ms] => Self::Wait(number(ms)?),
            ["run", ms] => Self::Run(number(ms)?),
            ["tick", ref rest @ ..] => Self::Tick(ids(rest)?),
            ["deliver", ref rest @ ..] => Self::Deliver(Filter::parse(rest)?),
            ["drop", ref rest @ ..] => Self::Drop(Filter::parse(rest)?),
            ["sync", ref rest @ ..] => Self::Sync(ids(rest)?),
            ["settle", ref rest @ ..] => Self::Settle(ids(rest)?),
            ["stall", ref rest @ ..] => Self::Stall(ids(rest)?),
            ["cut", ref rest @ ..] => Self::Cut(links(rest)?),
            ["heal"] => Self::Heal,
            ["crash", it] => Self::Crash { id: id(it)?, keeping: 0 },
            ["crash", it, "keeping", writes] => {
                Self::Crash { id: id(it)?, keeping: number(writes)? as usize }
            }
            ["restart", it] => Self::Restart(id(it)?),
            ["propose", it, ref values @ ..] => {
                Self::Propose { id: id(it)?, values: values.iter().map(ToString::to_string).collect() }
            }
            ["read", it, read] => Self::Read { id: id(it)?, read: number(read)? },
            ["transfer", it] => Self::Transfer { id: id(it)?, to: None },
            ["transfer", it, to] => Self::Transfer { id: id(it)?, to: Some(id(to)?) },
            ["change", it, ref rest @ ..] => Self::Change { id: id(it)?, change: Change::parse(rest)? },
            ["reset", it, peer] => Self::Reset { id: id(it)?, peer: id(peer)? },
            ["compact", it] => Self::Compact(id(it)?),
            ["status"] => Self::Status,
            ["log", it] => Self::Log(id(it)?),
            ["expect", ref rest @ ..] => Self::Expect(Expected::parse(rest)?),
            _ => return Err("unknown command".to_owned()),
        })
    }
}

fn links(words: &[&str]) -> Result<Vec<(MemberId, MemberId)>, String> {
    let mut links = Vec::new();
    for word in words {
        let (one, other) = word.split_once('-').ok_or_else(|| format!("{word:?} is no link"))?;
        links.extend([(id(one)?, id(other)?), (id(other)?, id(one)?)]);
    }
    Ok(links)
}

impl Filter {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut filter = Self::default();
        for word in words {
            match word.split_once("->") {
                Some((from, to)) => {
                    filter.from = (from != "*").then(|| id(from)).transpose()?;
                    filter.to = (to != "*").then(|| id(to)).transpose()?;
                }
                None => filter.name = Some((*word).to_owned()),
            }
        }
        Ok(filter)
    }

    pub(super) fn means(&self, from: MemberId, to: MemberId, name: &str) -> bool {
        self.from.is_none_or(|it| it == from)
            && self.to.is_none_or(|it| it == to)
            && self.name.as_deref().is_none_or(|it| it == name)
    }
}

impl Change {
    pub(super) fn parse(words: &[&str]) -> Result<Self, String> {
        let one = |word: &&str| {
            let comes = word.starts_with('+');
            let name = word.trim_start_matches(['+', '-']);
            let role = match name.chars().last() {
                Some('L') => Role::Learner,
                Some('W') => Role::Witness,
                Some(_) | None => Role::Voter,
            };
            Ok((comes, id(name.trim_end_matches(['L', 'W']))?, role))
        };
        words.iter().map(one).collect::<Result<_, String>>().map(Self)
    }

    pub(super) fn apply(&self, membership: &mut Membership) {
        for &(comes, id, role) in &self.0 {
            if comes {
                membership.members.insert(id, crate::membership::Member { role, ..member(id.0) });
            } else {
                membership.members.remove(&id);
                membership.removed.insert(id);
            }
        }
    }
}

impl Expected {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let not = words.first() == Some(&"not");
        let words = if not { &words[1..] } else { words };
        Ok(match words {
            ["leader", it] => Self::Leader { id: Some(id(it)?), not },
            ["no", "leader"] => Self::Leader { id: None, not },
            ["committed", it, value] => Self::Committed { id: id(it)?, value: (*value).to_owned(), not },
            ["voters", it, voters @ ..] => {
                let voters = voters.iter().map(|voter| id(voter)).collect::<Result<_, _>>()?;
                Self::Voters { id: id(it)?, voters, not }
            }
            ["said", words @ ..] => Self::Said { words: words.join(" "), not },
            _ => return Err("unknown expectation".to_owned()),
        })
    }
}
