//! What SQLite's result codes mean for us.
//!
//! Its messages are not passed on: a trigger's `RAISE` or a JSON function may put a value in one.

use sqlx::{Error, error::DatabaseError};

use crate::{RowKey, SourceError, place::Place};

// Primary result codes, the low byte of what SQLite reports.
const ERROR: i32 = 1;
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const PROTOCOL: i32 = 15;
const TOOBIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;
const NOTADB: i32 = 26;
/// Extended: the file was moved or deleted while it was open.
const READONLY_DBMOVED: i32 = 1032;

/// Says where an error of the driver happened.
pub(super) trait Located<T> {
    /// The error as ours.
    fn at(self, place: &Place) -> Result<T, SourceError>;

    /// The error as ours, from the update of one row, on which these may fire.
    fn at_row(self, place: &Place, row: &RowKey, triggers: &[String]) -> Result<T, SourceError>;
}

impl<T> Located<T> for Result<T, Error> {
    fn at(self, place: &Place) -> Result<T, SourceError> {
        self.map_err(|error| translate(&error, place))
    }

    fn at_row(self, place: &Place, row: &RowKey, triggers: &[String]) -> Result<T, SourceError> {
        self.map_err(|error| match refusal(&error, triggers) {
            Some(rule) => SourceError::Refused {
                relation: place.relation.clone(),
                row: *row,
                rule,
            },
            None => with_triggers(translate(&error, place), triggers),
        })
    }
}

/// With the triggers named that may be why.
fn with_triggers(error: SourceError, triggers: &[String]) -> SourceError {
    match error {
        SourceError::Database {
            relation, reason, ..
        } if !triggers.is_empty() => SourceError::FailsWith {
            relation,
            by: format!("trigger {}", triggers.join(", ")),
            reason,
            may_suppress: false,
        },
        error => error,
    }
}

fn translate(error: &Error, place: &Place) -> SourceError {
    let database = place.database.to_string();
    match error {
        Error::Database(error) => of_code(code(&**error), error.message(), place),
        Error::PoolTimedOut => SourceError::Busy {
            database,
            waited_for: "a connection of ours".to_owned(),
            held_by: None,
        },
        Error::Io(error) => SourceError::OutOfReach {
            database,
            reason: rekey_domain::io_words(error),
        },
        Error::WorkerCrashed | Error::PoolClosed => SourceError::OutOfReach {
            database,
            reason: "the connection ended".to_owned(),
        },
        _ => other(
            "the driver could not read what the database sent".to_owned(),
            place,
        ),
    }
}

fn of_code(code: i32, message: &str, place: &Place) -> SourceError {
    let database = place.database.to_string();
    let gone = |reason: &str| SourceError::OutOfReach {
        database: place.database.to_string(),
        reason: format!("{reason} (SQLite code {code})"),
    };
    match code & 0xff {
        _ if code == READONLY_DBMOVED => gone("the file was moved or deleted"),
        BUSY | LOCKED | PROTOCOL => SourceError::Busy {
            database,
            waited_for: "a lock".to_owned(),
            held_by: None,
        },
        READONLY => SourceError::ReadOnly { database },
        FULL => SourceError::DiskFull { database },
        IOERR => gone("the disk failed to read or write"),
        CANTOPEN => gone("the file cannot be opened"),
        CORRUPT => damaged(
            "its file is damaged (PRAGMA integrity_check says where)",
            code,
            place,
        ),
        NOTADB => damaged(
            "its file is not a SQLite database, or is encrypted as a whole",
            code,
            place,
        ),
        primary => other(meaning(primary, code, message), place),
    }
}

fn damaged(reason: &str, code: i32, place: &Place) -> SourceError {
    SourceError::Damaged {
        database: place.database.to_string(),
        relation: place.relation.clone(),
        reason: reason.to_owned(),
        code: format!("SQLite code {code}"),
    }
}

fn other(reason: String, place: &Place) -> SourceError {
    SourceError::Database {
        database: place.database.to_string(),
        relation: place.relation.clone(),
        reason,
    }
}

