//! Names: whatever a table or column is called, SQL takes it for a name.

use rekey_domain::{Found, TextEncoding};
use rekey_sources::{StoredValue, WriteOutcome};

use super::fixture::{
    Fixture, NEW, OLD, census_of, ciphertext, read_all, ssn, swap, target, whole_of, write_to,
};

pub const NAMES: [&str; 10] = [
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
    let bytes = fixture.bytes();
    let create = format!("CREATE TABLE {quoted} (id INTEGER PRIMARY KEY, {quoted} {bytes})");
    fixture.execute(&create).await;
    let value = fixture.literal(&ciphertext(OLD, 1, 60));
    let insert = format!("INSERT INTO {quoted} VALUES (5, {value})");
    fixture.execute(&insert).await;

    let (source, relation) = (fixture.source(), fixture.relation(name));
    let shape = source.describe(&relation).await.unwrap();
    assert_eq!(shape.primary_key, ["id"], "{name}");
    assert!(shape.full_name.ends_with(&format!(".{name}")) || name.contains('.'));
    assert_eq!(
        shape.column(name).unwrap().encoding,
        Some(TextEncoding::Binary)
    );
    let mut column = ssn();
    column.name = name.to_owned();
    let mut query = whole_of(source, &relation, vec![column.clone()]).await;
    query.bind_columns.push(name.to_owned());
    let rows = read_all(source, &query).await;
    assert_eq!(rows.len(), 1, "{name}");
    let new = StoredValue::Bytes(ciphertext(NEW, 2, 60));
    let update = swap(&rows[0], &column, new);
    let written = write_to(source, &target(&query), &[update]).await;
    assert_eq!(written, [WriteOutcome::Written], "{name}");
    let census = census_of(source, &relation, &column).await;
    assert_eq!(census.unwrap(), [(Found::Key(NEW), 1)], "{name}");
}

pub async fn names_are_found_in_either_case(fixture: &impl Fixture) {
    let shape = fixture.source().describe("patients").await.unwrap();
    let column = shape.column("SSN").expect("the same column");
    assert_eq!(column.name, "ssn");
}
