//! PostgreSQL for the suite: a database of the test's own, the application's connections, the source.

use std::sync::Arc;

use async_trait::async_trait;
use rekey_sources::Source;
use rekey_testkit::TestDatabase;
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgRow};

use super::fixture::{Fixture, Patient};

const PATIENTS: &str = "CREATE TABLE patients (
    id BIGINT PRIMARY KEY, name TEXT NOT NULL, ssn BYTEA, notes TEXT, updated_at BIGINT NOT NULL)";

pub struct PostgresFixture {
    source: Arc<dyn Source>,
    /// The application, as a superuser.
    pub application: PgPool,
    pub database: TestDatabase,
}

impl PostgresFixture {
    /// A database with an empty table of patients.
    pub async fn new() -> Self {
        Self::with(PATIENTS).await
    }

    /// A database in which `sql` was run.
    pub async fn with(sql: &str) -> Self {
        let database = TestDatabase::create().await;
        let application = database.pool().await;
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&application)
            .await
            .unwrap();
        let source = rekey_sources::open(&database.url()).await.unwrap();
        Self {
            source,
            application,
            database,
        }
    }

    /// Connections of another process of ours.
    pub async fn open_as(&self, role: &str) -> Arc<dyn Source> {
        let url = self.database.url_as(role, role);
        rekey_sources::open(&url).await.unwrap()
    }
}

#[async_trait]
impl Fixture for PostgresFixture {
    fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    async fn insert(&self, patients: &[Patient]) {
        let mut transaction = self.application.begin().await.unwrap();
        for patient in patients {
            sqlx::query("INSERT INTO patients VALUES ($1, $2, $3, $4, $5)")
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
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.application)
            .await
            .unwrap();
    }

    fn relation(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    fn bytes(&self) -> &'static str {
        "BYTEA"
    }

    fn literal(&self, bytes: &[u8]) -> String {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("'\\x{digits}'::bytea")
    }

    async fn store_ssn(&self, id: i64, ssn: &[u8]) {
        sqlx::query("UPDATE patients SET ssn = $1, updated_at = updated_at + 1 WHERE id = $2")
            .bind(ssn)
            .bind(id)
            .execute(&self.application)
            .await
            .unwrap();
    }
}

fn patient(row: &PgRow) -> Patient {
    Patient {
        id: row.get("id"),
        name: row.get("name"),
        ssn: row.get("ssn"),
        notes: row.get("notes"),
        updated_at: row.get("updated_at"),
    }
}
