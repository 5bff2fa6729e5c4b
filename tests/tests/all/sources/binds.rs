//! Bind values as people type them: whatever way one is written, it is the row's.

use rekey_tests::roles::{APPLICATION, Database, run};
use serde_json::{Value, json};

use crate::command_line::Desk;

const UUID: &str = "a198c7a0-0000-7000-8000-00000000000a";
const VALUE: &str = "123-45-6789";

/// A column, its type at PostgreSQL, at SQLite, ways to write one value of it, and what no row has. The
/// first way is how the database prints it.
type Kind = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const KINDS: [Kind; 6] = [
    (
        "number",
        "int",
        "integer",
        &["42", "042", "+42", " 42", "int:42"],
        &["abc", "", "4.2", "123-45-6789"],
    ),
    (
        "uuid",
        "uuid",
        "blob",
        &[
            UUID,
            "A198C7A0-0000-7000-8000-00000000000A",
            "{a198c7a0-0000-7000-8000-00000000000a}",
            "a198c7a000007000800000000000000a",
            "uuid:a198c7a0-0000-7000-8000-00000000000a",
        ],
        &["abc", "7"],
    ),
    (
        "bytes",
        "bytea",
        "blob",
        &["\\xdeadbeef", "\\xDEADBEEF", "deadbeef", "hex:DEADBEEF"],
        &["abc", "xyzw"],
    ),
    ("words", "text", "text", &["042 a/b", "text:042 a/b"], &[]),
    ("code", "char(5)", "text", &["42", "text:42"], &[]),
    ("short", "varchar(5)", "text", &["abc d", "text:abc d"], &[]),
];

/// Each table has one column of a type, and a value that is bound to it.
fn configure(desk: &Desk, url: &str) {
    let table = |(name, ..): &Kind| {
        format!(
            "[[source.table]]\nname = \"{name}\"\ncolumns = {{ ssn = {{ keyring = \"phi\", bind = [\"k\"] }} }}\n"
        )
    };
    let tables: String = KINDS.iter().map(table).collect();
    desk.configure(&format!(
        "[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n[[source]]\nname = \"clinic\"\nurl = \"{url}\"\n{tables}"
    ));
    let made = desk.rekey(&["init"], b"");
    assert_eq!(made.code, 0, "{}", made.stderr);
}

fn on_sqlite() -> Desk {
    let desk = Desk::new();
    let tables = KINDS.map(|(name, _, of, ..)| format!("CREATE TABLE {name} (k {of}, ssn BLOB);"));
    desk.on_source(&tables.concat());
    configure(
        &desk,
        &format!("sqlite://{}", desk.file("source.db").display()),
    );
    desk
}

async fn on_postgres(database: &Database) -> Desk {
    let tables = KINDS.map(|(name, of, ..)| format!("CREATE TABLE {name} (k {of}, ssn bytea);"));
    run(&database.pool_as(APPLICATION).await, &tables.concat()).await;
    let desk = Desk::new();
    configure(&desk, &database.url_as(APPLICATION));
    desk
}

fn column(name: &str) -> String {
    format!("clinic.{name}.ssn")
}

fn assert_read_by_type(desk: &Desk) {
    for (name, _, _, ways, never) in KINDS {
        let column = column(name);
        for way in ways {
            let sealed = desk.rekey(
                &["encrypt", "--column", &column, "--bind", way],
                VALUE.as_bytes(),
            );
            assert_eq!(sealed.code, 0, "{name} {way:?}: {}", sealed.stderr);
            let printed = ["decrypt", "--column", &column, "--bind", ways[0]];
            let opened = desk.rekey(&printed, sealed.stdout.as_bytes());
            assert_eq!(opened.stdout, VALUE, "{name} {way:?}: {}", opened.stderr);
        }
        for never in never {
            let refused = desk.rekey(
                &["encrypt", "--column", &column, "--bind", never],
                VALUE.as_bytes(),
            );
            assert_eq!(refused.code, 2, "{name} {never:?}");
            assert!(refused.stderr.contains("expected"), "{}", refused.stderr);
        }
    }
    assert_lines_are_read_by_type(desk);
}

