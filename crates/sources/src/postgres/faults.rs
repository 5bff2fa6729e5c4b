//! What PostgreSQL's error codes mean for us.
//!
//! Its messages are not passed on: a trigger's `RAISE` or a failed cast puts values in them.

use std::io::ErrorKind;

use sqlx::{Error, postgres::PgDatabaseError};

use crate::{RowKey, SourceError, place::Place};

/// A lock that was not free in time, or a deadlock that we were to give way in.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// What was waited for where somebody else had it locked.
pub(super) const A_LOCK: &str = "a lock";
const DEADLOCK: &str = "40P01";
const UNDEFINED_TABLE: &str = "42P01";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const NOT_SECURE: &str = "no secure connection came about; check sslmode and sslrootcert";

/// Says where an error of the driver happened.
pub(super) trait Located<T> {
    /// The error as ours.
    fn at(self, place: &Place) -> Result<T, SourceError>;
}

impl<T> Located<T> for Result<T, Error> {
    fn at(self, place: &Place) -> Result<T, SourceError> {
        self.map_err(|error| translate(&error, place))
    }
}

/// Whether someone else holds a lock that we waited for.
pub(super) fn is_locked(error: &Error) -> bool {
    [LOCK_NOT_AVAILABLE, DEADLOCK].contains(&code(error).as_str())
}

/// The error of a statement on one part of `table`, which may have been dropped since it was found.
pub(super) fn of_part(error: &Error, table: &Place, part: &Place) -> SourceError {
    if code(error) == UNDEFINED_TABLE {
        return SourceError::UndefinedTable {
            database: table.database.to_string(),
            part: part.relation.clone(),
        };
    }
    translate(error, part)
}

/// Whether our role lacks a right.
pub(super) fn is_forbidden(error: &Error) -> bool {
    code(error) == INSUFFICIENT_PRIVILEGE
}

pub(super) fn refused(row: &RowKey, rule: String, place: &Place) -> SourceError {
    SourceError::Refused {
        relation: place.relation.clone(),
        row: *row,
        rule,
    }
}

/// The rule of the user's that refused an update, if one did. A trigger may raise any code that is
/// not PostgreSQL's own.
pub(super) fn refusal(error: &Error) -> Option<Refusal> {
    if is_raised(error) {
        return Some(Refusal::Trigger);
    }
    let code = code(error);
    let kind = match code.get(..2)? {
        "23" => match code.as_str() {
            "23502" => "a NOT NULL constraint",
            "23503" => "a FOREIGN KEY constraint",
            "23505" => "a UNIQUE constraint",
            "23514" => "a CHECK constraint",
            "23P01" => "an EXCLUDE constraint",
            _ => "a constraint",
        },
        "22" if code == "22001" => "the length of the column",
        "44" => "a CHECK OPTION",
        "08" | "0A" | "25" | "28" | "3D" | "40" | "42" | "53" | "54" | "55" | "57" | "58"
        | "XX" => {
            return None;
        }
        _ => return Some(Refusal::Trigger),
    };
    let named = error.as_database_error().and_then(|said| said.constraint());
    Some(Refusal::Rule {
        kind,
        named: named.map(str::to_owned),
    })
}

/// Whether the owner's code raised it, whatever code it gave: the server's own trouble comes from elsewhere.
fn is_raised(error: &Error) -> bool {
    let found = error.as_database_error();
    let found = found.and_then(|found| found.try_downcast_ref::<PgDatabaseError>());
    found.and_then(PgDatabaseError::routine) == Some("exec_stmt_raise")
}

/// What refused an update.
pub(super) enum Refusal {
    /// A rule of the table, of this kind. The owner's code may claim to be one, under any name.
    Rule {
        kind: &'static str,
        named: Option<String>,
    },
    /// One of those that fire; which, the server does not say.
    Trigger,
}

fn translate(error: &Error, place: &Place) -> SourceError {
    let gone = |reason: String| SourceError::OutOfReach {
        database: place.database.to_string(),
        reason,
    };
    match error {
        Error::Database(found) => of_code(&code(error), found.message(), place),
        Error::Tls(_) => gone(NOT_SECURE.to_owned()),
        // A certificate that is not trusted comes as an error of the connection.
        Error::Io(error) if error.kind() == ErrorKind::InvalidData => gone(NOT_SECURE.to_owned()),
        Error::Io(error) => gone(rekey_domain::io_words(error)),
        Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed | Error::Protocol(_) => {
            gone("the connection ended".to_owned())
        }
        _ => other(
            "the driver could not read what the database sent".to_owned(),
            place,
        ),
    }
}

