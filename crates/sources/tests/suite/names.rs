//! Names: whatever a table or column is called, SQL takes it for a name.

use rekey_domain::{Found, Range, TextEncoding};
use rekey_sources::{ReadQuery, RowUpdate, StoredValue, WriteOutcome};

use super::fixture::{Fixture, NEW, OLD, ciphertext, in_a_minute, read_all, ssn, swap};

const NAMES: [&str; 10] = [
    "select",
    "Order By",
    "t",
    r#"quote " inside"#,
    r#"";drop table patients;--"#,
    "it's",
    "größe ✚ 患者",
    "?1 $a :b @c",
    "[bracket] `tick`",
    "dotted.name",
];

pub async fn hostile_names_are_only_names(fixture: &impl Fixture) {
    for name in NAMES {
        round_trip(fixture, name).await;
    }
}

/// Creates, describes, reads, writes and counts a table and a column, both called `name`.
async fn round_trip(fixture: &impl Fixture, name: &str) {
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let create = format!("CREATE TABLE {quoted} (id INTEGER PRIMARY KEY, {quoted} BLOB)");
    fixture.execute(&create).await;
    let insert = format!(
        "INSERT INTO {quoted} VALUES (5, x'{}')",
        hex(&ciphertext(OLD, 1, 60))
    );
    fixture.execute(&insert).await;

    let source = fixture.source();
    let shape = source.describe(name).await.unwrap();
    assert_eq!(shape.primary_key, ["id"], "{name}");
    assert_eq!(
        shape.column(name).unwrap().encoding,
        Some(TextEncoding::Binary)
    );
    let range = source.next_range(name, None, 10).await.unwrap();
    let update = update(fixture, name, range.expect("one row")).await;
    let deadline = in_a_minute(source).await;
    let written = source.write(name, &[update], deadline).await.unwrap();
    assert_eq!(written, [WriteOutcome::Written], "{name}");
    let census = source.census(name, name, TextEncoding::Binary, range.unwrap());
    assert_eq!(census.await.unwrap(), [(Found::Key(NEW), 1)], "{name}");
}

async fn update(fixture: &impl Fixture, name: &str, range: Range) -> RowUpdate {
    let mut column = ssn();
    column.name = name.to_owned();
    let query = ReadQuery {
        relation: name.to_owned(),
        range,
        columns: vec![column.clone()],
        bind_columns: vec!["id".to_owned(), name.to_owned()],
    };
    let rows = read_all(fixture.source(), &query).await;
    assert_eq!(rows.len(), 1, "{name}");
    swap(
        &rows[0],
        &column,
        StoredValue::Bytes(ciphertext(NEW, 2, 60)),
    )
}

pub async fn names_are_found_in_either_case(fixture: &impl Fixture) {
    let shape = fixture.source().describe("patients").await.unwrap();
    let column = shape.column("SSN").expect("the same column");
    assert_eq!(column.name, "ssn");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
