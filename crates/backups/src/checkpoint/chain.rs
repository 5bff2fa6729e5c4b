//! The chain of checkpoints at one destination: none but the newest can be taken out or altered unseen.

use uuid::Uuid;

use crate::SignedCheckpoint;

/// Checkpoints that do not make a chain. Retrying helps only where the destination was read while it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// They are not in ascending order: a mistake of the program that lists them.
    #[error(
        "checkpoint {counter} stands after checkpoint {after}: expected counters in ascending order"
    )]
    Unsorted {
        /// Which.
        counter: u64,
        /// The one before it.
        after: u64,
    },
    /// One is of another deployment.
    #[error("checkpoint {counter} is of deployment {found}: expected {expected}, as the first is")]
    OtherDeployment {
        /// Which.
        counter: u64,
        /// The deployment of the first.
        expected: Uuid,
        /// Its own.
        found: Uuid,
    },
    /// One is not there any more.
    #[error(
        "checkpoint {missing} is missing: expected it before checkpoint {named_by}, which names it"
    )]
    Missing {
        /// The one that is gone.
        missing: u64,
        /// The one that names it.
        named_by: u64,
    },
    /// One has other bytes than it had.
    #[error(
        "checkpoint {counter} was altered: expected SHA-256 {expected}, which checkpoint {named_by} names, found {found}"
    )]
    Altered {
        /// Which.
        counter: u64,
        /// The one that names it.
        named_by: u64,
        /// The hash that it had, in hex.
        expected: String,
        /// The hash that it has.
        found: String,
    },
    /// One is there that the next does not know of.
    #[error(
        "checkpoint {counter} is in no chain: expected checkpoint {next} to name it as the one before, found {}",
        .named.map_or_else(|| "none named".to_owned(), |other| other.to_string())
    )]
    Stray {
        /// Which.
        counter: u64,
        /// The one after it.
        next: u64,
        /// The one that this names instead.
        named: Option<u64>,
    },
}

/// The newest of all checkpoints of one destination, given in ascending order, if each names the one before it. The first
/// has to be the first of the destination if they are given `from_start`; else what was before it is not asked for.
///
/// It verifies no signature. Verify that of the newest: by their hashes it vouches for all before it.
///
/// That the newest itself was taken away cannot be seen here, nor that several newest were: the store finds it, which
/// knows the newest it had written.
///
/// # Errors
/// [`ChainError`], for the first checkpoint that is missing, altered or too many.
pub fn newest(
    at: &[SignedCheckpoint],
    from_start: bool,
) -> Result<Option<&SignedCheckpoint>, ChainError> {
    let Some(first) = at.first() else {
        return Ok(None);
    };
    if from_start {
        check_start(first)?;
    }
    for pair in at.windows(2) {
        check_link(&pair[0], &pair[1])?;
    }
    Ok(at.last())
}

fn check_start(first: &SignedCheckpoint) -> Result<(), ChainError> {
    let claims = first.claims();
    match claims.previous {
        None => Ok(()),
        Some(previous) => Err(ChainError::Missing {
            missing: previous.counter,
            named_by: claims.counter,
        }),
    }
}

fn check_link(before: &SignedCheckpoint, after: &SignedCheckpoint) -> Result<(), ChainError> {
    check_order(before, after)?;
    let (counter, next) = (before.claims().counter, after.claims().counter);
    let (named, found) = (after.claims().previous, before.sha256());
    let Some(named) = named.filter(|named| named.counter >= counter) else {
        return Err(ChainError::Stray {
            counter,
            next,
            named: named.map(|named| named.counter),
        });
    };
    if named.counter > counter {
        return Err(ChainError::Missing {
            missing: named.counter,
            named_by: next,
        });
    }
    match named.sha256 == found {
        true => Ok(()),
        false => Err(ChainError::Altered {
            counter,
            named_by: next,
            expected: hex::encode(named.sha256),
            found: hex::encode(found),
        }),
    }
}

fn check_order(before: &SignedCheckpoint, after: &SignedCheckpoint) -> Result<(), ChainError> {
    let (one, other) = (before.claims(), after.claims());
    if one.deployment != other.deployment {
        return Err(ChainError::OtherDeployment {
            counter: other.counter,
            expected: one.deployment,
            found: other.deployment,
        });
    }
    match one.counter < other.counter {
        true => Ok(()),
        false => Err(ChainError::Unsorted {
            counter: other.counter,
            after: one.counter,
        }),
    }
}
