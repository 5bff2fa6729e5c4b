//! Names: reserved words, signs, capitals and dots in tables, columns and schemas.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
};

use rekey_domain::Bind;
use rekey_envelope::decode_base64;
use rekey_operations::TableConfig;
use rekey_runtime::config::Config;
use rekey_testkit::program;

use super::clinic::{Clinic, Kind, column, listed, quoted, table};

/// Names that SQL, an id or a message could take for something else; the last is as long as
/// PostgreSQL lets a name be.
const NAMES: [&str; 11] = [
    "Patient \"Notes\"",
    "select",
    "dotted.name",
    ".dot.",
    "a/b%2Fc",
    "%2E",
    "it's",
    "größe ✚ 患者",
    "$1; --",
    "UPPER lower",
    "sixty-three-bytes-sixty-three-bytes-sixty-three-bytes-sixty-3-b",
];

/// A table and its columns, all of this name or nearly so.
fn create(relation: &str, name: &str) -> String {
    let (id, ssn, note) = named(name);
    let [id, ssn, note] = [id, ssn, note].map(|name| quoted(&name));
    format!(
        "CREATE TABLE {relation} (n INT NOT NULL, {id} INT PRIMARY KEY, {ssn} BYTEA, {note} TEXT);"
    )
}

/// Key, protected column, protected column.
fn named(name: &str) -> (String, String, String) {
    let shorter: String = name.chars().skip(1).collect();
    (
        format!("{shorter}!"),
        name.to_owned(),
        format!("{shorter}?"),
    )
}

