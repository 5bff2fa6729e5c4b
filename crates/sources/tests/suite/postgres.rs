//! What only PostgreSQL has: names and keys of all kinds, effects of updates.

use rekey_domain::{BindValue, Found, TextEncoding};
use rekey_sources::{SourceError, StoredValue, WriteOutcome};

use super::{
    fixture::{
        Fixture, NEW, census_of, ciphertext, notes, read_all, ssn, swap, target_of, whole_of,
        write, write_to,
    },
    postgres_fixture::{PARTITIONED, PostgresFixture, old, patients, read_parts},
};

/// Whoever relies on what was written flushes it first (decision 0015).
#[tokio::test]
async fn no_transaction_of_a_write_waits_for_the_disk() {
    let (fixture, _, updates) = patients(1_200).await;
    fixture
        .execute(
            "CREATE TABLE waits (number SERIAL, waits TEXT);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO waits (waits) VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
            CREATE TRIGGER note AFTER UPDATE ON patients FOR EACH STATEMENT EXECUTE FUNCTION note()",
        )
        .await;
    let waits = async || -> Vec<String> {
        let waits = "SELECT waits FROM waits ORDER BY number";
        sqlx::query_scalar(waits)
            .fetch_all(&fixture.application)
            .await
            .unwrap()
    };
    let (many, one) = updates.split_at(1_199);
    let written = write(fixture.source(), many).await;
    assert!(written.iter().all(|one| *one == WriteOutcome::Written));
    assert_eq!(waits().await, ["off"; 3]);
    fixture.source().flush().await.unwrap();
    write(fixture.source(), one).await;
    assert_eq!(waits().await, ["off"; 4]);
}

/// The name of a table or partition may be one that SQL has to quote.
#[tokio::test]
async fn names_are_read_as_in_sql() {
    let fixture = PostgresFixture::with(
        r#"CREATE SCHEMA "Clinic A";
        CREATE TABLE "Clinic A"."Order" ("Select" INT PRIMARY KEY, ssn BYTEA);
        CREATE TABLE "order" (id INT PRIMARY KEY, ssn BYTEA)"#,
    )
    .await;
    let insert = format!(r#"INSERT INTO "Clinic A"."Order" VALUES (1, {})"#, old());
    fixture.execute(&insert).await;
    let (source, relation) = (fixture.source(), r#""Clinic A"."Order""#);
    let shape = source.describe(relation).await.unwrap();
    assert_eq!(shape.full_name, "Clinic A.Order");
    let rows = read_parts(&**source, relation, &["Select"]).await;
    assert_eq!(rows[0].1.name.as_deref(), Some("Select=1"));
    for same in ["order", "ORDER", "public.Order", r#""order""#] {
        let shape = source.describe(same).await.unwrap();
        assert_eq!(shape.full_name, "public.order", "{same}");
    }
    for none in [r#""Order""#, "Clinic A.Order", "pg_temp.order", "a.b.c", ""] {
        let error = source.describe(none).await.unwrap_err();
        assert!(matches!(error, SourceError::NoSuchTable { .. }), "{none}");
    }
}

#[tokio::test]
async fn keys_of_every_kind_name_and_bind_their_rows() {
    let fixture = PostgresFixture::with(
        "CREATE DOMAIN mrn AS TEXT CHECK (value <> '');
        CREATE TABLE keyed (u UUID, s SMALLINT, i INT, b BIGINT, t TEXT, v VARCHAR(9), c CHAR(3), d MRN,
            y BYTEA, n NUMERIC, day DATE, ssn BYTEA, PRIMARY KEY (v, u))",
    )
    .await;
    let insert = format!(
        "INSERT INTO keyed VALUES ('00112233-4455-6677-8899-aabbccddeeff', -2, 4, 8, 'ü', 'it''s', 'a', \
         'm-1', '\\x00ff', 1.5, '2026-01-02', {})",
        old()
    );
    fixture.execute(&insert).await;
    let source = fixture.source();
    let shape = source.describe("keyed").await.unwrap();
    assert_eq!(shape.primary_key, ["v", "u"]);
    let can_bind: String = shape
        .columns
        .iter()
        .filter(|c| c.can_bind())
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(can_bind, "usibtvcdyssn");
    let binds = ["u", "s", "i", "b", "t", "v", "c", "d", "y", "n", "day"];
    let rows = read_parts(&**source, "keyed", &binds).await;
    let uuid = [
        0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
    ];
    let expected = [
        Some(BindValue::Uuid(uuid)),
        Some(BindValue::Integer(-2)),
        Some(BindValue::Integer(4)),
        Some(BindValue::Integer(8)),
        Some(BindValue::from("ü")),
        Some(BindValue::from("it's")),
        Some(BindValue::from("a  ")),
        Some(BindValue::from("m-1")),
        Some(BindValue::Bytes(vec![0, 255])),
        None,
        None,
    ];
    let (_, row) = &rows[0];
    assert_eq!(row.binds, expected);
    let name = "v=it's,u=00112233-4455-6677-8899-aabbccddeeff";
    assert_eq!(row.name.as_deref(), Some(name));
    assert_eq!(row.key.to_string(), "ctid (0,1)");
    let shown = format!("{row:?}");
    assert!(!shown.contains("m-1") && !shown.contains("it's"), "{shown}");
}

#[tokio::test]
async fn a_long_key_is_cut_and_rows_told_apart_by_their_places() {
    let fixture = PostgresFixture::with("CREATE TABLE long (k TEXT PRIMARY KEY, ssn BYTEA)").await;
    let insert = format!(
        "INSERT INTO long VALUES (repeat('ß', 500) || '1', {0}), (repeat('ß', 500) || '2', {0})",
        old()
    );
    fixture.execute(&insert).await;
    let rows = read_parts(&**fixture.source(), "long", &[]).await;
    for (_, row) in &rows {
        let name = row.name.as_ref().unwrap();
        assert!(name.ends_with('…') && name.chars().count() < 90, "{name}");
    }
    assert_ne!(rows[0].1.key, rows[1].1.key);
}

#[tokio::test]
async fn a_shape_says_what_columns_can_hold() {
    let fixture = PostgresFixture::with(
        "CREATE DOMAIN secret AS BYTEA;
        CREATE TABLE kinds (b BYTEA NOT NULL, d SECRET, t TEXT, v VARCHAR(500), c CHAR(9), j JSONB, i INT, \
            g TEXT GENERATED ALWAYS AS (t || 'x') STORED)",
    )
    .await;
    let shape = fixture.source().describe("kinds").await.unwrap();
    assert!(shape.primary_key.is_empty());
    let encodings: Vec<_> = shape
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.encoding))
        .collect();
    let (binary, base64) = (Some(TextEncoding::Binary), Some(TextEncoding::Base64));
    let expected = [
        ("b", binary),
        ("d", binary),
        ("t", base64),
        ("v", base64),
        ("c", None),
        ("j", None),
        ("i", None),
        ("g", None),
    ];
    assert_eq!(encodings, expected);
    assert_eq!(shape.columns[3].declared_type, "character varying(500)");
}

