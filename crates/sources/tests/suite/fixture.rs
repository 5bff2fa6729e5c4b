//! What a case needs of a database: an application beside the source, and one table of patients.

use std::sync::Arc;

use async_trait::async_trait;
use rekey_domain::{BindValue, Found, KeyId, Part, PartId, Range, TextEncoding, Triggers};
use rekey_sources::{
    CensusColumn, ColumnUpdate, Counted, CountedBy, Deadline, ReadColumn, ReadQuery, RowUpdate,
    Source, SourceError, SourceRow, StoredValue, WriteOutcome, WriteTarget,
};
use tokio::runtime::{Builder, Runtime};

/// The key most rows start under, and the one they are moved to.
pub const OLD: KeyId = KeyId::new(0x0a1b_2c3d);
pub const NEW: KeyId = KeyId::new(0xfeed_beef);
pub const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// A row of `patients (id, name, ssn, notes, updated_at)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patient {
    pub id: i64,
    pub name: String,
    /// Ciphertext as it is.
    pub ssn: Option<Vec<u8>>,
    /// Ciphertext in base64.
    pub notes: Option<String>,
    pub updated_at: i64,
}

/// A fresh database of one kind.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The source under test.
    fn source(&self) -> &Arc<dyn Source>;
    /// Inserts rows as the application does.
    async fn insert(&self, patients: &[Patient]);
    /// All rows by id.
    async fn patients(&self) -> Vec<Patient>;
    /// A statement that every kind of database understands, as the application.
    async fn execute(&self, sql: &str);
    /// A name as SQL and `rekey.toml` have it, whatever is in it.
    fn relation(&self, name: &str) -> String;
    /// What the type of binary columns is called.
    fn bytes(&self) -> &'static str;
    /// Bytes as a literal.
    fn literal(&self, bytes: &[u8]) -> String;
    /// Statements that make a trigger of this name on a table, which refuses every update and says a value.
    fn refusing_trigger(&self, table: &str, name: &str) -> Vec<String>;
    /// The application stores a new `ssn` and counts `updated_at` up.
    async fn store_ssn(&self, id: i64, ssn: &[u8]);
}

