//! Primary keys: each type that may bind a value, alone and composite; none, and those that may not.

use rekey_domain::{Bind, BindValue, QuarantineReason, RotationState};
use rekey_operations::quarantine_views;
use rekey_tests::support::{Engine, operator, until};

use super::clinic::{Clinic, Kind, column, listed, table};

/// A type of key on one kind of database, or on both, with values from end to end.
struct Key {
    sql: &'static str,
    on: &'static [Kind],
    values: Vec<BindValue>,
}

fn integers(values: &[i64]) -> Vec<BindValue> {
    values.iter().copied().map(BindValue::Integer).collect()
}

fn texts(values: &[&str]) -> Vec<BindValue> {
    values.iter().copied().map(BindValue::from).collect()
}

fn types() -> Vec<Key> {
    let (both, postgres, sqlite) = (&Kind::BOTH[..], &[Kind::Postgres][..], &[Kind::Sqlite][..]);
    let key = |sql, on, values| Key { sql, on, values };
    let hostile = texts(&[
        "",
        "a/b%c",
        "it's \"so\"",
        "größe ✚ 患者",
        " ",
        "%2F",
        "a\nb",
    ]);
    let long = "long ".repeat(100);
    let bytes = [&[][..], &[0], &[0xff, 0, b'/'], &[7; 40]];
    let bytes: Vec<_> = bytes.map(|bytes| BindValue::Bytes(bytes.to_vec())).into();
    let uuids = [[0; 16], [0xff; 16], [0xa5; 16]];
    let (low, high) = (i64::MIN, i64::MAX);
    vec![
        key("SMALLINT", both, integers(&[-32_768, -1, 0, 1, 32_767])),
        key(
            "INT",
            both,
            integers(&[i32::MIN.into(), 0, i32::MAX.into()]),
        ),
        key("BIGINT", both, integers(&[low, -1, 0, 1, 10, high])),
        key("INTEGER", sqlite, integers(&[low, -1, 0, 1, 10, high])),
        key("TEXT", both, hostile.clone()),
        key("TEXT COLLATE \"C\"", postgres, hostile),
        key("VARCHAR(600)", both, texts(&["", "ä", &long])),
        key("CHAR(4)", postgres, texts(&["    ", "ab  ", "a/%d"])),
        key("BYTEA", both, bytes.clone()),
        key("BLOB", sqlite, bytes),
        key("UUID", postgres, uuids.map(BindValue::Uuid).into()),
        key("whole_id", postgres, integers(&[1, 2])),
        key("word", postgres, texts(&["one", "two"])),
    ]
}

/// Domains, the second of them over the first.
const DOMAINS: &str = "CREATE DOMAIN short AS VARCHAR(20); CREATE DOMAIN word AS short; \
     CREATE DOMAIN whole_id AS INT CHECK (VALUE > 0);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_every_type_binds_its_row() {
    for kind in Kind::BOTH {
        let mut types = types();
        types.retain(|key| key.on.contains(&kind));
        let mut sql = match kind {
            Kind::Postgres => DOMAINS.to_owned(),
            Kind::Sqlite => String::new(),
        };
        let mut tables = Vec::new();
        for (at, key) in types.iter().enumerate() {
            let name = format!("t{at}");
            sql += &format!(
                "CREATE TABLE {name} (n INT NOT NULL, whole BYTEA, id {} PRIMARY KEY, one BYTEA, list TEXT, \
                 name TEXT DEFAULT 'Ana');",
                key.sql
            );
            let columns = vec![
                column("whole", Bind::Row),
                column("one", Bind::Column),
                column("list", listed(&["id"])),
            ];
            tables.push(table(&name, &name, columns));
        }
        let mut clinic = Clinic::on(kind, &sql).await;
        clinic.protect(tables).await;
        for (at, key) in types.iter().enumerate() {
            let values = |n: i64| {
                let value = &key.values[usize::try_from(n).unwrap()];
                vec![("id", value.clone())]
            };
            let rows = 0..i64::try_from(key.values.len()).unwrap();
            clinic.fill(&format!("t{at}"), rows, values).await;
        }
        clinic.rotates().await;
    }
}

