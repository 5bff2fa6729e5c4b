//! The clinic's database as its application has it: SQLite or PostgreSQL behind one trait.

mod postgres;
mod sqlite;

use async_trait::async_trait;

pub use postgres::PostgresClinic;
pub use sqlite::SqliteClinic;

/// The protected columns of a patient, as they stand in the table.
pub struct Sealed {
    /// The primary key.
    pub id: i64,
    /// Ciphertext.
    pub ssn: Vec<u8>,
    /// Ciphertext in base64.
    pub notes: String,
}

/// The table `patients`.
#[async_trait]
pub trait Clinic: Send + Sync {
    /// Inserts patients, each with its name, all or none.
    async fn insert(&self, patients: &[(String, Sealed)]) -> sqlx::Result<()>;

    /// Writes the protected columns of a patient.
    async fn update(&self, patient: &Sealed) -> sqlx::Result<()>;

    /// Deletes a patient.
    async fn delete(&self, id: i64) -> sqlx::Result<()>;

    /// A patient that is there.
    async fn read(&self, id: i64) -> sqlx::Result<Sealed>;

    /// The next patients after an id, in order; none: that was all.
    async fn page(&self, after: i64) -> sqlx::Result<Vec<Sealed>>;
}

fn sealed((id, ssn, notes): (i64, Vec<u8>, String)) -> Sealed {
    Sealed { id, ssn, notes }
}
