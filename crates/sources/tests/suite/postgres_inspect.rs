//! Looking at PostgreSQL: partitions, schemas, rights, and what only it has.

use rekey_domain::{Basis, Found, TextEncoding};
use rekey_sources::{CandidateTable, CensusColumn, CountedBy, Measure, SourceError, Spelling};

use super::{
    fixture::{Fixture, OLD},
    inspect::{sampled, texts},
    postgres_fixture::{PARTITIONED, PostgresFixture, old},
    postgres_rights::Role,
};

fn ssn() -> CensusColumn {
    CensusColumn {
        name: "ssn".to_owned(),
        encoding: TextEncoding::Binary,
        by: CountedBy::Form,
    }
}

fn names(tables: &[CandidateTable]) -> Vec<&str> {
    tables
        .iter()
        .map(|table| table.full_name.as_str())
        .collect()
}

#[tokio::test]
async fn partitions_are_one_table_in_whatever_schema_they_lie() {
    let fixture = PostgresFixture::with(PARTITIONED).await;
    let insert = format!(
        "INSERT INTO visits SELECT 1, id, {0} FROM generate_series(1, 90) id; \
         INSERT INTO visits SELECT 2, id, {0} FROM generate_series(1, 200) id; \
         CREATE INDEX sealed ON visits (ssn)",
        old()
    );
    fixture.execute(&insert).await;
    for (how, analysed) in [
        (Measure::Estimate, false),
        (Measure::Count, false),
        (Measure::Estimate, true),
    ] {
        if analysed {
            fixture.execute("ANALYZE").await;
        }
        let measured = fixture
            .source()
            .measure("visits", &[ssn()], how)
            .await
            .unwrap();
        assert_eq!((measured.parts, measured.rows), (3, 290), "{how:?}");
        assert_eq!(measured.columns[0].values, 290);
        assert_eq!(
            (measured.indexes, &measured.columns[0].indexes[..]),
            (2, &["sealed".to_owned()][..])
        );
        let expected = if analysed {
            Basis::Catalogue
        } else {
            Basis::Counted
        };
        assert_eq!(measured.basis, expected);
    }
    let candidates = fixture.source().candidates().await.unwrap();
    assert_eq!(names(&candidates), ["public.visits"]);
    let (_, sample) = sampled(&fixture, "visits").await;
    assert_eq!((sample.rows, sample.whole), (290, true));
    assert_eq!(sample.counts, [[(Found::Key(OLD), 290)]]);
}

#[tokio::test]
async fn copies_in_views_domains_and_what_inherits_are_found() {
    let sealed = old();
    let fixture = PostgresFixture::with(&format!(
        r#"CREATE DOMAIN sealed AS bytea; CREATE SCHEMA "Far";
        CREATE TABLE "Far"."Notes" (id INT PRIMARY KEY, "Body" sealed);
        CREATE TABLE "Far".later (extra TEXT) INHERITS ("Far"."Notes");
        INSERT INTO "Far".later VALUES (1, {sealed}, 'none');
        CREATE MATERIALIZED VIEW copy AS SELECT "Body" FROM "Far"."Notes";
        CREATE TEMPORARY TABLE own (body BYTEA); CREATE UNLOGGED TABLE fast (body BYTEA);
        CREATE TABLE numbers (id INT)"#
    ))
    .await;
    let candidates = fixture.source().candidates().await.unwrap();
    assert_eq!(
        names(&candidates),
        ["Far.Notes", "Far.later", "public.copy", "public.fast"]
    );
    let columns: Vec<_> = candidates[1]
        .columns
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(columns, ["extra"], "what it inherits is looked at once");
    for name in ["Notes", "copy"] {
        let (_, sample) = sampled(&fixture, name).await;
        assert_eq!(sample.counts, [[(Found::Key(OLD), 1)]], "{name}");
    }
}

/// Names of ours in a statement must not be taken for those of a column.
#[tokio::test]
async fn no_name_of_a_column_hides_what_is_beside_it() {
    let fixture = PostgresFixture::new().await;
    let sealed = old();
    fixture
        .execute(&format!(
            "CREATE TABLE papers (id int PRIMARY KEY, m int, f text[], found text, t text, count int, notes text); \
             INSERT INTO papers (id, m, f, notes) VALUES (1, 1, '{{x}}', 'see ' || encode({sealed}::bytea, 'base64'))"
        ))
        .await;
    let found = texts(&fixture, "papers").await;
    let notes = found.iter().find(|(name, _)| name == "notes").unwrap();
    assert_eq!(notes.1, [((Spelling::Base64, OLD), 1)]);
}