fn of_code(code: &str, message: &str, place: &Place) -> SourceError {
    let database = place.database.to_string();
    let busy = |waited_for: &str| SourceError::Busy {
        database: place.database.to_string(),
        waited_for: waited_for.to_owned(),
        held_by: None,
    };
    match code {
        LOCK_NOT_AVAILABLE | DEADLOCK if place.relation == "-" => busy(A_LOCK),
        LOCK_NOT_AVAILABLE | DEADLOCK => busy(&format!("{A_LOCK} on {}", place.relation)),
        "40001" | "57014" => busy("an answer to a statement"),
        "53300" => busy("a free connection slot of the server"),
        "53100" => SourceError::DiskFull { database },
        // A statement that was prepared a moment ago is not there, or there twice.
        "26000" | "42P05" => SourceError::Pooled { database },
        "25006" => SourceError::Standby { database },
        INSUFFICIENT_PRIVILEGE => forbidden(message, place),
        UNDEFINED_TABLE => SourceError::NoSuchTable {
            database,
            relation: place.relation.clone(),
        },
        // Terminated by an administrator, crashed, starting up, dropped; and all of the connection's.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "53200" | "53400" => {
            gone(code, place)
        }
        // A password that is being replaced, here or there.
        "28000" | "28P01" => gone(code, place),
        // Of what is stored there; what it is, `damage` finds out.
        _ if code.starts_with("XX") => damaged(
            "what is stored there cannot be read; the server's log says what",
            code,
            place,
        ),
        // A file that is gone or cannot be read. What is lost is a table's, or a row's.
        "58P01" | "58030" if place.relation != "-" => damaged(
            "a file of the server's cannot be read; the server's log says which",
            code,
            place,
        ),
        _ if code.starts_with("08") || code.starts_with("58") => gone(code, place),
        _ => other(format!("{} (SQLSTATE {code})", meaning(code)), place),
    }
}

/// The error of an attempt to connect. A database that takes no connections, or is missing while it is restored, comes
/// back. A right that is missing here is not one on a table.
pub(super) fn of_connection(error: &Error, place: &Place) -> SourceError {
    match code(error).as_str() {
        code @ ("3D000" | "55000" | "57P04") => gone(code, place),
        INSUFFICIENT_PRIVILEGE => SourceError::NotAllowed {
            database: place.database.to_string(),
            relation: "it".to_owned(),
            what: "connect to",
            remedy: "have its owner run GRANT CONNECT ON DATABASE for our role".to_owned(),
        },
        _ => translate(error, place),
    }
}

fn gone(code: &str, place: &Place) -> SourceError {
    let reason = match code {
        "3D000" => "there is no such database; check its name in the URL",
        "55000" => "the database takes no connections now (ALLOW_CONNECTIONS)",
        "57P04" => "the database was dropped",
        "57P01" => "the connection was terminated",
        "57P03" => "the server is starting up or shutting down",
        "53200" | "53400" => "the server has no resources left",
        "25P03" | "57P05" => "the connection was idle for too long",
        "28000" | "28P01" => {
            "the login was refused; check user and password in the URL, and pg_hba.conf"
        }
        _ => "the connection failed",
    };
    SourceError::OutOfReach {
        database: place.database.to_string(),
        reason: format!("{reason} (SQLSTATE {code})"),
    }
}

/// The missing right. `message` names only tables and roles; it is parsed and never shown.
fn forbidden(message: &str, place: &Place) -> SourceError {
    let relation = &place.relation;
    // The server's own file, which the system keeps from it.
    if message.starts_with("could not open file") {
        return damaged(
            "a file of the server's cannot be opened by it; the server's log says which",
            INSUFFICIENT_PRIVILEGE,
            place,
        );
    }
    let (what, remedy) = if message.contains("row-level security") {
        (
            "see all rows of",
            "row-level security would hide rows from us: ALTER ROLE … BYPASSRLS for our role"
                .to_owned(),
        )
    } else if names_another(message, relation) {
        (
            "do what its own code does on",
            format!(
                "a trigger, or code of an index or a constraint, needs a right on something other than {relation}, which our role lacks; the server's log names it: grant it to our role, or make that function SECURITY DEFINER"
            ),
        )
    } else {
        (
            "read or write",
            format!(
                "our role needs USAGE on its schema and GRANT SELECT (ctid, its primary key, bind and \
                 protected columns), UPDATE (its protected columns) ON {relation}, which rekey grants prints; a partition needs \
                 grants of its own, and where row-level security is on, our role needs BYPASSRLS"
            ),
        )
    };
    SourceError::NotAllowed {
        database: place.database.to_string(),
        relation: relation.clone(),
        what,
        remedy,
    }
}