#[tokio::test]
async fn what_is_no_table_is_named() {
    let fixture = PostgresFixture::new().await;
    fixture
        .execute(
            "CREATE MATERIALIZED VIEW summary AS SELECT * FROM patients; CREATE SEQUENCE numbers; \
             CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw; \
             CREATE FOREIGN TABLE away (id INT) SERVER far; \
             CREATE FOREIGN TABLE away_patients () INHERITS (patients) SERVER far",
        )
        .await;
    for (relation, kind) in [
        ("summary", "materialized view"),
        ("numbers", "sequence"),
        ("away", "foreign table"),
        ("pg_catalog.pg_class", "PostgreSQL's own"),
    ] {
        let error = fixture.source().describe(relation).await.unwrap_err();
        assert!(matches!(error, SourceError::NotATable { .. }), "{relation}");
        assert!(error.to_string().contains(kind), "{error}");
    }
    let error = fixture.source().parts("patients").await.unwrap_err();
    assert!(error.to_string().contains("away_patients"), "{error}");

    let fixture = PostgresFixture::new().await;
    let mut other = fixture.application.acquire().await.unwrap();
    let inherits = "CREATE TEMPORARY TABLE today () INHERITS (patients)";
    sqlx::query(inherits).execute(&mut *other).await.unwrap();
    let error = fixture.source().parts("patients").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("temporary table of another session"),
        "{error}"
    );
}

