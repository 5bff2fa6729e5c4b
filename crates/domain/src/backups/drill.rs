//! A drill's outcome, and which drills prove that a key may become primary.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use strum::{Display, EnumIter, EnumString};

use crate::{BackupPolicy, BackupProof, DestinationName};

/// A proof that is older than this proves nothing any more: the drills have stopped.
pub const PROOF_LASTS: TimeDelta = TimeDelta::days(7);

/// Why a key's backup is not proved at a destination.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    EnumIter,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_reason)]
pub enum BackupProblem {
    /// The destination did not answer, or the KMS did not: nothing was learned.
    OutOfReach,
    /// The destination does not let us write or read.
    Refused,
    /// The bucket, container or directory is not there, as where nothing is mounted.
    NoPlace,
    /// It is sealed to a RECOVERY key that this process was not told of, so it cannot be made again to be compared.
    OtherRecoveryKey,
    /// A bundle could not be sealed.
    NotSealed,
    /// No bundle stands where one was stored.
    Missing,
    /// Something else stands in its place.
    InTheWay,
    /// Nothing was stored yet.
    NotStored,
    /// Its bytes are not those that were stored.
    Altered,
    /// A seal does not open, or made again is another.
    NotAuthentic,
    /// It opens and holds another key, or another key's details.
    OtherKey,
    /// The bundle's BACKUP key cannot be restored from its own bundle there.
    NoBackupKey,
    /// The restored key does not open what the key of the store sealed.
    DoesNotOpen,
    /// A flipped byte was not noticed: no drill of this run counts.
    NoControl,
    /// The key in the store cannot be unwrapped, so nothing can be compared with it.
    NotUnwrapped,
}

fn no_reason(text: &str) -> String {
    format!("problem {text:?} of a backup is not one of ours")
}

impl BackupProblem {
    /// Whether it says something of the bundle; else only that nobody could look.
    pub fn is_a_verdict(self) -> bool {
        !matches!(
            self,
            Self::OutOfReach
                | Self::Refused
                | Self::NoPlace
                | Self::OtherRecoveryKey
                | Self::NotSealed
                | Self::NotStored
        )
    }

    /// What is wrong, in words.
    pub fn says(self) -> &'static str {
        match self {
            Self::OutOfReach => "the destination or the KMS does not answer",
            Self::Refused => "the destination refuses our credentials, or what we asked for",
            Self::NoPlace => {
                "the destination is not there: make the bucket, or mount the directory"
            }
            Self::OtherRecoveryKey => {
                "the bundle is sealed to a RECOVERY key that this process was not told of: recovery_fingerprint in its rekey.toml"
            }
            Self::NotSealed => "it could not be sealed: the log of whoever tried says why",
            Self::Missing => "the bundle is gone from the destination",
            Self::InTheWay => {
                "something that is no file of ours stands in the bundle's place: take it away, and it is stored anew"
            }
            Self::NotStored => "it was not stored yet: rekey backups create",
            Self::Altered => {
                "the bundle was altered at the destination, and nothing of ours writes over it: take that object away, and it is stored anew"
            }
            Self::NotAuthentic => "a seal does not open, or was not made by Rekey",
            Self::OtherKey => "the bundle holds another key",
            Self::NoBackupKey => "its BACKUP key does not come back from its own bundle",
            Self::DoesNotOpen => "the restored key does not open what the key in the store sealed",
            Self::NoControl => "a byte that was flipped on purpose was not noticed",
            Self::NotUnwrapped => "the KMS does not unwrap the key in the store",
        }
    }
}

/// A drill's row, as far as the gate asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drilled {
    /// Its id.
    pub id: u128,
    /// Where.
    pub destination: DestinationName,
    /// When it was last found so.
    pub at: DateTime<Utc>,
    /// What was wrong; none: the key came back.
    pub problem: Option<BackupProblem>,
}

/// The proof that a key may become primary, from the drills of this key. One destination is enough; where the newest
/// verdict of a destination is bad, older ones do not count.
pub fn proof(policy: BackupPolicy, drills: &[Drilled], now: DateTime<Utc>) -> Option<BackupProof> {
    if policy == BackupPolicy::Off {
        return Some(BackupProof::NotRequired);
    }
    let verdicts = || {
        drills
            .iter()
            .filter(|one| one.problem.is_none_or(BackupProblem::is_a_verdict))
    };
    let is_newest = |one: &&Drilled| {
        let mut others = verdicts().filter(|other| other.destination == one.destination);
        others.all(|other| (other.at, other.problem.is_some()) <= (one.at, one.problem.is_some()))
    };
    let proves = |one: &&Drilled| one.problem.is_none() && one.at > now - PROOF_LASTS;
    let newest = verdicts()
        .filter(is_newest)
        .filter(proves)
        .max_by_key(|one| one.at)?;
    Some(BackupProof::Verified { drill: newest.id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(100)
    }

    fn drilled(id: u128, destination: &str, days: i64, problem: Option<BackupProblem>) -> Drilled {
        Drilled {
            id,
            destination: destination.parse().unwrap(),
            at: now() - TimeDelta::days(days),
            problem,
        }
    }

    fn proved(drills: &[Drilled]) -> Option<u128> {
        match proof(BackupPolicy::Required, drills, now()) {
            Some(BackupProof::Verified { drill }) => Some(drill),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_needs_no_backup_needs_no_drill() {
        let found = proof(BackupPolicy::Off, &[], now());
        assert_eq!(found, Some(BackupProof::NotRequired));
        assert_eq!(proved(&[]), None);
    }

    #[test]
    fn the_newest_verdict_of_a_destination_counts_and_one_destination_is_enough() {
        let bad = Some(BackupProblem::Altered);
        let good_then_bad = [drilled(1, "here", 2, None), drilled(2, "here", 1, bad)];
        assert_eq!(proved(&good_then_bad), None);
        let bad_then_good = [drilled(1, "here", 2, bad), drilled(2, "here", 1, None)];
        assert_eq!(proved(&bad_then_good), Some(2));
        let elsewhere = [drilled(1, "here", 1, bad), drilled(2, "there", 2, None)];
        assert_eq!(proved(&elsewhere), Some(2));
    }

    #[test]
    fn of_two_verdicts_of_one_moment_the_bad_one_counts() {
        let bad = Some(BackupProblem::Missing);
        for drills in [
            [drilled(1, "here", 1, None), drilled(2, "here", 1, bad)],
            [drilled(2, "here", 1, bad), drilled(1, "here", 1, None)],
        ] {
            assert_eq!(proved(&drills), None);
        }
    }

    #[test]
    fn a_destination_that_does_not_answer_takes_no_proof_away() {
        let away = Some(BackupProblem::OutOfReach);
        let drills = [drilled(1, "here", 2, None), drilled(2, "here", 0, away)];
        assert_eq!(proved(&drills), Some(1));
    }

    #[test]
    fn an_old_proof_is_none() {
        assert_eq!(proved(&[drilled(1, "here", 7, None)]), None);
        assert_eq!(proved(&[drilled(1, "here", 6, None)]), Some(1));
    }
}
