//! Looking at SQLite: any column may hold anything, and a table may have no rowids.

use rekey_domain::Found;
use rekey_sources::{Measure, SourceError};

use super::{
    fixture::{Fixture, OLD, base64, census_of, ciphertext, notes, patient, ssn},
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

#[tokio::test]
async fn a_table_that_is_called_like_a_part_of_an_index_is_looked_at() {
    let fixture = SqliteFixture::new("wal").await;
    fixture.insert(&[patient(1, OLD)]).await;
    fixture
        .execute("CREATE VIRTUAL TABLE f USING fts5(word, content = '')")
        .await;
    fixture
        .execute("ALTER TABLE patients RENAME TO f_content")
        .await;
    let source = fixture.source();
    let candidates = source.candidates().await.unwrap();
    let mut named = candidates.iter();
    let table = named.find(|table| table.relation == "f_content").unwrap();
    let sample = source.sample("f_content", &table.columns, 100).await;
    let held = |counts: &Vec<(Found, u64)>| counts.contains(&(Found::Key(OLD), 1));
    assert_eq!(sample.unwrap().counts.iter().filter(|c| held(c)).count(), 2);
    let counted = census_of(source, "f_content", &ssn()).await.unwrap();
    assert_eq!(counted, [(Found::Key(OLD), 1)]);
}

#[tokio::test]
async fn a_table_without_rowids_is_counted() {
    let fixture = SqliteFixture::new("wal").await;
    let text = base64(OLD, 2);
    for sql in [
        "CREATE TABLE odd (id TEXT PRIMARY KEY, notes TEXT) WITHOUT ROWID".to_owned(),
        format!("INSERT INTO odd VALUES ('a', '{text}'), ('b', 'plain'), ('c', NULL)"),
        "CREATE TABLE hidden (rowid TEXT, _rowid_ TEXT, oid TEXT, notes TEXT)".to_owned(),
        format!("INSERT INTO hidden VALUES ('a', 'b', 'c', '{text}')"),
    ] {
        fixture.execute(&sql).await;
    }
    let counted = census_of(fixture.source(), "odd", &notes()).await;
    assert_eq!(
        counted.unwrap(),
        [(Found::Key(OLD), 1), (Found::NotCiphertext, 1)]
    );
    let counted = census_of(fixture.source(), "hidden", &notes()).await;
    assert_eq!(counted.unwrap(), [(Found::Key(OLD), 1)]);
}