fn columns(name: &str) -> Vec<rekey_operations::ColumnConfig> {
    let (id, ssn, note) = named(name);
    vec![column(&ssn, Bind::Row), column(&note, listed(&[&id]))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_may_be_called_anything() {
    for kind in Kind::BOTH {
        let (mut sql, mut tables) = (String::new(), Vec::new());
        for (at, name) in NAMES.iter().enumerate() {
            let in_file = format!("t{at}");
            match kind {
                Kind::Sqlite => {
                    sql += &create(&quoted(name), name);
                    tables.push(table(&in_file, name, columns(name)));
                }
                Kind::Postgres => {
                    let relation = format!("{}.{}", quoted(name), quoted(name));
                    sql += &format!("CREATE SCHEMA {};", quoted(name));
                    sql += &create(&relation, name);
                    tables.push(table(&in_file, &relation, columns(name)));
                }
            }
        }
        let mut clinic = Clinic::on(kind, &sql).await;
        clinic.protect(tables).await;
        let mut ids = BTreeSet::new();
        for (at, name) in NAMES.iter().enumerate() {
            let in_file = format!("t{at}");
            ids.extend(
                clinic
                    .columns_of(&in_file)
                    .await
                    .into_iter()
                    .map(|one| one.spec.column_id),
            );
            let (id, ..) = named(name);
            let values = |n: i64| vec![(&*id, n.into())];
            clinic.fill(&in_file, 1..=3, values).await;
        }
        assert_eq!(ids.len(), 2 * NAMES.len());
        clinic.rotates().await;
    }
}

/// As a shell passes them on, whatever the sign.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_encrypts_and_decrypts_for_columns_of_any_name() {
    let create = |(at, name): (usize, &&str)| create(&format!("t{at}"), name);
    let sql: String = NAMES.iter().enumerate().map(create).collect();
    let mut clinic = Clinic::on(Kind::Sqlite, &sql).await;
    let tables = NAMES.iter().enumerate().map(|(at, name)| {
        let in_file = format!("t{at}");
        table(&in_file, &in_file, columns(name))
    });
    clinic.protect(tables.collect()).await;
    // Each costs two processes: quotes, dots, letters beyond ASCII, signs of a shell.
    for at in [0, 3, 7, 8] {
        let column = format!("clinic.t{at}.{}", NAMES[at]);
        let sealed = rekey(
            &clinic,
            &["encrypt", "--column", &column, "--bind", "7"],
            b"42",
        );
        let text = std::str::from_utf8(&sealed).unwrap().trim();
        let value = decode_base64(text).unwrap();
        let client = &clinic.services.client;
        let opened = client.decrypt(&column, &[7.into()], &value).await;
        assert_eq!(&**opened.unwrap(), b"42", "{column}");
        let opened = rekey(
            &clinic,
            &["decrypt", "--column", &column, "--bind", "7"],
            &sealed,
        );
        assert_eq!(opened, b"42", "{column}");
    }
}

/// What a command that has to succeed writes.
fn rekey(clinic: &Clinic, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let state = clinic.disks.state("");
    let mut command = Command::new(program("rekey"));
    let command = command.arg("--state-dir").arg(&state).args(arguments);
    let command = command.current_dir(&state).stdin(Stdio::piped());
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    output.stdout
}

/// `a.b` and `c` make the same letters as `a` and `b.c`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_dotted_names_are_told_apart() {
    let sql = r#"CREATE SCHEMA a; CREATE SCHEMA "a.b"; CREATE SCHEMA "a%2Eb";
        CREATE TABLE a."b.c" (n INT PRIMARY KEY, d BYTEA);
        CREATE TABLE "a.b".c (n INT PRIMARY KEY, d BYTEA);
        CREATE TABLE "a%2Eb".c (n INT PRIMARY KEY, d BYTEA);
        CREATE TABLE a.b (n INT PRIMARY KEY, "c.d" BYTEA);"#;
    let mut clinic = Clinic::on(Kind::Postgres, sql).await;
    let of = |name, relation, protected| table(name, relation, vec![column(protected, Bind::Row)]);
    let tables: Vec<TableConfig> = vec![
        of("one", r#"a."b.c""#, "d"),
        of("two", r#""a.b".c"#, "d"),
        of("three", r#""a%2Eb".c"#, "d"),
        of("four", "a.b", "c.d"),
    ];
    clinic.protect(tables).await;
    let mut ids = Vec::new();
    for name in ["one", "two", "three", "four"] {
        ids.push(clinic.columns_of(name).await[0].spec.column_id.clone());
        clinic.fill(name, 1..=3, |_| vec![]).await;
    }
    let expected = ["a.b%2Ec.d", "a%2Eb.c.d", "a%252Eb.c.d", "a.b.c%2Ed"];
    assert_eq!(ids, expected.map(|id| format!("clinic.{id}")));
    clinic.rotates().await;
}

/// On PostgreSQL `"Note"` is not `note`; SQLite cannot have both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_differ_by_capitals_alone_are_two() {
    let sql = r#"
        CREATE TABLE visits (n INT NOT NULL, id INT PRIMARY KEY, "Id" INT, note BYTEA, "Note" TEXT);
        CREATE TABLE "Visits" (n INT NOT NULL, id INT PRIMARY KEY, note BYTEA);"#;
    let mut clinic = Clinic::on(Kind::Postgres, sql).await;
    let tables = vec![
        table(
            "small",
            "visits",
            vec![
                column("note", listed(&["id", "Id"])),
                column("Note", listed(&["Id"])),
            ],
        ),
        table("capital", "\"Visits\"", vec![column("note", Bind::Row)]),
    ];
    clinic.protect(tables).await;
    let values = |n: i64| vec![("id", n.into()), ("Id", (100 - n).into())];
    clinic.fill("small", 1..=10, values).await;
    let values = |n: i64| vec![("id", n.into())];
    clinic.fill("capital", 1..=10, values).await;
    clinic.rotates().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_declared_twice_is_refused() {
    let sql = "CREATE TABLE patients (n INT PRIMARY KEY, ssn BYTEA);";
    for kind in Kind::BOTH {
        let mut clinic = Clinic::on(kind, sql).await;
        let schema = match kind {
            Kind::Postgres => "public",
            Kind::Sqlite => "main",
        };
        let one = |name, relation: &str, protected| {
            let mut column = column(protected, Bind::Row);
            column.column_id = Some(format!("clinic.{name}.{protected}"));
            table(name, relation, vec![column])
        };
        for (relation, protected) in [
            (format!("{schema}.patients"), "ssn"),
            ("PATIENTS".to_owned(), "SSN"),
        ] {
            let tables = vec![
                one("patients", "patients", "ssn"),
                one("again", &relation, protected),
            ];
            let said = clinic.refusal(tables).await;
            let place = format!("column clinic.again.{protected}");
            for part in [&*place, "clinic.patients.ssn", "declare it once"] {
                assert!(said.contains(part), "{said}");
            }
        }
        // Under another name in the file alone, its default id is taken.
        let columns = || vec![column("ssn", Bind::Row)];
        clinic
            .protect(vec![table("patients", "patients", columns())])
            .await;
        let said = clinic
            .refusal(vec![table("people", "patients", columns())])
            .await;
        let id = format!("clinic.{schema}.patients.ssn");
        assert!(
            said.contains(&id) && said.contains("clinic.patients.ssn"),
            "{said}"
        );
    }
}

/// The id is frozen at first use, so the file follows the table and nothing breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_renamed_keeps_its_ids() {
    let sql = "CREATE TABLE patients (n INT NOT NULL, id INT PRIMARY KEY, ssn BYTEA);";
    for kind in Kind::BOTH {
        let mut clinic = Clinic::on(kind, sql).await;
        let patients = |relation| vec![table("patients", relation, vec![column("ssn", Bind::Row)])];
        clinic.protect(patients("patients")).await;
        let values = |n: i64| vec![("id", n.into())];
        clinic.fill("patients", 1..=5, values).await;
        let id = clinic.columns_of("patients").await[0]
            .spec
            .column_id
            .clone();
        clinic
            .execute("ALTER TABLE patients RENAME TO people")
            .await;
        clinic.protect(patients("people")).await;
        assert_eq!(clinic.columns_of("patients").await[0].spec.column_id, id);
        clinic.rotates().await;
    }
}

/// Two columns that differ by capitals alone are two columns there too.
#[test]
fn the_file_may_say_any_name() {
    for name in NAMES {
        let (id, ssn, _) = named(name);
        let relation = format!("{}.{}", quoted(name), quoted(name));
        let (small, capital) = (format!("{ssn}x"), format!("{ssn}X"));
        let columns = format!(
            "{} = {{ keyring = \"phi\", bind = [{}] }}, {} = {{ keyring = \"phi\", bind = \"column\" }}",
            toml_text(&small),
            toml_text(&id),
            toml_text(&capital),
        );
        let text = format!(
            "[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n[[source]]\nname = \"clinic\"\n\
             url = \"postgres://clinic\"\n[[source.table]]\nname = \"t\"\nrelation = {}\n\
             columns = {{ {columns} }}",
            toml_text(&relation),
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let config =
            Config::load(Some(file.path())).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let table = &config.sources[0].tables[0];
        assert_eq!(table.relation, relation);
        let of = |name: &str| {
            table
                .columns
                .iter()
                .find(|column| column.name == name)
                .unwrap()
        };
        assert_eq!(of(&small).bind, listed(&[&id]));
        assert_eq!(of(&capital).bind, Bind::Column);
    }
}

fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