/// In NDJSON the same texts, without types before them, and JSON's own whole numbers.
fn assert_lines_are_read_by_type(desk: &Desk) {
    let mut places = Vec::new();
    for (name, _, _, ways, _) in KINDS {
        let texts = ways.iter().filter(|way| !way.contains(':'));
        places.extend(texts.map(|way| (name, json!(way), ways[0])));
    }
    places.push(("number", json!(42), "42"));
    places.push(("code", json!(42), "42"));
    places.push(("words", json!({ "uuid": UUID.to_uppercase() }), UUID));
    let line =
        |name, bind: &Value| json!({ "column": column(name), "bind": [bind], "value": VALUE });
    let lines: String = places
        .iter()
        .map(|(name, bind, _)| format!("{}\n", line(name, bind)))
        .collect();
    let sealed = desk.rekey(&["encrypt", "--ndjson"], lines.as_bytes());
    assert_eq!(sealed.code, 0, "{} {}", sealed.stdout, sealed.stderr);
    for ((name, bind, printed), sealed) in places.iter().zip(sealed.stdout.lines()) {
        let sealed: Value = serde_json::from_str(sealed).unwrap();
        let decrypt = ["decrypt", "--column", &column(name), "--bind", printed];
        let opened = desk.rekey(&decrypt, sealed["value"].as_str().unwrap().as_bytes());
        assert_eq!(opened.stdout, VALUE, "{name} {bind}: {}", opened.stderr);
    }
    for (name, bind) in [
        ("number", json!("abc")),
        ("bytes", json!(42)),
        ("uuid", json!(42)),
    ] {
        let refused = desk.rekey(
            &["encrypt", "--ndjson"],
            line(name, &bind).to_string().as_bytes(),
        );
        assert_eq!(refused.code, 1, "{name} {bind}");
        assert!(refused.stdout.contains("expected"), "{}", refused.stdout);
    }
}

#[test]
fn on_sqlite_a_bind_is_read_as_its_columns_type_is_written() {
    assert_read_by_type(&on_sqlite());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_bind_is_read_as_its_columns_type_is_written() {
    let database = Database::create(APPLICATION).await;
    let desk = on_postgres(&database).await;
    assert_read_by_type(&desk);
}

/// A longer one it refuses, but cuts blanks at its end off, and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_bind_that_is_longer_than_its_column_is_refused_until_the_column_is_longer()
{
    let database = Database::create(APPLICATION).await;
    let desk = on_postgres(&database).await;
    let encrypt = |bind| {
        let encrypt = ["encrypt", "--column", "clinic.short.ssn", "--bind", bind];
        desk.rekey(&encrypt, VALUE.as_bytes())
    };
    for bind in ["abcde ", "abc     ", "a\tway too long"] {
        let refused = encrypt(bind);
        assert_eq!(refused.code, 2, "{bind:?}");
        assert!(
            refused.stderr.contains("at most 5 characters"),
            "{}",
            refused.stderr
        );
    }
    let line = json!({ "column": "clinic.short.ssn", "bind": ["a\0b"], "value": VALUE });
    let refused = desk.rekey(&["encrypt", "--ndjson"], line.to_string().as_bytes());
    assert_eq!(refused.code, 1);
    assert!(refused.stdout.contains("NUL"), "{}", refused.stdout);
    // As an older program applied it: nobody knows how long it may be, and nothing has to be done.
    desk.on_store("UPDATE protected_column SET bind_lengths = NULL");
    assert_eq!(encrypt("abcde ").code, 0);
    let checked = desk.rekey(&["columns", "check"], b"");
    assert_eq!(checked.code, 0, "{}", checked.stdout);
    let longer = "ALTER TABLE short ALTER k TYPE varchar(6)";
    run(&database.pool_as(APPLICATION).await, longer).await;
    assert_eq!(desk.rekey(&["apply"], b"").code, 0);
    let sealed = encrypt("abcde ");
    assert_eq!(sealed.code, 0, "{}", sealed.stderr);
    assert_eq!(encrypt("abcdef ").code, 2);
}

/// A store that an older program applied knows no types.
#[test]
fn types_that_were_not_noted_are_noted_by_the_next_apply_and_until_then_a_bind_is_as_it_was() {
    let desk = on_sqlite();
    desk.on_store("UPDATE protected_column SET bind_types = NULL");
    let encrypt = ["encrypt", "--column", "clinic.number.ssn", "--bind", "42"];
    let sealed = desk.rekey(&encrypt, VALUE.as_bytes());
    let decrypt = ["decrypt", "--column", "clinic.number.ssn", "--bind", "042"];
    assert_ne!(desk.rekey(&decrypt, sealed.stdout.as_bytes()).code, 0);
    let applied = desk.rekey(&["apply"], b"");
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    let opened = desk.rekey(&decrypt, sealed.stdout.as_bytes());
    assert_eq!(opened.stdout, VALUE, "{}", opened.stderr);
}
