//! Tables that are called like what tells SQLite's schema: whoever may create a table makes one.

use rekey_domain::Found;
use rekey_sources::{CandidateTable, Measure, TableShape};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    fixture::{Fixture, OLD, ReadColumnExt, census_of, notes, patient, ssn},
    sqlite_fixture::SqliteFixture,
};

/// The functions of tables that pragmas have, with the columns that each gives.
const FUNCTIONS: [(&str, &str); 7] = [
    (
        "pragma_table_list",
        "\"schema\", name, type, ncol, wr, strict",
    ),
    (
        "pragma_table_info",
        "cid, name, type, \"notnull\", dflt_value, pk",
    ),
    (
        "pragma_table_xinfo",
        "cid, name, type, \"notnull\", dflt_value, pk, hidden",
    ),
    (
        "pragma_foreign_key_list",
        "id, seq, \"table\", \"from\", \"to\"",
    ),
    (
        "pragma_index_list",
        "seq, name, \"unique\", origin, partial",
    ),
    ("pragma_index_info", "seqno, cid, name"),
    (
        "pragma_index_xinfo",
        "seqno, cid, name, \"desc\", coll, \"key\"",
    ),
];

/// All that is asked of the schema, as it was answered.
#[derive(Debug, PartialEq)]
struct Answers {
    shape: TableShape,
    indexes: Vec<Vec<String>>,
    found: Vec<(Found, u64)>,
    candidates: Vec<CandidateTable>,
}

async fn answers(fixture: &SqliteFixture) -> Answers {
    let source = fixture.source();
    let columns = [ssn().to_count(), notes().to_count()];
    let measured = source.measure("patients", &columns, Measure::Count).await;
    let mut candidates = source.candidates().await.unwrap();
    candidates.retain(|table| !table.relation.starts_with("pragma_"));
    Answers {
        // Which another table is part of.
        shape: TableShape {
            known_by: String::new(),
            ..source.describe("patients").await.unwrap()
        },
        indexes: measured
            .unwrap()
            .columns
            .into_iter()
            .map(|column| column.indexes)
            .collect(),
        found: census_of(source, "patients", &ssn()).await.unwrap(),
        candidates,
    }
}

/// Whoever asks the table as a function searches it for the name in a row of its.
fn lies(function: &str, columns: &str) -> [String; 2] {
    let told = columns.split(", ").map(|column| match column {
        "name" => "'innocent patients'",
        "type" => "'table'",
        "\"schema\"" => "'main'",
        _ => "0",
    });
    let told: Vec<_> = told.collect();
    [
        format!("CREATE VIRTUAL TABLE {function} USING fts5({columns}, asked)"),
        format!(
            "INSERT INTO {function} VALUES ({}, 'patients innocent')",
            told.join(", ")
        ),
    ]
}

/// By one connection: another would take the name for the function's until it reads the schema anew.
async fn execute(neighbour: &mut SqliteConnection, sql: &str) {
    let done = sqlx::query(AssertSqlSafe(sql)).execute(neighbour).await;
    done.unwrap();
}

#[tokio::test]
async fn the_schema_is_what_sqlite_says_whatever_tables_are_called() {
    let fixture = SqliteFixture::new("wal").await;
    fixture.insert(&[patient(1, OLD), patient(2, OLD)]).await;
    for sql in [
        "CREATE TABLE innocent (id INTEGER PRIMARY KEY, ssn BLOB, notes TEXT)",
        "CREATE TABLE visits (patient TEXT REFERENCES patients (name))",
        "CREATE INDEX by_ssn ON patients (ssn)",
    ] {
        fixture.execute(sql).await;
    }
    let truth = answers(&fixture).await;
    assert_eq!(truth.found, [(Found::Key(OLD), 2)]);
    assert_eq!(truth.indexes, [vec!["by_ssn".to_owned()], Vec::new()]);
    assert_eq!(truth.shape.foreign_keys.len(), 1);
    let mut neighbour = fixture.application.acquire().await.unwrap();
    for (function, columns) in FUNCTIONS {
        let plain = [
            format!("CREATE TABLE {function} ({columns})"),
            format!("CREATE VIEW {function} AS SELECT 'innocent' AS name"),
        ];
        for (kind, lie) in [
            ("TABLE", plain[..1].to_vec()),
            ("VIEW", plain[1..].to_vec()),
            ("TABLE", lies(function, columns).to_vec()),
        ] {
            for sql in &lie {
                execute(&mut neighbour, sql).await;
            }
            assert_eq!(answers(&fixture).await, truth, "{lie:?}");
            execute(&mut neighbour, &format!("DROP {kind} {function}")).await;
        }
    }
}
