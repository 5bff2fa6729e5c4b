//! Ids as people type them: whole, or their beginning; of rotations also `latest`.

use std::{fmt, str::FromStr};

use rekey_domain::RotationState;
use rekey_operations::rotation_views;
use uuid::Uuid;

use crate::{app::App, exit::UsageError};

/// The fewest digits that are enough if only one id begins with them.
const SHORTEST: usize = 6;
/// Matches that are named.
const MOST_NAMED: usize = 10;

/// An id, or how it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// All of it.
    Whole(Uuid),
    /// Its first digits, without dashes.
    Begins(String),
}

impl Id {
    /// The one of `known` that is meant; a whole id is not looked for.
    ///
    /// # Errors
    /// [`UsageError`] where none or more than one is.
    pub fn of(
        &self,
        what: &str,
        known: impl IntoIterator<Item = Uuid>,
    ) -> Result<Uuid, UsageError> {
        let begins = match self {
            Self::Whole(id) => return Ok(*id),
            Self::Begins(begins) => begins,
        };
        let known = known.into_iter();
        let meant: Vec<_> = known
            .filter(|id| id.simple().to_string().starts_with(begins))
            .collect();
        match meant[..] {
            [one] => Ok(one),
            [] => Err(UsageError(format!(
                "there is no {what} whose id begins with {self}"
            ))),
            _ => {
                let named: Vec<_> = meant.iter().take(MOST_NAMED).map(Uuid::to_string).collect();
                Err(UsageError(format!(
                    "the ids of {} {what}s begin with {self}; type more of one of: {}",
                    meant.len(),
                    named.join(", ")
                )))
            }
        }
    }

    /// Each of `ids`, as [`Id::of`].
    ///
    /// # Errors
    /// As [`Id::of`].
    pub fn all_of(ids: &[Self], what: &str, known: &[Uuid]) -> Result<Vec<Uuid>, UsageError> {
        let meant = ids.iter().map(|id| id.of(what, known.iter().copied()));
        meant.collect()
    }

    /// Whether it has to be looked for.
    pub fn is_short(&self) -> bool {
        matches!(self, Self::Begins(_))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(id) => write!(f, "{id}"),
            Self::Begins(begins) => f.write_str(begins),
        }
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Whole(id));
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let is_hex = digits.chars().all(|c| c.is_ascii_hexdigit());
        if is_hex && (SHORTEST..32).contains(&digits.len()) {
            return Ok(Self::Begins(digits.to_lowercase()));
        }
        Err(format!(
            "expected an id, or its first {SHORTEST} digits or more"
        ))
    }
}

/// A rotation: its id, or the one that was requested last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationId {
    /// By its id.
    Id(Id),
    /// The last one.
    Latest,
}

impl RotationId {
    /// The rotation that is meant.
    ///
    /// # Errors
    /// [`UsageError`] where none or more than one is; what the store says.
    pub async fn find(&self, app: &App) -> anyhow::Result<Uuid> {
        self.find_where(app, "rotation", |_| true).await
    }

    /// The same, where only a completed one has what is asked for.
    ///
    /// # Errors
    /// As [`RotationId::find`].
    pub async fn find_completed(&self, app: &App) -> anyhow::Result<Uuid> {
        let is_completed = |state| state == RotationState::Completed;
        self.find_where(app, "completed rotation", is_completed)
            .await
    }

    async fn find_where(
        &self,
        app: &App,
        what: &str,
        counts: impl Fn(RotationState) -> bool,
    ) -> anyhow::Result<Uuid> {
        if let Self::Id(Id::Whole(id)) = self {
            return Ok(*id);
        }
        let views = rotation_views(&app.services, &app.principal).await?;
        match self {
            Self::Id(id) => Ok(id.of("rotation", views.iter().map(|view| view.id))?),
            Self::Latest => {
                let latest = views.iter().find(|view| counts(view.state));
                let none = || UsageError(format!("there is no {what} yet"));
                Ok(latest.ok_or_else(none)?.id)
            }
        }
    }
}

impl FromStr for RotationId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let id = text.parse().map(Self::Id);
        id.map_err(|error: String| format!("{error}, or latest"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = [
        "019ae000-0000-7000-8000-00000000000a",
        "019ae000-1111-7000-8000-00000000000b",
        "029ae000-0000-7000-8000-00000000000c",
    ];

    fn find(text: &str) -> Result<String, String> {
        let id: Id = text.parse()?;
        let known = KNOWN.map(|known| known.parse().unwrap());
        let found = id.of("rotation", known).map_err(|error| error.to_string());
        found.map(|found| found.to_string())
    }

    #[test]
    fn the_beginning_of_an_id_that_is_the_only_one_is_enough() {
        assert_eq!(find("029ae0").unwrap(), KNOWN[2]);
        assert_eq!(find("019AE000-1").unwrap(), KNOWN[1]);
        assert_eq!(find("019ae0001111").unwrap(), KNOWN[1]);
    }

    #[test]
    fn a_beginning_of_more_than_one_is_refused_and_they_are_listed() {
        let error = find("019ae0").unwrap_err();
        assert!(
            error.contains(KNOWN[0]) && error.contains(KNOWN[1]),
            "{error}"
        );
        assert!(!error.contains(KNOWN[2]), "{error}");
    }

    #[test]
    fn what_is_too_short_unknown_or_no_id_is_refused() {
        for (text, said) in [
            ("019ae", "first 6 digits"),
            ("latest", "first 6 digits"),
            ("0x9ae0", "first 6 digits"),
            ("ffffff", "no rotation"),
        ] {
            let error = find(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
