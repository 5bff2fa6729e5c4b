//! PostgreSQL for the suite: a database of the test's own, the application's connections, the source.

use std::sync::Arc;

use async_trait::async_trait;
use rekey_domain::Found;
use rekey_sources::{
    Counted, Page, ReadQuery, RowUpdate, Source, SourceError, SourceRow, StoredValue,
};
use rekey_testkit::TestDatabase;
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgRow};

use super::fixture::{
    Fixture, NEW, OLD, Patient, ReadColumnExt, ciphertext, found, id, patient, read_all, ssn, swap,
    whole,
};

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

    /// The same, on the server of this URL.
    pub async fn at(server: &str) -> Self {
        Self::on(TestDatabase::on(server).await, PATIENTS).await
    }

    /// A database in which `sql` was run.
    pub async fn with(sql: &str) -> Self {
        Self::on(TestDatabase::create().await, sql).await
    }

    async fn on(database: TestDatabase, sql: &str) -> Self {
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

    /// A database of another encoding, with an empty table of patients.
    pub async fn in_encoding(encoding: &str) -> Self {
        let database = TestDatabase::create().await;
        let name = database.name();
        let server = rekey_testkit::services::url(rekey_testkit::services::POSTGRES);
        let server = PgPool::connect(&server).await.unwrap();
        for sql in [
            format!("DROP DATABASE {name}"),
            format!(
                "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            ),
        ] {
            sqlx::query(AssertSqlSafe(sql))
                .execute(&server)
                .await
                .unwrap();
        }
        Self::on(database, PATIENTS).await
    }

    /// Connections of another process of ours.
    pub async fn another(&self) -> Arc<dyn Source> {
        rekey_sources::open(&self.database.url()).await.unwrap()
    }

    /// The source as another role sees it.
    pub async fn open_as(&self, role: &str) -> Arc<dyn Source> {
        let url = self.database.url_as(role, role);
        rekey_sources::open(&url).await.unwrap()
    }
}

#[async_trait]
impl Fixture for PostgresFixture {
    fn refusing_trigger(&self, table: &str, name: &str) -> Vec<String> {
        let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
            'BEGIN RAISE EXCEPTION ''not 123-45-6789''; END'";
        let trigger = format!(
            "CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        );
        vec![refuse.to_owned(), trigger]
    }

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
        rows.await.unwrap().iter().map(row_of).collect()
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
        let digits = hex::encode(bytes);
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

fn row_of(row: &PgRow) -> Patient {
    Patient {
        id: row.get("id"),
        name: row.get("name"),
        ssn: row.get("ssn"),
        notes: row.get("notes"),
        updated_at: row.get("updated_at"),
    }
}

/// A clinic of so many patients under the old key, and the updates that move them.
pub async fn patients(rows: i64) -> (PostgresFixture, ReadQuery, Vec<RowUpdate>) {
    let fixture = PostgresFixture::new().await;
    let patients: Vec<_> = (1..=rows).map(|id| patient(id, OLD)).collect();
    fixture.insert(&patients).await;
    let (query, updates) = moves(fixture.source()).await;
    (fixture, query, updates)
}

/// The updates that are left to do.
pub async fn moves(source: &Arc<dyn Source>) -> (ReadQuery, Vec<RowUpdate>) {
    let mut query = whole(source, vec![ssn()]).await;
    query.trusts_code = true;
    let rows = read_all(source, &query).await;
    let new = |row| StoredValue::Bytes(ciphertext(NEW, id(row) as u64, 60));
    let updates = rows.iter().map(|row| swap(row, &ssn(), new(row)));
    (query, updates.collect())
}

pub const PARTITIONED: &str = "
    CREATE TABLE visits (clinic INT NOT NULL, id INT NOT NULL, ssn BYTEA, PRIMARY KEY (clinic, id))
        PARTITION BY LIST (clinic);
    CREATE TABLE visits_1 PARTITION OF visits FOR VALUES IN (1);
    CREATE TABLE visits_2 PARTITION OF visits FOR VALUES IN (2) PARTITION BY RANGE (id);
    CREATE TABLE visits_2_low PARTITION OF visits_2 FOR VALUES FROM (0) TO (100);
    CREATE SCHEMA archive;
    CREATE TABLE archive.visits_2_high PARTITION OF visits_2 FOR VALUES FROM (100) TO (1000)";

pub fn old() -> String {
    hex(&ciphertext(OLD, 1, 60))
}

/// Reads every part of a table, and the part that each row is of.
pub async fn read_parts(
    source: &dyn Source,
    relation: &str,
    bind: &[&str],
) -> Vec<(ReadQuery, SourceRow)> {
    let mut rows = Vec::new();
    for part in source.parts(relation).await.unwrap() {
        let Some(range) = source
            .next_range(relation, &part, None, u32::MAX)
            .await
            .unwrap()
        else {
            continue;
        };
        let query = ReadQuery {
            relation: relation.to_owned(),
            part: part.id,
            range,
            columns: vec![ssn()],
            bind_columns: bind.iter().map(|name| (*name).to_owned()).collect(),
            trusts_code: false,
        };
        let Page { rows: read, next } = source.read(&query, None, 1 << 20).await.unwrap();
        assert_eq!(next, None);
        rows.extend(read.into_iter().map(|row| (query.clone(), row)));
    }
    rows
}

pub async fn census(source: &dyn Source, relation: &str) -> Vec<(Found, u64)> {
    found(census_of(source, relation).await.unwrap())
}

/// A census that gives way is taken again: a busy machine is no fault of what is counted.
pub async fn census_of(source: &dyn Source, relation: &str) -> Result<Vec<Counted>, SourceError> {
    let columns = [ssn().to_count()];
    for _ in 0..20 {
        let counted = source.census(relation, &columns, None).await;
        if !counted.as_ref().is_err_and(SourceError::is_retryable) {
            return counted.map(|mut columns| columns.remove(0));
        }
    }
    panic!("the census of {relation} gave way 20 times");
}

fn hex(bytes: &[u8]) -> String {
    let digits = hex::encode(bytes);
    format!("'\\x{digits}'")
}
