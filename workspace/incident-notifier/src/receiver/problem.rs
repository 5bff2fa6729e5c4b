//! What is wrong with a channel's files.

use std::fmt;

/// What is wrong with a channel's files or URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key: `url_file`.
    pub key: &'static str,
    /// What was found and what is expected, without a word of what stands in the file.
    pub problem: String,
    /// Whether the file is not here: it may be elsewhere, where the notifier runs.
    pub is_missing: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}