/// `bind = "row"` takes the key in its own order, which is not that of the columns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composite_key_binds_by_all_its_columns_in_its_order() {
    let sql = "CREATE TABLE visits (day TEXT NOT NULL, ward INT NOT NULL, n INT NOT NULL, tag BYTEA NOT NULL, \
                   finding BYTEA, note TEXT, PRIMARY KEY (tag, ward, day));";
    for kind in Kind::BOTH {
        let mut clinic = Clinic::on(kind, sql).await;
        let columns = vec![
            column("finding", Bind::Row),
            column("note", listed(&["day", "ward"])),
        ];
        clinic
            .protect(vec![table("visits", "visits", columns)])
            .await;
        let bound = clinic.columns_of("visits").await;
        assert_eq!(bound[0].spec.bind_columns, ["tag", "ward", "day"]);
        let values = |n: i64| {
            vec![
                ("day", format!("2024-02-{:02}", n % 29 + 1).as_str().into()),
                ("ward", (n % 3).into()),
                ("tag", BindValue::Bytes(n.to_be_bytes().to_vec())),
            ]
        };
        clinic.fill("visits", 1..=40, values).await;
        clinic.rotates().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_type_that_cannot_bind_is_refused_with_advice() {
    let postgres = [
        "REAL",
        "DOUBLE PRECISION",
        "NUMERIC",
        "NUMERIC(10,2)",
        "TIMESTAMPTZ",
        "DATE",
        "BOOLEAN",
        "INET",
        "NAME",
    ];
    let sqlite = [
        "REAL",
        "NUMERIC",
        "DECIMAL(10,2)",
        "TIMESTAMP",
        "DATE",
        "BOOLEAN",
        "UUID",
        "",
    ];
    for (kind, types) in [(Kind::Postgres, &postgres[..]), (Kind::Sqlite, &sqlite[..])] {
        let mut clinic = Clinic::on(kind, "").await;
        for (at, of_type) in types.iter().enumerate() {
            let name = format!("t{at}");
            let sql = format!("CREATE TABLE {name} (n INT, id {of_type} PRIMARY KEY, ssn BYTEA)");
            clinic.execute(&sql).await;
            for bind in [Bind::Row, listed(&["n", "id"])] {
                let columns = vec![column("ssn", bind)];
                let said = clinic.refusal(vec![table(&name, &name, columns)]).await;
                let place = format!("column clinic.{name}.ssn");
                for part in [&*place, "id cannot bind a value", "bind = \"column\""] {
                    assert!(said.contains(part), "{of_type}: {said}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_primary_key_a_row_binds_nothing_and_a_column_does() {
    let sql = "CREATE TABLE log (n INT NOT NULL, at TEXT DEFAULT CURRENT_TIMESTAMP, line BYTEA, more TEXT);";
    for kind in Kind::BOTH {
        let mut clinic = Clinic::on(kind, sql).await;
        let log = |bind| {
            let columns = vec![column("line", bind), column("more", listed(&["n"]))];
            vec![table("log", "log", columns)]
        };
        let said = clinic.refusal(log(Bind::Row)).await;
        for part in ["column clinic.log.line", "primary key", "bind = \"column\""] {
            assert!(said.contains(part), "{said}");
        }
        clinic.protect(log(Bind::Column)).await;
        clinic.fill("log", 1..=40, |_| vec![]).await;
        clinic.rotates().await;
    }
}

/// What a database computes, or what moves itself, is no firm ground for a value to be bound to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_not_bound_to_what_changes() {
    let sql = "CREATE TABLE cards (n INT NOT NULL, token BYTEA NOT NULL, ssn BYTEA, \
                   twice INT GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (n, token));";
    for kind in Kind::BOTH {
        let mut clinic = Clinic::on(kind, sql).await;
        let cards = |columns| vec![table("cards", "cards", columns)];
        let said = clinic
            .refusal(cards(vec![column("ssn", listed(&["twice"]))]))
            .await;
        assert!(said.contains("twice cannot bind a value"), "{said}");
        for (at, bind) in [Bind::Row, listed(&["n", "token"])].into_iter().enumerate() {
            let columns = vec![column("ssn", bind.clone()), column("token", Bind::Column)];
            let said = clinic.refusal(cards(columns)).await;
            for part in [
                "column clinic.cards.ssn",
                "bound to token",
                "bind = \"column\"",
            ] {
                assert!(said.contains(part), "{at}: {said}");
            }
            // Nor to itself.
            let said = clinic.refusal(cards(vec![column("token", bind)])).await;
            assert!(said.contains("bound to token"), "{said}");
        }
        // What the file no longer names is protected all the same.
        clinic
            .protect(cards(vec![column("token", Bind::Column)]))
            .await;
        let said = clinic.refusal(cards(vec![column("ssn", Bind::Row)])).await;
        assert!(said.contains("bound to token"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_rowids_is_refused_with_advice() {
    let sql = "CREATE TABLE codes (n INT NOT NULL, id TEXT PRIMARY KEY, ssn BLOB) WITHOUT ROWID";
    let mut clinic = Clinic::on(Kind::Sqlite, sql).await;
    let codes = vec![table("codes", "codes", vec![column("ssn", Bind::Row)])];
    let said = clinic.refusal(codes).await;
    assert!(
        said.contains("codes") && said.contains("WITHOUT ROWID"),
        "{said}"
    );
    assert!(said.contains("create it anew"), "{said}");
}

/// The text '31' and the blob x'31' would be one associated data: a value of the one beside the other is
/// in the wrong place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_beside_a_key_that_only_looks_like_its_own_is_not_moved() {
    let sql = "CREATE TABLE visits (n INT NOT NULL, tag TEXT NOT NULL, finding BLOB);";
    let mut clinic = Clinic::on(Kind::Sqlite, sql).await;
    let columns = vec![column("finding", listed(&["tag"]))];
    clinic
        .protect(vec![table("visits", "visits", columns)])
        .await;
    clinic
        .fill("visits", [1], |_| vec![("tag", "31".into())])
        .await;
    let copy = "INSERT INTO visits SELECT 2, x'31', finding FROM visits";
    clinic.execute(copy).await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    let view = clinic.reaches("phi", RotationState::Completed).await;
    engine.stop().await;
    assert_eq!((view.rows, view.quarantined), (1, 1));
    let met = quarantine_views(&clinic.services, &operator())
        .await
        .unwrap();
    let reasons: Vec<_> = met.iter().map(|value| value.reason).collect();
    assert_eq!(reasons, [QuarantineReason::Unbound]);
}

/// Where it may come from is known: nothing was copied, and nothing was changed in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_whose_bind_column_is_null_is_said_to_be_bound_to_nothing() {
    for kind in Kind::BOTH {
        let sql = "CREATE TABLE visits (n INT PRIMARY KEY, tag TEXT, finding TEXT);";
        let mut clinic = Clinic::on(kind, sql).await;
        let columns = vec![column("finding", listed(&["tag"]))];
        clinic
            .protect(vec![table("visits", "visits", columns)])
            .await;
        let tagged = |n: i64| vec![("tag", format!("t{n}").as_str().into())];
        clinic.fill("visits", 1..=6, tagged).await;
        clinic
            .execute("UPDATE visits SET tag = NULL WHERE n = 3")
            .await;
        let engine = Engine::start(&clinic.workers);
        clinic.ask("phi").await;
        let first = clinic.reaches("phi", RotationState::Completed).await;
        assert_eq!((first.moved, first.quarantined), (5, 1), "{kind:?}");
        let met = quarantine_views(&clinic.services, &operator())
            .await
            .unwrap();
        assert_eq!(met[0].reason, QuarantineReason::Unbound);
        clinic
            .execute("UPDATE visits SET tag = 't3' WHERE n = 3")
            .await;
        clinic.ask("phi").await;
        until("another rotation", async || {
            let latest = clinic.latest("phi").await;
            latest.filter(|latest| latest.id != first.id)
        })
        .await;
        let view = clinic.reaches("phi", RotationState::Completed).await;
        engine.stop().await;
        assert_eq!((view.moved, view.quarantined), (6, 0), "{kind:?}");
    }
}

/// SQLite stores any class in any column; that its type was changed says that its values were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_of_sqlite_that_became_a_blob_puts_the_rotation_on_hold() {
    let sql = "CREATE TABLE visits (n INTEGER PRIMARY KEY, finding TEXT);";
    let mut clinic = Clinic::on(Kind::Sqlite, sql).await;
    let columns = vec![column("finding", Bind::Row)];
    clinic
        .protect(vec![table("visits", "visits", columns)])
        .await;
    clinic.fill("visits", 1..=6, |_| Vec::new()).await;
    let rebuild = "CREATE TABLE anew (n INTEGER PRIMARY KEY, finding BLOB); \
        INSERT INTO anew SELECT n, finding FROM visits; DROP TABLE visits; \
        ALTER TABLE anew RENAME TO visits";
    clinic.execute(rebuild).await;
    let engine = Engine::start(&clinic.workers);
    clinic.ask("phi").await;
    let paused = until("the rotation to pause", async || {
        let view = clinic.latest("phi").await;
        view.filter(|view| view.paused_because.is_some())
    })
    .await;
    engine.stop().await;
    let why = paused.paused_because.unwrap();
    assert!(why.contains("finding") && why.contains("BLOB"), "{why}");
    assert!(why.contains("rekey columns rename"), "{why}");
}
