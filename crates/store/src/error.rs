//! What can go wrong in the store, and whether retrying helps.

use rekey_domain::KeyId;
use sea_orm::{DbErr, SqlErr, SqlxError};

use crate::database::faults::{self, driver_error};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer or refused for now. Retrying helps.
    #[error("the store is out of reach or busy: {0}")]
    OutOfReach(String),
    /// No space is left for the store. Retrying helps once there is.
    #[error("the disk of the store is full; nothing was changed")]
    DiskFull,
    /// The lease that protected the work has passed to another process; nothing was written.
    #[error("the lease {name} is no longer ours; nothing was written")]
    Fenced {
        /// The lease's name.
        name: String,
    },
    /// Someone else changed the row first; nothing was written. Reading again helps.
    #[error("{what} changed meanwhile; nothing was written")]
    Stale {
        /// The row.
        what: String,
    },
    /// There is no such thing.
    #[error("there is no {what}{}", list_of(.known))]
    Unknown {
        /// What was asked for.
        what: String,
        /// What there is instead.
        known: Vec<String>,
    },
    /// The schema is not the one this program knows.
    #[error("the store's schema {found}; {remedy}")]
    Schema {
        /// What was found.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Others may create in the store's schema. A function named as one of ours could run with Rekey's rights.
    #[error(
        "others may create functions in the store's schema {schema}, which could be run in place of the database's own, as us; have the schema's owner run {cure}"
    )]
    OpenSchema {
        /// The schema.
        schema: String,
        /// What takes that right away, as SQL.
        cure: String,
    },
    /// A second worker process on a SQLite store.
    #[error("{path} is held by another worker process; SQLite serves one, use PostgreSQL for more")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// The file of a SQLite store has a second name.
    #[error(
        "{path} has more than one name (hard links): what is written by the other would not be seen, and writing by both destroys it; remove all but one"
    )]
    OtherName {
        /// The file.
        path: String,
    },
    /// A rule of the domain forbids it. Retrying does not help.
    #[error("{0}")]
    Refused(String),
    /// Nothing is encrypted under the key any more. Retrying does not help; another takes its place.
    #[error("key {key} is compromised, so nothing is encrypted under it")]
    Compromised {
        /// The key.
        key: KeyId,
    },
    /// The audit log could not be written, so nothing was done (rule 8).
    #[error("the audit entry could not be sealed, so nothing was done: {0}")]
    Audit(String),
    /// The database's role lacks a right. Retrying does not help.
    #[error(
        "the store's database does not let us: {0}; `rekey grants` prints the SQL that gives its role what it needs"
    )]
    Denied(String),
    /// No database is named.
    #[error(
        "the store's URL cannot be read; expected postgres://user:password@host:port/database or sqlite://file"
    )]
    Url,
    /// A pooler gives our sessions other connections each time.
    #[error("the store, {place}: {}", rekey_domain::SHARED_SESSIONS)]
    Pooled {
        /// The database.
        place: String,
    },
    /// The URL of a SQLite database has parameters that are not allowed.
    #[error("the store's URL {0}")]
    UrlSays(&'static str),
    /// Anything else the database says.
    #[error("the store failed: {0}")]
    Database(String),
}

fn list_of(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("; there is {}", names.join(", "))
    }
}

impl StoreError {
    /// Whether doing the same again may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::OutOfReach(_) | Self::DiskFull | Self::Stale { .. }
        )
    }

    /// The error of a statement that loses to a unique index when someone else was first.
    pub(crate) fn stale_if_taken(error: DbErr, what: impl Into<String>) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => Self::Stale { what: what.into() },
            _ => error.into(),
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        let text = error.to_string();
        if text.contains("database or disk is full") {
            return Self::DiskFull;
        }
        let transient = ["database is locked", "unable to open", "disk I/O error"];
        let meaning = faults::meaning(&error);
        if transient.iter().any(|phrase| text.contains(phrase)) {
            return Self::OutOfReach(meaning);
        }
        match driver_error(&error) {
            Some(SqlxError::Database(refused)) => match refused.code().as_deref() {
                Some("53100") => Self::DiskFull,
                Some("42501") => Self::Denied(faults::denied(&**refused)),
                Some(code) if passes(code) => Self::OutOfReach(meaning),
                _ if matches!(error, DbErr::Conn(_)) => Self::OutOfReach(meaning),
                _ => Self::Database(meaning),
            },
            Some(driver) if is_connection_lost(driver) => Self::OutOfReach(meaning),
            _ if matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_)) => {
                Self::OutOfReach(meaning)
            }
            _ => Self::Database(meaning),
        }
    }
}