#[tokio::test]
async fn what_updates_do_beyond_their_row_is_listed() {
    let fixture = PostgresFixture::with(PARTITIONED).await;
    fixture
        .execute(
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER touch BEFORE UPDATE ON visits FOR EACH ROW EXECUTE FUNCTION touch();
            CREATE TRIGGER fresh BEFORE INSERT ON visits FOR EACH ROW EXECUTE FUNCTION touch();
            CREATE TRIGGER leaf AFTER UPDATE OF ssn ON visits_1 FOR EACH ROW EXECUTE FUNCTION touch();
            CREATE TRIGGER off BEFORE UPDATE ON visits_1 FOR EACH ROW EXECUTE FUNCTION touch();
            ALTER TABLE visits_1 DISABLE TRIGGER off;
            CREATE TRIGGER loud BEFORE UPDATE ON visits_1 FOR EACH ROW EXECUTE FUNCTION touch();
            ALTER TABLE visits_1 ENABLE ALWAYS TRIGGER loud;
            CREATE RULE log AS ON UPDATE TO visits_1 DO ALSO NOTHING;
            CREATE PUBLICATION leafs FOR TABLE visits_2_low;
            CREATE PUBLICATION inserts FOR TABLE visits WITH (publish = 'insert');
            CREATE PUBLICATION schemas FOR TABLES IN SCHEMA archive;
            CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root)",
        )
        .await;
    let shape = fixture.source().describe("visits").await.unwrap();
    assert_eq!(shape.update_triggers, ["leaf", "loud", "rule log", "touch"]);
    assert_eq!(shape.always_triggers, ["loud"]);
    assert_eq!(shape.publications, ["everything", "leafs", "schemas"]);
    let leaf = fixture.source().describe("visits_2_low").await.unwrap();
    assert_eq!(leaf.publications, ["everything", "leafs"]);
    fixture.execute("CREATE TABLE plain (id INT)").await;
    fixture.execute("DROP PUBLICATION everything").await;
    let plain = fixture.source().describe("plain").await.unwrap();
    assert!(plain.update_triggers.is_empty() && plain.publications.is_empty());
}

#[tokio::test]
async fn nothing_but_the_written_columns_changes_in_a_row_of_many_kinds() {
    let fixture = PostgresFixture::with(
        "CREATE TABLE rich (id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ssn BYTEA, \
         at TIMESTAMPTZ DEFAULT clock_timestamp(), j JSONB DEFAULT '{}', \
         n TEXT, len INT GENERATED ALWAYS AS (length(n)) STORED)",
    )
    .await;
    let insert = format!("INSERT INTO rich (ssn, n) VALUES ({}, 'x')", old());
    fixture.execute(&insert).await;
    let seen = async || -> String {
        let row = sqlx::query_scalar("SELECT (id, at, j, n, len)::text FROM rich");
        row.fetch_one(&fixture.application).await.unwrap()
    };
    let before = seen().await;
    let source = fixture.source();
    let query = whole_of(source, "rich", vec![ssn()]).await;
    let rows = read_all(source, &query).await;
    let new = StoredValue::Bytes(ciphertext(NEW, 2, 60));
    let target = target_of("rich", query.part.clone());
    let written = write_to(source, &target, &[swap(&rows[0], &ssn(), new)]).await;
    assert_eq!(written, [WriteOutcome::Written]);
    assert_eq!(seen().await, before);
}

/// A column that was altered to another type is no column of ours any more.
#[tokio::test]
async fn a_column_of_another_type_is_named() {
    let fixture = PostgresFixture::new().await;
    fixture
        .execute("ALTER TABLE patients ALTER notes TYPE bytea USING notes::bytea")
        .await;
    let query = whole_of(fixture.source(), "patients", vec![notes()]).await;
    let error = fixture.source().read(&query, None, 1).await.unwrap_err();
    assert!(
        error.to_string().contains("notes is of type bytea"),
        "{error}"
    );
}

/// A database in SQL_ASCII checks no text; what is not UTF-8 is no ciphertext, and ends no page early.
#[tokio::test]
async fn text_that_is_not_utf8_is_read_and_counted() {
    let fixture = PostgresFixture::in_encoding("SQL_ASCII").await;
    let insert = "INSERT INTO patients SELECT i, 'p', NULL, convert_from('\\x41ff41ff41ff41ff', 'SQL_ASCII'), 7 \
                  FROM generate_series(1, 5) i";
    fixture.execute(insert).await;
    let query = whole_of(fixture.source(), "patients", vec![notes()]).await;
    let (mut rows, mut after) = (0, None);
    loop {
        let page = fixture.source().read(&query, after, 10).await.unwrap();
        let other = Some(StoredValue::Other);
        assert!(page.rows.iter().all(|row| row.values[0] == other));
        rows += page.rows.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(rows, 5);
    let counted = census_of(fixture.source(), "patients", &notes()).await;
    assert_eq!(counted.unwrap(), [(Found::NotCiphertext, 5)]);
}
