//! The clinic in the demo's schema of a PostgreSQL database.

use async_trait::async_trait;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Clinic, Sealed, sealed};

/// A table in the schema `rekey_demo`.
pub struct PostgresClinic(PgPool);

impl PostgresClinic {
    /// The table's name from anywhere in its database.
    pub const RELATION: &'static str = "rekey_demo.patients";

    /// Makes the table, empty, with room on each page for updates; the schema is there.
    pub async fn create(options: PgConnectOptions) -> sqlx::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .connect_with(options.application_name("rekey demo"))
            .await?;
        let table = "CREATE TABLE rekey_demo.patients (id bigint PRIMARY KEY, name text NOT NULL, \
                     ssn bytea NOT NULL, notes text NOT NULL, updated_at timestamptz NOT NULL) \
                     WITH (fillfactor = 70)";
        sqlx::query(table).execute(&pool).await?;
        Ok(Self(pool))
    }
}

#[async_trait]
impl Clinic for PostgresClinic {
    async fn insert(&self, patients: &[(String, Sealed)]) -> sqlx::Result<()> {
        let of = patients.iter();
        let ids: Vec<_> = of.clone().map(|(_, patient)| patient.id).collect();
        let names: Vec<_> = of.clone().map(|(name, _)| name.as_str()).collect();
        let ssns: Vec<_> = of.clone().map(|(_, one)| one.ssn.as_slice()).collect();
        let notes: Vec<_> = of.map(|(_, patient)| patient.notes.as_str()).collect();
        let insert = "INSERT INTO rekey_demo.patients (id, name, ssn, notes, updated_at) \
                      SELECT *, now() FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[])";
        let insert = sqlx::query(insert).bind(ids).bind(names);
        insert.bind(ssns).bind(notes).execute(&self.0).await?;
        Ok(())
    }

    async fn update(&self, patient: &Sealed) -> sqlx::Result<()> {
        let update = "UPDATE rekey_demo.patients SET ssn = $1, notes = $2, updated_at = now() \
                      WHERE id = $3";
        let update = sqlx::query(update)
            .bind(&patient.ssn)
            .bind(&patient.notes)
            .bind(patient.id);
        update.execute(&self.0).await?;
        Ok(())
    }

    async fn delete(&self, id: i64) -> sqlx::Result<()> {
        let delete = sqlx::query("DELETE FROM rekey_demo.patients WHERE id = $1").bind(id);
        delete.execute(&self.0).await?;
        Ok(())
    }

    async fn read(&self, id: i64) -> sqlx::Result<Sealed> {
        let read = "SELECT id, ssn, notes FROM rekey_demo.patients WHERE id = $1";
        let read = sqlx::query_as(read).bind(id).fetch_one(&self.0);
        Ok(sealed(read.await?))
    }

    async fn page(&self, after: i64) -> sqlx::Result<Vec<Sealed>> {
        let page = "SELECT id, ssn, notes FROM rekey_demo.patients WHERE id > $1 \
                    ORDER BY id LIMIT 2000";
        let rows = sqlx::query_as(page).bind(after).fetch_all(&self.0).await?;
        Ok(rows.into_iter().map(sealed).collect())
    }
}
