//! Shares become the RECOVERY key again. Whatever is wrong with one is said before any are combined.

use rekey_envelope::{KeyMaterial, Zeroizing};
use uuid::Uuid;
use vsss_rs::Gf256;

use crate::{
    Fingerprint, RecoveryKey, Share,
    recovery::set::{MIN_THRESHOLD, SetOfShares},
};

/// Why shares were not combined. Retrying with the same shares does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// Shares that do not belong together; all that are wrong are named, nothing was combined.
    #[error("the shares do not belong together: {}", listed(.0))]
    Problems(Vec<Problem>),
    /// What is there belongs together, and more is needed.
    #[error("too few shares: expected {expected}, found {found}")]
    TooFew {
        /// How many combine.
        expected: u8,
        /// How many good ones were given.
        found: usize,
    },
    /// The shares are whole and belong together, and make another key than they say.
    #[error("the shares make RECOVERY key {found}, expected {expected}: the set was made wrong")]
    OtherKey {
        /// The key that they are of.
        expected: Fingerprint,
        /// The key that they make.
        found: Fingerprint,
    },
}

/// A share that does not belong to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("share {index}, given as number {}, {wrong}", at + 1)]
pub struct Problem {
    /// Its place among those given, from 0.
    pub at: usize,
    /// The number that it says it has.
    pub index: u8,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What is wrong with a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is of another RECOVERY key.
    #[error("is of RECOVERY key {found}, expected {expected}")]
    Foreign {
        /// The key that is to be made.
        expected: Fingerprint,
        /// The key that it is of.
        found: Fingerprint,
    },
    /// It is of the same RECOVERY key, split at another time.
    #[error("is of set {found}, expected {expected}")]
    OtherSet {
        /// The set of most shares given.
        expected: Uuid,
        /// Its set.
        found: Uuid,
    },
    /// It tells of its set what most others do not: somebody altered it and made its checksum fit.
    #[error("tells of its set what most others do not: it was altered")]
    Altered,
    /// It tells of its set another thing than the first of those that agree, and as many say the one as the other.
    #[error("contradicts the one given as number {}, and as many say the one as the other: one of the two was altered, and another share of the set tells which", other + 1)]
    Contradicts {
        /// The place of the one that it contradicts.
        other: usize,
    },
    /// It is there already.
    #[error("was given as number {} already", first + 1)]
    Twice {
        /// The place of the first.
        first: usize,
    },
}

fn listed(problems: &[Problem]) -> String {
    let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
    texts.join("; ")
}

/// The RECOVERY key `expected` of its shares. Which set is meant, and what is true of it, most of its shares say.
///
/// # Errors
/// [`CombineError`]; each share that is foreign, of another set, altered or given twice is named.
pub fn combine(shares: &[Share], expected: Fingerprint) -> Result<RecoveryKey, CombineError> {
    let ours = shares.iter().map(|share| &share.set);
    let set = most(ours.filter(|set| set.fingerprint == expected).collect());
    let problems: Vec<_> = problems(shares, expected, set).collect();
    if !problems.is_empty() {
        return Err(CombineError::Problems(problems));
    }
    let threshold = set.map_or(MIN_THRESHOLD, |set| set.threshold);
    let Some(enough) = shares.get(..threshold.into()) else {
        return Err(CombineError::TooFew {
            expected: threshold,
            found: shares.len(),
        });
    };
    let key = interpolate(enough);
    let found = key.public_key().fingerprint();
    match found == expected {
        true => Ok(key),
        false => Err(CombineError::OtherKey { expected, found }),
    }
}

/// What most say; of equally many, the first.
fn most(sets: Vec<&SetOfShares>) -> Option<&SetOfShares> {
    let alike = |set: &SetOfShares| sets.iter().filter(|other| **other == set).count();
    // The last of equals would win, so the order is turned.
    sets.iter().rev().copied().max_by_key(|set| alike(set))
}

fn problems(
    shares: &[Share],
    expected: Fingerprint,
    set: Option<&SetOfShares>,
) -> impl Iterator<Item = Problem> {
    let wrong = move |at| wrong(shares, at, expected, set);
    let problem = move |(at, share): (usize, &Share)| {
        let index = share.index;
        wrong(at).map(|wrong| Problem { at, index, wrong })
    };
    shares.iter().enumerate().filter_map(problem)
}

fn wrong(
    shares: &[Share],
    at: usize,
    expected: Fingerprint,
    set: Option<&SetOfShares>,
) -> Option<Wrong> {
    let (before, share) = (&shares[..at], &shares[at]);
    let says = &share.set;
    if says.fingerprint != expected {
        let found = says.fingerprint;
        return Some(Wrong::Foreign { expected, found });
    }
    let set = set?;
    if says.set != set.set {
        return Some(Wrong::OtherSet {
            expected: set.set,
            found: says.set,
        });
    }
    if says != set {
        let so_say = |what: &SetOfShares| shares.iter().filter(|other| other.set == *what).count();
        let other = shares.iter().position(|other| other.set == *set)?;
        return Some(match so_say(says) < so_say(set) {
            true => Wrong::Altered,
            false => Wrong::Contradicts { other },
        });
    }
    let same = |other: &Share| other.index == share.index && other.set == *set;
    let first = before.iter().position(same)?;
    Some(Wrong::Twice { first })
}

fn interpolate(shares: &[Share]) -> RecoveryKey {
    // The number stands before the value.
    let numbered = |share: &Share| [&[share.index], &share.value.expose_key_bytes()[..]].concat();
    let numbered: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(shares.iter().map(numbered).collect());
    let seed = Gf256::combine_bytes(&*numbered).expect("they are different shares of one set");
    let seed = KeyMaterial::from_slice(&Zeroizing::new(seed));
    RecoveryKey::from_seed(seed.expect("what is shared is as long as a share"))
}
