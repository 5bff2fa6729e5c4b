//! Shares become the RECOVERY key again. Whatever is wrong with one is said before any are combined.

use std::fmt;

use rekey_envelope::{KeyMaterial, Zeroizing};
use uuid::Uuid;
use vsss_rs::Gf256;

use crate::{Fingerprint, RecoveryKey, Share, recovery::share::SetOfShares};

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

/// What is wrong with one share. `at` is its place among those given, from 0; `index` the number it says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It is of another RECOVERY key.
    Foreign {
        /// Its place.
        at: usize,
        /// Its number.
        index: u8,
        /// The key that is to be made.
        expected: Fingerprint,
        /// The key that it is of.
        found: Fingerprint,
    },
    /// It is of the same RECOVERY key, split at another time.
    OtherSet {
        /// Its place.
        at: usize,
        /// Its number.
        index: u8,
        /// The set of most shares given.
        expected: Uuid,
        /// Its set.
        found: Uuid,
    },
    /// It tells of its set what most others do not: somebody altered it and made its checksum fit. Where as many say
    /// the one as the other, either may be the wrong one.
    Altered {
        /// Its place.
        at: usize,
        /// Its number.
        index: u8,
    },
    /// It is there already.
    Twice {
        /// Its place.
        at: usize,
        /// Its number.
        index: u8,
        /// The place of the first.
        first: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Foreign {
                at,
                index,
                expected,
                found,
            } => {
                write!(
                    f,
                    "share {index}, given as number {}, is of RECOVERY key {found}, expected {expected}",
                    at + 1
                )
            }
            Self::OtherSet {
                at,
                index,
                expected,
                found,
            } => {
                write!(
                    f,
                    "share {index}, given as number {}, is of set {found}, expected {expected}",
                    at + 1
                )
            }
            Self::Altered { at, index } => {
                write!(
                    f,
                    "share {index}, given as number {}, tells of its set what the others do not: it was altered",
                    at + 1
                )
            }
            Self::Twice { at, index, first } => {
                write!(
                    f,
                    "share {index}, given as number {}, was given as number {} already",
                    at + 1,
                    first + 1
                )
            }
        }
    }
}

fn listed(problems: &[Problem]) -> String {
    let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
    texts.join("; ")
}

/// The RECOVERY key `expected` of its shares. Which set is meant, and what is true of it, most of the shares say.
///
/// # Errors
/// [`CombineError`]; each share that is foreign, of another set, altered or given twice is named.
pub fn combine(shares: &[Share], expected: Fingerprint) -> Result<RecoveryKey, CombineError> {
    let ours = shares.iter().map(|share| &share.set);
    let Some(set) = most(ours.filter(|set| set.fingerprint == expected)) else {
        return Err(nothing_of(shares, expected));
    };
    let problems = problems(shares, set);
    if !problems.is_empty() {
        return Err(CombineError::Problems(problems));
    }
    if shares.len() < set.threshold.into() {
        return Err(CombineError::TooFew {
            expected: set.threshold,
            found: shares.len(),
        });
    }
    let key = interpolate(&shares[..set.threshold.into()]);
    let found = key.public_key().fingerprint();
    match found == expected {
        true => Ok(key),
        false => Err(CombineError::OtherKey { expected, found }),
    }
}

/// What most say; of equally many, the first.
fn most<'a>(sets: impl Iterator<Item = &'a SetOfShares> + Clone) -> Option<&'a SetOfShares> {
    let alike = |set: &SetOfShares| sets.clone().filter(|other| *other == set).count();
    // `max_by_key` takes the last of equals, so the order is turned.
    let sets: Vec<_> = sets.clone().collect();
    sets.into_iter().rev().max_by_key(|set| alike(set))
}

fn nothing_of(shares: &[Share], expected: Fingerprint) -> CombineError {
    let foreign = shares
        .iter()
        .enumerate()
        .map(|(at, share)| Problem::Foreign {
            at,
            index: share.index,
            expected,
            found: share.set.fingerprint,
        });
    match shares.is_empty() {
        true => CombineError::TooFew {
            expected: crate::recovery::share::MIN_THRESHOLD,
            found: 0,
        },
        false => CombineError::Problems(foreign.collect()),
    }
}

fn problems(shares: &[Share], set: &SetOfShares) -> Vec<Problem> {
    let problem = |at| problem(shares, at, set);
    (0..shares.len()).filter_map(problem).collect()
}

fn problem(shares: &[Share], at: usize, set: &SetOfShares) -> Option<Problem> {
    let (share, index) = (&shares[at], shares[at].index);
    let says = &share.set;
    if says.fingerprint != set.fingerprint {
        let (expected, found) = (set.fingerprint, says.fingerprint);
        return Some(Problem::Foreign {
            at,
            index,
            expected,
            found,
        });
    }
    if says.set != set.set {
        let (expected, found) = (set.set, says.set);
        return Some(Problem::OtherSet {
            at,
            index,
            expected,
            found,
        });
    }
    if says != set {
        return Some(Problem::Altered { at, index });
    }
    let same = |before: &Share| before.index == index && before.set == *set;
    let first = shares[..at].iter().position(same)?;
    Some(Problem::Twice { at, index, first })
}

fn interpolate(shares: &[Share]) -> RecoveryKey {
    let numbered = |share: &Share| [&[share.index], &share.value.expose_key_bytes()[..]].concat();
    let numbered: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(shares.iter().map(numbered).collect());
    let seed = Gf256::combine_bytes(&*numbered).expect("they are different shares of one set");
    let seed = KeyMaterial::from_slice(&Zeroizing::new(seed));
    RecoveryKey::from_seed(seed.expect("what is shared is as long as a share"))
}