pub fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// What looks like ciphertext under `key`; `seed` makes nonce and body.
pub fn ciphertext(key: KeyId, seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = rekey_envelope::prefix(key).to_vec();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub fn base64(key: KeyId, seed: u64) -> String {
    rekey_envelope::encode_base64(&ciphertext(key, seed, 60))
}

/// A patient with both values under `key`.
pub fn patient(id: i64, key: KeyId) -> Patient {
    Patient {
        id,
        name: format!("patient {id}"),
        ssn: Some(ciphertext(key, id as u64, 60)),
        notes: Some(base64(key, id as u64)),
        updated_at: 7,
    }
}

pub fn ssn() -> ReadColumn {
    column("ssn", TextEncoding::Binary)
}

pub fn notes() -> ReadColumn {
    column("notes", TextEncoding::Base64)
}

fn column(name: &str, encoding: TextEncoding) -> ReadColumn {
    ReadColumn {
        name: name.to_owned(),
        encoding,
        settled: vec![NEW],
    }
}

/// A column of a read, to be counted.
pub trait ReadColumnExt {
    fn to_count(&self) -> CensusColumn;
}

impl ReadColumnExt for ReadColumn {
    fn to_count(&self) -> CensusColumn {
        CensusColumn {
            name: self.name.clone(),
            encoding: self.encoding,
            by: CountedBy::Form,
        }
    }
}

/// The only part of a table that has no partitions.
pub async fn only_part(source: &Arc<dyn Source>, relation: &str) -> Part {
    let mut parts = source.parts(relation).await.unwrap();
    assert_eq!(parts.len(), 1, "{parts:?}");
    parts.remove(0)
}

/// A query over the whole table of patients, bound by id.
pub async fn whole(source: &Arc<dyn Source>, columns: Vec<ReadColumn>) -> ReadQuery {
    whole_of(source, "patients", columns).await
}

/// A query over a whole table without partitions, bound by id.
pub async fn whole_of(
    source: &Arc<dyn Source>,
    relation: &str,
    columns: Vec<ReadColumn>,
) -> ReadQuery {
    let part = only_part(source, relation).await;
    let range = source.next_range(relation, &part, None, u32::MAX);
    let range = range.await.unwrap().unwrap_or(Range { first: 0, last: 0 });
    query_of(relation, &part, range, columns)
}

/// A query over a range of a part, bound by id.
pub fn query_of(relation: &str, part: &Part, range: Range, columns: Vec<ReadColumn>) -> ReadQuery {
    ReadQuery {
        relation: relation.to_owned(),
        range,
        part: part.id.clone(),
        columns,
        bind_columns: vec!["id".to_owned()],
        trusts_code: false,
    }
}

/// Where the rows of a query are written.
pub fn target(query: &ReadQuery) -> WriteTarget {
    WriteTarget {
        relation: query.relation.clone(),
        part: query.part.clone(),
        triggers: Triggers::Fire,
        protected_columns: Vec::new(),
        bind_columns: vec!["id".to_owned()],
        other_columns: Vec::new(),
        protected_tables: Vec::new(),
    }
}

pub fn target_of(relation: &str, part: PartId) -> WriteTarget {
    WriteTarget {
        relation: relation.to_owned(),
        part,
        triggers: Triggers::Fire,
        protected_columns: Vec::new(),
        bind_columns: vec!["id".to_owned()],
        other_columns: Vec::new(),
        protected_tables: Vec::new(),
    }
}

/// Counts one column.
pub async fn census_of(
    source: &Arc<dyn Source>,
    relation: &str,
    column: &ReadColumn,
) -> Result<Vec<(Found, u64)>, SourceError> {
    let column = CensusColumn {
        name: column.name.clone(),
        encoding: column.encoding,
        by: CountedBy::Form,
    };
    let mut counts = source.census(relation, &[column], None).await?;
    assert_eq!(counts.len(), 1);
    Ok(found(counts.remove(0)))
}

/// What was counted, without what of it a pass had left.
pub fn found(counted: Vec<Counted>) -> Vec<(Found, u64)> {
    counted.iter().map(Counted::values).collect()
}

/// Reads a query to its end.
pub async fn read_all(source: &Arc<dyn Source>, query: &ReadQuery) -> Vec<SourceRow> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = source.read(query, after, 64 << 10).await.unwrap();
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

/// The id a row is bound to.
pub fn id(row: &SourceRow) -> i64 {
    match row.binds[..] {
        [Some(BindValue::Integer(id)), ..] => id,
        _ => panic!("{row:?} has no id"),
    }
}

/// The update that replaces the first value of `row` by `new`.
pub fn swap(row: &SourceRow, column: &ReadColumn, new: StoredValue) -> RowUpdate {
    RowUpdate {
        key: row.key,
        columns: vec![ColumnUpdate {
            name: column.name.as_str().into(),
            encoding: column.encoding,
            old: row.values[0].clone().expect("the value to replace"),
            new,
        }],
    }
}

pub async fn in_a_minute(source: &Arc<dyn Source>) -> Deadline {
    source.deadline(MINUTE).await.unwrap()
}

pub async fn write(source: &Arc<dyn Source>, updates: &[RowUpdate]) -> Vec<WriteOutcome> {
    write_to(
        source,
        &target_of("patients", only_part(source, "patients").await.id),
        updates,
    )
    .await
}

pub async fn write_to(
    source: &Arc<dyn Source>,
    target: &WriteTarget,
    updates: &[RowUpdate],
) -> Vec<WriteOutcome> {
    let deadline = in_a_minute(source).await;
    source.write(target, updates, deadline).await.unwrap()
}