/// Whether what may not be done is another table's, or no table's at all, as far as the server says it in English.
fn names_another(message: &str, relation: &str) -> bool {
    let Some(what) = message.strip_prefix("permission denied for ") else {
        return false;
    };
    let Some(table) = what.strip_prefix("table ") else {
        return !what.starts_with("schema ") && !what.starts_with("column ");
    };
    let plain = |name: &str| name.replace('"', "");
    let (named, ours) = (plain(table), plain(relation));
    let same = ours == named || ours.ends_with(&format!(".{named}"));
    !same
}

/// The error of what the server cannot read.
pub(super) fn damaged(reason: &str, code: &str, place: &Place) -> SourceError {
    SourceError::Damaged {
        database: place.database.to_string(),
        relation: place.relation.clone(),
        reason: reason.to_owned(),
        code: format!("SQLSTATE {code}"),
    }
}

fn other(reason: String, place: &Place) -> SourceError {
    SourceError::Database {
        database: place.database.to_string(),
        relation: place.relation.clone(),
        reason,
    }
}

fn meaning(code: &str) -> &'static str {
    match code {
        "42703" => "a column is missing",
        "42883" | "42804" | "42846" => {
            "a column is of another type than it was, or code of the table's owner names what only his search path finds: ALTER FUNCTION … SET search_path"
        }
        "42704" => {
            "code of the table's owner names what only his search path finds: ALTER FUNCTION … SET search_path"
        }
        "0A000" => {
            "the database does not do this there, as where a rule (CREATE RULE … DO INSTEAD, with a condition or without) stands in place of an update: drop the rule, or have a trigger do it"
        }
        "55006" => "a table that a statement is at work on was to be emptied or altered",
        "55000" => {
            "the table cannot be updated as it is; a published table needs a replica identity"
        }
        _ => "a statement failed",
    }
}

/// The error's five characters; empty if the driver reports none.
fn code(error: &Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code());
    code.map(|code| code.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, message: &str) -> SourceError {
        let place = Place::new(&"PostgreSQL clinic at db:5432".into(), "patients");
        of_code(code, message, &place)
    }

    #[test]
    fn what_passes_by_itself_is_retryable() {
        for code in [
            "55P03", "40P01", "40001", "57014", "53300", "53100", "57P01", "57P03", "08006",
            "25006", "58000", "28P01",
        ] {
            assert!(error(code, "").is_retryable(), "{code}");
        }
        for code in [
            "3D000", "42501", "42703", "42P01", "55000", "XX001", "22P02",
        ] {
            assert!(!error(code, "").is_retryable(), "{code}");
        }
        assert!(matches!(error("53100", ""), SourceError::DiskFull { .. }));
        assert!(matches!(error("25006", ""), SourceError::Standby { .. }));
    }

    #[test]
    fn only_what_cannot_be_read_is_damage() {
        let is_damage = |code| matches!(error(code, ""), SourceError::Damaged { .. });
        for code in ["XX000", "XX001", "XX002", "58P01", "58030"] {
            assert!(is_damage(code), "{code}");
        }
        for code in [
            "57P01", "57P03", "08006", "57014", "55P03", "53200", "58000", "25P03", "",
        ] {
            assert!(!is_damage(code), "{code}");
        }
    }

    #[test]
    fn no_message_is_passed_on() {
        for code in ["22P02", "42501", "P0001", "XX000", "57014", "28P01"] {
            let shown = error(code, "invalid input syntax: \"123-45-6789\"");
            assert!(!format!("{shown} {shown:?}").contains("6789"), "{code}");
        }
    }

    #[test]
    fn a_missing_right_is_named_as_sql() {
        let shown = error("42501", "permission denied for table patients").to_string();
        assert!(
            shown.contains("GRANT SELECT") && shown.contains("ON patients"),
            "{shown}"
        );
        let policy = "query would be affected by row-level security policy for table \"patients\"";
        assert!(error("42501", policy).to_string().contains("BYPASSRLS"));
    }
}
