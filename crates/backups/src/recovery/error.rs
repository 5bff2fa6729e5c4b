//! Why a share is not read, or a set of shares not made.

use crate::MAX_SHARES;

/// A share that cannot be read, or is not what it says. Retrying does not help; what is printed or kept elsewhere may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// It is no text of the form.
    #[error(
        "no share: expected what docs/format/bundle.md defines, found something else at line {line}, column {column}"
    )]
    Form {
        /// Where reading ended.
        line: usize,
        /// Where reading ended.
        column: usize,
    },
    /// It is longer than any share.
    #[error("no share: expected at most {limit} bytes, found {found}")]
    TooLong {
        /// The most that a share has.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// It is of another format, or of a later version.
    #[error(
        "a document of format {found:?}: expected {expected:?}; a later version of Rekey may read it"
    )]
    Format {
        /// What this program reads.
        expected: &'static str,
        /// What the document says, its beginning.
        found: String,
    },
    /// It is not as it was written.
    #[error("share {index} was altered: its checksum is not that of its text")]
    Altered {
        /// The number that it says it has.
        index: u8,
    },
    /// Its checksum fits, and what it commits to does not.
    #[error(
        "share {index} is wrong: it is not what its set committed to, and somebody made its checksum fit"
    )]
    NotCommitted {
        /// The number that it says it has.
        index: u8,
    },
    /// Its numbers contradict each other.
    #[error(
        "no share: number {index} of {shares}, of which {threshold} combine, with {commitments} commitments"
    )]
    Numbers {
        /// The number that it says it has.
        index: u8,
        /// How many it says there are.
        shares: u8,
        /// How many it says combine.
        threshold: u8,
        /// How many commitments it has.
        commitments: usize,
    },
    /// A set like this cannot be made.
    #[error(
        "{threshold} of {shares} shares: expected at least 2 of at most {MAX_SHARES}, and no more than there are"
    )]
    NoSuchSet {
        /// How many should combine.
        threshold: u8,
        /// How many were asked for.
        shares: u8,
    },
}