#[tokio::test]
async fn types_that_postgresql_or_an_extension_writes_out_are_looked_through_and_others_named() {
    let fixture = PostgresFixture::new().await;
    let sealed = old();
    fixture
        .execute(&format!(
            "ALTER DATABASE {} SET bytea_output = 'escape'; \
             CREATE EXTENSION citext; CREATE EXTENSION hstore; \
             CREATE TYPE pair AS (a text, b int); CREATE TYPE span AS RANGE (subtype = text); \
             CREATE DOMAIN paper AS jsonb; CREATE DOMAIN name_of AS citext; \
             CREATE TABLE papers (id int PRIMARY KEY, doc jsonb, raw json, own paper, loud citext, of name_of, \
                 list text[], many bytea[], store hstore, docs jsonb[], two pair, twos pair[], from_to span, \
                 price numeric, prices numeric[], ids uuid[], at timestamptz, words tsvector, days daterange); \
             INSERT INTO papers SELECT 1, jsonb_build_object('a', b), json_build_object('a', b), \
                 jsonb_build_object('a', b), b, b, ARRAY['x', b], ARRAY[v], hstore('a', b), \
                 ARRAY[jsonb_build_object('a', b)], (b, 1)::pair, ARRAY[(b, 1)::pair], span(b, b, '[]') \
             FROM (SELECT v, encode(v, 'base64') AS b FROM (SELECT {sealed}::bytea AS v) AS v) AS v",
            fixture.database.name()
        ))
        .await;
    let found: Vec<_> = texts(&fixture, "papers").await;
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "doc", "raw", "own", "loud", "of", "list", "many", "store", "docs"
        ]
    );
    for (name, counts) in &found {
        let spelling = match name.as_str() {
            "many" => Spelling::Hex,
            _ => Spelling::Base64,
        };
        assert_eq!(*counts, [((spelling, OLD), 1)], "{name}");
    }
    let tables = fixture.source().text_tables().await.unwrap();
    let papers = tables.iter().find(|one| one.full_name == "public.papers");
    let left_out: Vec<_> = papers
        .unwrap()
        .not_looked_at
        .iter()
        .map(|one| (one.column.as_str(), one.declared_type.as_str()))
        .collect();
    assert_eq!(
        left_out,
        [
            ("two", "public.pair"),
            ("twos", "public.pair[]"),
            ("from_to", "public.span")
        ]
    );
}

/// A role that may not read a table says so, and the others are looked at.
#[tokio::test]
async fn what_a_role_may_not_read_is_said() {
    let fixture = PostgresFixture::with(
        "CREATE TABLE mine (id INT PRIMARY KEY, ssn BYTEA, note TEXT, secret BYTEA);
        CREATE TABLE theirs (id INT PRIMARY KEY, ssn BYTEA); INSERT INTO theirs VALUES (1, '\\x01');
        CREATE TABLE hidden (id INT PRIMARY KEY, ssn BYTEA);
        ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
    )
    .await;
    let role = Role::new(&fixture, "looker").await;
    let grant = format!(
        "GRANT SELECT (ctid, id, ssn, note) ON mine TO {0}; GRANT SELECT ON hidden TO {0}",
        role.name
    );
    fixture.execute(&grant).await;
    let source = fixture.open_as(&role.name).await;
    let candidates = source.candidates().await.unwrap();
    let table = |name: &str| {
        let mut tables = candidates.iter();
        tables.find(|table| table.full_name == name).unwrap()
    };
    assert_eq!(table("public.mine").unreadable, ["secret"]);
    assert_eq!(table("public.mine").columns.len(), 2);
    assert_eq!(table("public.theirs").unreadable, ["ssn"]);
    let mine = source
        .sample("mine", &table("public.mine").columns, 10)
        .await;
    assert_eq!(mine.unwrap().rows, 0);
    let hidden = source.sample("hidden", &[ssn()], 10).await.unwrap_err();
    assert!(hidden.to_string().contains("BYPASSRLS"), "{hidden}");
    let theirs = source.sample("theirs", &[ssn()], 10).await.unwrap_err();
    assert!(matches!(theirs, SourceError::NotAllowed { .. }), "{theirs}");
    // A table whose other columns are closed is measured all the same.
    fixture
        .execute("INSERT INTO mine SELECT id, '\\x01' FROM generate_series(1, 40) id")
        .await;
    let measured = source
        .measure("mine", &[ssn()], Measure::Estimate)
        .await
        .unwrap();
    assert_eq!((measured.rows, measured.columns[0].values), (40, 40));
    drop(source);
    role.remove(fixture).await;
}

#[tokio::test]
async fn replication_slots_and_wide_values_are_told() {
    let fixture = PostgresFixture::new().await;
    let name = format!("slot_{}", fixture.database.name());
    fixture
        .execute(&format!(
            "SELECT pg_create_physical_replication_slot('{name}')"
        ))
        .await;
    fixture
        .execute(
            "ALTER TABLE patients ALTER ssn SET STORAGE EXTERNAL; \
             INSERT INTO patients SELECT id, 'x', decode(repeat('01', 50000), 'hex'), NULL, 1 \
             FROM generate_series(1, 20) id",
        )
        .await;
    let measured = fixture
        .source()
        .measure("patients", &[ssn()], Measure::Count)
        .await;
    fixture
        .execute(&format!("SELECT pg_drop_replication_slot('{name}')"))
        .await;
    let measured = measured.unwrap();
    assert!(measured.replication_slots.contains(&name));
    assert!(
        measured.toast_bytes >= 1_000_000,
        "{}",
        measured.toast_bytes
    );
    assert_eq!(measured.columns[0].bytes, 1_000_000);
    assert!(measured.row_bytes < 200, "{}", measured.row_bytes);
}