fn meaning(primary: i32, code: i32, message: &str) -> String {
    let meaning = match primary {
        ERROR => return format!("{} (SQLite code {code})", schema_problem(message)),
        PERM => "access is not permitted",
        TOOBIG => "a value is larger than SQLite allows",
        CONSTRAINT => "a constraint was violated",
        MISMATCH => "a value does not fit the type of its column",
        _ => "an unexpected answer",
    };
    format!("{meaning} (SQLite code {code})")
}

/// What a message says, without its words: a virtual table may put what it was given into any of them.
fn schema_problem(message: &str) -> &'static str {
    let known = [
        (
            "no such function: ",
            "it names a function that is not there",
        ),
        (
            "no such collation sequence: ",
            "it names a collation that is not there",
        ),
        (
            "no such module: ",
            "it is, or names, a virtual table whose module is not there",
        ),
        (
            "no such table: ",
            "a trigger or view names a table that is not there",
        ),
        (
            "no such column: ",
            "a trigger, view or index names a column that is not there",
        ),
        (
            "unknown database ",
            "a trigger or view names a database that is not there",
        ),
        (
            "cannot UPDATE generated column ",
            "a protected column is generated",
        ),
    ];
    let said = known.iter().find(|(start, _)| message.starts_with(start));
    said.map_or("a statement failed", |(_, meaning)| meaning)
}

/// The rule of the user's that refused an update, if one did.
fn refusal(error: &Error, triggers: &[String]) -> Option<String> {
    let error = error.as_database_error()?;
    let code = code(error);
    let kind = match (code & 0xff, code >> 8) {
        (CONSTRAINT, 1) => "a CHECK constraint",
        (CONSTRAINT, 5) => "a NOT NULL constraint",
        (CONSTRAINT, 6 | 8) => "a UNIQUE constraint",
        (CONSTRAINT, 7) if triggers.is_empty() => "a trigger",
        (CONSTRAINT, 7) => return Some(format!("trigger {}", triggers.join(", "))),
        (CONSTRAINT, 12) => "the type of a STRICT column",
        (CONSTRAINT, _) => "a constraint",
        (MISMATCH, _) => "the type of the column",
        (TOOBIG, _) => "the largest size of a value",
        _ => return None,
    };
    // `CHECK constraint failed: ssn_form`, or the whole expression where it has no name.
    let named = error.message().rsplit_once("constraint failed: ");
    let is_name = |name: &&str| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
    };
    Some(match named.map(|(_, name)| name).filter(is_name) {
        Some(name) => format!("{kind}, {name}"),
        None => kind.to_owned(),
    })
}

/// The extended result code; 0 if the driver reports none.
fn code(error: &dyn DatabaseError) -> i32 {
    let code = error.code().and_then(|code| code.parse().ok());
    code.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, message: &str) -> SourceError {
        of_code(
            code,
            message,
            &Place::new(&"SQLite a.db".into(), "patients"),
        )
    }

    #[test]
    fn what_passes_by_itself_is_retryable() {
        // BUSY, its SNAPSHOT, LOCKED, PROTOCOL, IOERR and its SHORT_READ, FULL, CANTOPEN, DBMOVED.
        for code in [5, 517, 6, 15, 10, 522, 13, 14, 1032] {
            assert!(error(code, "").is_retryable(), "{code}");
        }
        for code in [1, 8, 11, 19, 26] {
            assert!(!error(code, "").is_retryable(), "{code}");
        }
        assert!(matches!(error(13, ""), SourceError::DiskFull { .. }));
        assert!(matches!(error(8, ""), SourceError::ReadOnly { .. }));
    }

    #[test]
    fn a_disk_that_fails_for_now_is_no_damaged_file() {
        let is_damage = |code| matches!(error(code, ""), SourceError::Damaged { .. });
        for (code, damaged) in [(11, true), (267, true), (26, true), (10, false), (5, false)] {
            assert_eq!(is_damage(code), damaged, "{code}");
        }
    }

    #[test]
    fn what_a_message_says_is_told_without_its_words() {
        let known = error(1, "no such function: soundex").to_string();
        assert!(known.contains("a function that is not there"), "{known}");
        assert!(!known.contains("soundex"), "{known}");
        let other = error(1, "bad JSON path: '123-45-6789'").to_string();
        assert!(other.contains("a statement failed"), "{other}");
        assert!(!other.contains("6789"), "{other}");
    }
}
