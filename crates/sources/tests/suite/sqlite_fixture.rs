//! SQLite for the suite: a file, the application's own connections to it, the source beside.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use rekey_sources::Source;
use sqlx::{
    AssertSqlSafe, Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow},
};
use tempfile::TempDir;

use super::fixture::{Fixture, Patient};

const PATIENTS: &str = "CREATE TABLE patients (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, ssn BLOB, notes TEXT, updated_at INTEGER NOT NULL)";

pub struct SqliteFixture {
    pub directory: TempDir,
    pub application: SqlitePool,
    source: Arc<dyn Source>,
}

impl SqliteFixture {
    /// A database in this journal mode, with an empty table of patients.
    pub async fn new(journal: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("clinic.db"))
            .journal_mode(journal.parse::<SqliteJournalMode>().unwrap())
            .create_if_missing(true);
        let application = SqlitePool::connect_with(options).await.unwrap();
        sqlx::query(PATIENTS).execute(&application).await.unwrap();
        let path = directory.path().join("clinic.db");
        let url = format!("sqlite://{}", path.display());
        Self {
            directory,
            application,
            source: rekey_sources::open(&url).await.unwrap(),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("clinic.db")
    }

    /// Makes the source a new one, opened with `parameters` behind its URL.
    pub async fn reopen(&mut self, parameters: &str) {
        let url = format!("sqlite://{}{parameters}", self.path().display());
        self.source = rekey_sources::open(&url).await.unwrap();
    }
}

#[async_trait]
impl Fixture for SqliteFixture {
    fn refusing_trigger(&self, table: &str, name: &str) -> Vec<String> {
        vec![format!(
            "CREATE TRIGGER {name} BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'not 123-45-6789'); END"
        )]
    }

    fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    async fn insert(&self, patients: &[Patient]) {
        let mut transaction = self.application.begin().await.unwrap();
        for patient in patients {
            sqlx::query("INSERT INTO patients VALUES (?, ?, ?, ?, ?)")
                .bind(patient.id)
                .bind(&patient.name)
                .bind(&patient.ssn)
                .bind(&patient.notes)
                .bind(patient.updated_at)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
    }

    async fn patients(&self) -> Vec<Patient> {
        let rows = sqlx::query("SELECT * FROM patients ORDER BY id").fetch_all(&self.application);
        rows.await.unwrap().iter().map(patient).collect()
    }

    async fn execute(&self, sql: &str) {
        let query = sqlx::query(AssertSqlSafe(sql));
        query.execute(&self.application).await.unwrap();
    }

    fn relation(&self, name: &str) -> String {
        name.to_owned()
    }

    fn bytes(&self) -> &'static str {
        "BLOB"
    }

    fn literal(&self, bytes: &[u8]) -> String {
        let digits = hex::encode(bytes);
        format!("x'{digits}'")
    }

    async fn store_ssn(&self, id: i64, ssn: &[u8]) {
        sqlx::query("UPDATE patients SET ssn = ?, updated_at = updated_at + 1 WHERE id = ?")
            .bind(ssn)
            .bind(id)
            .execute(&self.application)
            .await
            .unwrap();
    }
}

fn patient(row: &SqliteRow) -> Patient {
    Patient {
        id: row.get("id"),
        name: row.get("name"),
        ssn: row.get("ssn"),
        notes: row.get("notes"),
        updated_at: row.get("updated_at"),
    }
}