/// Whether a PostgreSQL error of this code passes by itself: connection lost (08), serialization
/// failure and deadlock (40), too many connections or memory (53), shutdown and cancelled statements
/// (57), IO, a wait for a lock, a transaction that was idle for too long, and a standby not yet promoted.
fn passes(code: &str) -> bool {
    let five = code.len() == 5;
    let class = ["08", "40", "53", "57"]
        .iter()
        .any(|class| code.starts_with(class));
    five && (class || ["58030", "55P03", "25P03", "25006"].contains(&code))
}

fn is_connection_lost(error: &SqlxError) -> bool {
    matches!(
        error,
        SqlxError::Io(_)
            | SqlxError::Tls(_)
            | SqlxError::Protocol(_)
            | SqlxError::PoolTimedOut
            | SqlxError::PoolClosed
            | SqlxError::WorkerCrashed
    )
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, Statement};

    use super::*;
    use crate::{
        Store,
        database::test_store::{Kind, TestStore},
        keys::keyrings,
    };

    async fn raise(store: &Store, code: &str) -> StoreError {
        let sql = format!("DO $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = '{code}'; END $$");
        store
            .db()
            .execute_unprepared(&sql)
            .await
            .unwrap_err()
            .into()
    }

    #[tokio::test]
    async fn what_passes_by_itself_on_postgresql_is_retryable_and_the_rest_is_not() {
        let store = TestStore::new(Kind::Postgres).await;
        for code in [
            "40001", "40P01", "53300", "55P03", "57014", "57P01", "08006", "25006",
        ] {
            let error = raise(&store, code).await;
            assert!(
                matches!(error, StoreError::OutOfReach(_)),
                "{code}: {error}"
            );
        }
        assert!(matches!(raise(&store, "53100").await, StoreError::DiskFull));
        for code in ["42601", "23514", "22012"] {
            let error = raise(&store, code).await;
            assert!(!error.is_retryable(), "{code}: {error}");
        }
    }

    #[tokio::test]
    async fn a_session_that_was_ended_is_retryable_and_the_next_unit_has_another() {
        let store = TestStore::new(Kind::Postgres).await;
        let unit = store.unit().await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let other = store.another().await;
        other.db().execute_unprepared(end).await.unwrap();
        let lost = keyrings::ensure_deployment(&unit).await.unwrap_err();
        assert!(lost.is_retryable(), "{lost}");
        drop(unit);
        let error = loop {
            match store.begin().await {
                Ok(_) => break None,
                Err(error) if error.is_retryable() => {}
                Err(error) => break Some(error),
            }
        };
        assert!(error.is_none(), "{error:?}");
    }

    #[tokio::test]
    async fn a_right_that_is_missing_is_named_with_the_remedy() {
        let store = TestStore::new(Kind::Postgres).await;
        let role = format!("rekey_test_{:016x}", rand::random::<u64>());
        let admin = store.db();
        let create = format!("CREATE ROLE {role}; GRANT {role} TO CURRENT_USER");
        admin.execute_unprepared(&create).await.unwrap();
        let unit = store.unit().await;
        let become_it = format!("SET LOCAL ROLE {role}");
        unit.db().execute_unprepared(&become_it).await.unwrap();
        let denied = keyrings::ensure_deployment(&unit).await.unwrap_err();
        drop(unit);
        admin
            .execute_unprepared(&format!("DROP ROLE {role}"))
            .await
            .unwrap();
        let text = denied.to_string();
        assert!(
            matches!(denied, StoreError::Denied(_)) && !denied.is_retryable(),
            "{text}"
        );
        assert!(
            text.contains("table deployment") && text.contains("rekey grants"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn whoever_waits_for_a_row_too_long_may_try_again() {
        let store = TestStore::new(Kind::Postgres).await;
        let keyring = store.keyring("phi").await;
        let holder = store.unit().await;
        keyrings::lock(&holder, keyring.id).await.unwrap();
        let waits = store.unit().await;
        let soon = Statement::from_string(
            sea_orm::DbBackend::Postgres,
            "SET LOCAL lock_timeout = '50ms'",
        );
        waits.db().execute_raw(soon).await.unwrap();
        let error = keyrings::lock(&waits, keyring.id).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
}
