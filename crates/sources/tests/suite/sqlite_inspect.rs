//! Looking at SQLite: any column may hold anything, and a table may have no rowids.

use rekey_domain::Found;
use rekey_sources::{Measure, SourceError};

use super::{
    fixture::{Fixture, OLD, base64, ciphertext},
    inspect::sampled,
    sqlite_fixture::SqliteFixture,
};

#[tokio::test]
async fn bytes_in_a_column_of_text_and_tables_without_rowids_are_looked_at() {
    let fixture = SqliteFixture::new("wal").await;
    let sealed = fixture.literal(&ciphertext(OLD, 1, 60));
    let text = base64(OLD, 2);
    for sql in [
        "CREATE TABLE odd (id TEXT PRIMARY KEY, note TEXT, number INTEGER) WITHOUT ROWID"
            .to_owned(),
        format!("INSERT INTO odd VALUES ('a', {sealed}, '{text}')"),
    ] {
        fixture.execute(&sql).await;
    }
    let (table, sample) = sampled(&fixture, "odd").await;
    assert_eq!((sample.rows, sample.whole), (1, true));
    let found = table.columns.iter().zip(&sample.counts);
    let found = found.filter(|(_, counts)| **counts == [(Found::Key(OLD), 1)]);
    let found: Vec<_> = found.map(|(column, _)| column.name.as_str()).collect();
    assert_eq!(found, ["note", "number"]);
    let measured = fixture.source().measure("odd", &[], Measure::Count).await;
    assert!(matches!(measured, Err(SourceError::NoRowId { .. })));
}
