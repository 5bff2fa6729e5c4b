//! Why a destination refused or failed, and whether asking again can help.

use std::{fmt, io, time::Duration};

use sha2::{Digest, Sha256};

use crate::ObjectName;

/// What was to be done at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Making an object.
    Create,
    /// Reading an object.
    Read,
    /// Listing names.
    List,
    /// Trying whether objects can be erased.
    Probe,
    /// Taking an object away.
    Remove,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "make an object",
            Self::Read => "read an object",
            Self::List => "list names",
            Self::Probe => "try whether objects can be erased",
            Self::Remove => "take an object away",
        })
    }
}

/// What bytes there are, told without showing them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub len: usize,
    /// Their SHA-256 in hex.
    pub sha256: String,
}

impl Found {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let sha256 = hex::encode(Sha256::digest(bytes));
        Self {
            len: bytes.len(),
            sha256,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, sha256 } = self;
        write!(f, "{len} bytes with SHA-256 {sha256}")
    }
}

/// A destination that refused or failed. Shows neither credentials nor words of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// Other bytes stand under the name. Both stay: nothing was overwritten.
    #[error(
        "{place}: {name} holds other bytes: expected {expected}, found {found}; it was damaged or made by another, and nothing was overwritten"
    )]
    OtherBytes {
        /// Where.
        place: String,
        /// Of which object.
        name: ObjectName,
        /// What was to be there.
        expected: Box<Found>,
        /// What is there.
        found: Box<Found>,
    },
    /// There is no such object.
    #[error("{place}: {name} is not there")]
    Missing {
        /// Where.
        place: String,
        /// Which object.
        name: ObjectName,
    },
    /// Longer than any object of ours; no more than the limit was read.
    #[error("{place}: expected at most {limit} bytes, found more; it was not made by Rekey")]
    TooLong {
        /// Where.
        place: String,
        /// The most that is read.
        limit: usize,
    },
    /// More bytes were to be written than may be read again.
    #[error(
        "{place}: {name} would have {found} bytes; expected at most {limit}; nothing was written"
    )]
    TooLongToWrite {
        /// Where.
        place: String,
        /// Of which object.
        name: ObjectName,
        /// How many bytes.
        found: usize,
        /// The most there may be.
        limit: usize,
    },
    /// The directory, bucket or container is not there.
    #[error("{place} is not there; make it, or mount it, or name another")]
    NoPlace {
        /// Where.
        place: String,
    },
    /// The destination cannot be asked, or did not answer.
    #[error("{place} is out of reach: {problem}; it is asked again")]
    OutOfReach {
        /// Where.
        place: String,
        /// What happened.
        problem: &'static str,
    },
    /// It took longer than any call may.
    #[error("{place} did not end within {} s; it is asked again", limit.as_secs())]
    TooSlow {
        /// Where.
        place: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The destination has too much to do.
    #[error("{place} asks to slow down; it is asked again later")]
    Busy {
        /// Where.
        place: String,
    },
    /// There is no room left.
    #[error("{place} is full: nothing was made; give it room")]
    Full {
        /// Where.
        place: String,
    },
    /// This process may not do that there.
    #[error("{place}: this process may not {doing}; give it the right")]
    Denied {
        /// Where.
        place: String,
        /// What it wanted.
        doing: Doing,
    },
    /// The destination does not know who asks.
    #[error("{place} takes no request of this process: {problem}")]
    Credentials {
        /// Where.
        place: String,
        /// What is wrong with them, and what helps.
        problem: &'static str,
    },
    /// The destination refuses the request as such.
    #[error(
        "{place} refused to {doing}: expected success, found status {status}; check its address and region"
    )]
    Refused {
        /// Where.
        place: String,
        /// What was wanted.
        doing: Doing,
        /// What it answered.
        status: u16,
    },
    /// The destination answered what cannot be.
    #[error("{place} gave an answer that cannot be used: {problem}")]
    Answer {
        /// Where.
        place: String,
        /// What is wrong with it, and what helps.
        problem: &'static str,
    },
    /// Something else is in the way of a file or a directory.
    #[error("{place}: {what}: expected {expected}, found {found}; take it away")]
    InTheWay {
        /// Where.
        place: String,
        /// What part of a name, or that it is the directory itself.
        what: String,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// What the configuration says cannot be done.
    #[error("{place}: {problem}")]
    Configuration {
        /// Where.
        place: String,
        /// What is wrong, and what is expected.
        problem: &'static str,
    },
    /// The operating system failed.
    #[error("{place}: cannot {doing}: {kind}")]
    Io {
        /// Where.
        place: String,
        /// What was wanted.
        doing: Doing,
        /// What it said.
        kind: io::ErrorKind,
    },
}

impl DestinationError {
    /// Whether the same request may succeed later without a person doing something. A full disk may be given room by
    /// who cleans up, so it is.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::OutOfReach { .. }
            | Self::TooSlow { .. }
            | Self::Busy { .. }
            | Self::Full { .. }
            | Self::Io { .. } => true,
            Self::OtherBytes { .. }
            | Self::Missing { .. }
            | Self::TooLong { .. }
            | Self::TooLongToWrite { .. }
            | Self::NoPlace { .. }
            | Self::Denied { .. }
            | Self::Credentials { .. }
            | Self::Refused { .. }
            | Self::Answer { .. }
            | Self::InTheWay { .. }
            | Self::Configuration { .. } => false,
        }
    }
}
