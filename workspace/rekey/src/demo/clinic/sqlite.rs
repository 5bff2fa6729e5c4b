//! The clinic in a file.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use sqlx::{
    QueryBuilder, Sqlite,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions},
};

use super::{Clinic, Sealed, sealed};

/// A SQLite database of the demo's own.
pub struct SqliteClinic(SqlitePool);

impl SqliteClinic {
    /// Makes the database, empty.
    pub async fn create(file: &Path) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(20));
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_with(options)
            .await?;
        let table = "CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT NOT NULL, ssn BLOB NOT NULL, \
                     notes TEXT NOT NULL, updated_at TEXT NOT NULL)";
        sqlx::query(table).execute(&pool).await?;
        Ok(Self(pool))
    }
}

#[async_trait]
impl Clinic for SqliteClinic {
    async fn insert(&self, patients: &[(String, Sealed)]) -> sqlx::Result<()> {
        let mut insert =
            QueryBuilder::<Sqlite>::new("INSERT INTO patients (id, name, ssn, notes, updated_at) ");
        insert.push_values(patients, |mut values, (name, patient)| {
            values
                .push_bind(patient.id)
                .push_bind(name)
                .push_bind(&patient.ssn)
                .push_bind(&patient.notes)
                .push("datetime('now')");
        });
        insert.build().execute(&self.0).await?;
        Ok(())
    }

    async fn update(&self, patient: &Sealed) -> sqlx::Result<()> {
        let update =
            "UPDATE patients SET ssn = ?, notes = ?, updated_at = datetime('now') WHERE id = ?";
        let update = sqlx::query(update)
            .bind(&patient.ssn)
            .bind(&patient.notes)
            .bind(patient.id);
        update.execute(&self.0).await?;
        Ok(())
    }

    async fn delete(&self, id: i64) -> sqlx::Result<()> {
        let delete = sqlx::query("DELETE FROM patients WHERE id = ?").bind(id);
        delete.execute(&self.0).await?;
        Ok(())
    }

    async fn read(&self, id: i64) -> sqlx::Result<Sealed> {
        let read = sqlx::query_as("SELECT id, ssn, notes FROM patients WHERE id = ?").bind(id);
        Ok(sealed(read.fetch_one(&self.0).await?))
    }

    async fn page(&self, after: i64) -> sqlx::Result<Vec<Sealed>> {
        let page = "SELECT id, ssn, notes FROM patients WHERE id > ? ORDER BY id LIMIT 2000";
        let rows = sqlx::query_as(page).bind(after).fetch_all(&self.0).await?;
        Ok(rows.into_iter().map(sealed).collect())
    }
}
