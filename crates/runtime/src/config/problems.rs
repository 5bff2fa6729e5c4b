//! What is wrong with a configuration: every problem, each with its key.

use std::{cell::RefCell, fmt};

/// One thing that is wrong, and what is allowed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key, such as `keyring[0].rotate`; counting begins at 0.
    pub key: String,
    /// What was expected, what was found. Never quotes a URL, which may hold a password.
    pub problem: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The problems, in the order they were met.
    pub problems: Vec<ConfigProblem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(
            f,
            "the configuration has {count} problem{plural}; correct and start again:"
        )?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects problems, so that all are told at once.
#[derive(Debug, Default)]
pub(super) struct Problems {
    wrong: RefCell<Vec<ConfigProblem>>,
    ignored: RefCell<Vec<ConfigProblem>>,
}

impl Problems {
    /// Something wrong.
    pub(super) fn add(&self, key: impl Into<String>, problem: impl Into<String>) {
        push(&self.wrong, key.into(), problem.into());
    }

    /// Something right that has no effect yet.
    pub(super) fn ignore(&self, key: impl Into<String>, why: impl Into<String>) {
        push(&self.ignored, key.into(), why.into());
    }

    /// What has no effect, if nothing was wrong.
    pub(super) fn settle(self) -> Result<Vec<ConfigProblem>, ConfigErrors> {
        let problems = self.wrong.into_inner();
        if problems.is_empty() {
            Ok(self.ignored.into_inner())
        } else {
            Err(ConfigErrors { problems })
        }
    }
}

fn push(list: &RefCell<Vec<ConfigProblem>>, key: String, problem: String) {
    list.borrow_mut().push(ConfigProblem { key, problem });
}
