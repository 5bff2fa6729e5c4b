//! Code of a table's owner that runs in our sessions: it is named, trusted only where a person says so, and what it does
//! to our updates is seen.

use std::collections::HashSet;

use rekey_domain::{Found, Triggers};
use rekey_sources::{Measure, PassToShow, SourceError, WriteOutcome};
use sqlx::{Connection, PgConnection};

use super::{
    aftermath::{moves, ten, write},
    fixture::{Fixture, OLD, ReadColumnExt, only_part, patient, runtime, ssn, whole},
    postgres_census::until_we_wait,
    postgres_fixture::{PARTITIONED, PostgresFixture, census, census_of, old},
};

/// Of one column, and none of its values is left.
fn no_pass() -> PassToShow {
    PassToShow {
        left: vec![HashSet::new()],
        ..PassToShow::default()
    }
}

const F: &str = "CREATE FUNCTION f(n bigint) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END';";

#[tokio::test]
async fn whatever_leads_to_code_of_the_owners_is_named_and_what_an_administrator_installed_is_not()
{
    for (calls, by) in [
        (
            "CREATE INDEX i ON patients (id) WHERE f(id)",
            "index i calls public.f(bigint)",
        ),
        (
            "CREATE STATISTICS s ON (f(id)), name FROM patients",
            "statistics s calls",
        ),
        (
            "ALTER TABLE patients ADD CONSTRAINT k CHECK (f(id))",
            "constraint k calls",
        ),
        (
            "ALTER TABLE patients ADD COLUMN g bool GENERATED ALWAYS AS (f(id)) STORED",
            "column g calls",
        ),
        (
            "CREATE DOMAIN d AS bigint CHECK (f(VALUE)); CREATE DOMAIN e AS d; ALTER TABLE patients ADD COLUMN v e",
            "column v calls",
        ),
        (
            "CREATE DOMAIN d AS bigint CHECK (f(VALUE)); CREATE INDEX i ON patients ((id::d))",
            "index i calls",
        ),
        (
            "CREATE TYPE kind AS ENUM ('a'); CREATE FUNCTION say(k kind) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; \
             CREATE CAST (kind AS text) WITH FUNCTION say(kind); ALTER TABLE patients ADD COLUMN kind kind; \
             ALTER TABLE patients ADD CONSTRAINT k CHECK (('' || kind) <> 'z')",
            "constraint k may call public.say(public.kind)",
        ),
        (
            "CREATE TYPE kind AS ENUM ('a'); CREATE FUNCTION say(k kind[]) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; \
             CREATE CAST (kind[] AS text) WITH FUNCTION say(kind[]); \
             ALTER TABLE patients ADD CONSTRAINT k CHECK (quote_literal(enum_range(null::kind)) <> 'z')",
            "constraint k may call public.say(public.kind[])",
        ),
        (
            "CREATE FUNCTION say(p patients) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; \
             CREATE CAST (patients AS text) WITH FUNCTION say(patients); \
             ALTER TABLE patients ADD CONSTRAINT k CHECK (('' || patients) <> 'z')",
            "constraint k may call public.say(public.patients)",
        ),
        (
            "CREATE OPERATOR @~ (LEFTARG = tsquery, RIGHTARG = text, FUNCTION = pg_catalog.ts_rewrite); \
             ALTER TABLE patients ADD CONSTRAINT k CHECK \
                 (('a'::tsquery @~ 'SELECT ''a''::tsquery, ''b''::tsquery') IS NOT NULL)",
            "constraint k calls a function that runs SQL",
        ),
        (
            "CREATE DOMAIN d AS bigint CHECK (f(VALUE)); CREATE TYPE pair AS (a d, b int); \
             ALTER TABLE patients ADD COLUMN v pair",
            "column v calls",
        ),
        (
            "ALTER TABLE patients ADD CONSTRAINT k CHECK (query_to_xml('SELECT 1', true, true, '') IS NOT NULL)",
            "constraint k calls a function that runs SQL",
        ),
        (
            "CREATE DOMAIN d AS bigint CHECK (f(VALUE)); DO $$ BEGIN EXECUTE pg_catalog.format( \
             'ALTER TABLE patients ADD CONSTRAINT k CHECK (domain_in(id::text::cstring, %s::oid, -1) IS NOT NULL)', \
             'd'::regtype::oid); END $$",
            "constraint k calls a function that runs SQL",
        ),
        (
            // Trusted is who installed it, and its names are looked up by the path of the database's owner.
            "CREATE EXTENSION citext; \
             ALTER TABLE patients ADD CONSTRAINT k CHECK (regexp_replace(name::citext, 'a', 'b', 'g') IS NOT NULL)",
            "constraint k calls public.regexp_replace",
        ),
        (
            // It runs what the table's owner wrote, in a session that nobody watches.
            "CREATE EXTENSION dblink; \
             ALTER TABLE patients ADD CONSTRAINT k CHECK (dblink_exec('', 'SELECT 1', false) IS NOT NULL) NOT VALID",
            "constraint k calls public.dblink_exec",
        ),
        (
            "CREATE FUNCTION p(bigint, bigint) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT public.f($1)'; \
             CREATE OPERATOR @@@ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = p); \
             CREATE INDEX i ON patients ((id @@@ 1))",
            "index i calls public.p(bigint,bigint)",
        ),
    ] {
        let fixture = PostgresFixture::new().await;
        fixture.insert(&[patient(1, OLD)]).await;
        fixture.execute(&format!("{F} {calls}")).await;
        let shape = fixture.source().describe("patients").await.unwrap();
        assert!(
            shape.own_code.iter().any(|code| code.contains(by)),
            "{by}: {:?}",
            shape.own_code
        );
        let query = whole(fixture.source(), vec![ssn()]).await;
        let read = fixture.source().read(&query, None, 1 << 20).await;
        let pass = no_pass();
        let columns = [ssn().to_count()];
        let counted = fixture
            .source()
            .census("patients", &columns, Some(&pass))
            .await;
        for error in [read.err(), counted.err()] {
            assert!(
                matches!(&error, Some(SourceError::RunsCode { what, .. }) if what.contains(by)),
                "{by}: {error:?}"
            );
        }
        let trusted = PassToShow {
            trusts_code: true,
            ..pass
        };
        fixture
            .source()
            .census("patients", &columns, Some(&trusted))
            .await
            .unwrap();
    }
    let fixture = PostgresFixture::new().await;
    fixture
        .execute(
            "CREATE INDEX ON patients ((lower(name))) WHERE octet_length(ssn) > 3; \
             ALTER TABLE patients ADD CHECK (length(name) < 10000); \
             CREATE EXTENSION citext; CREATE INDEX ON patients ((name::citext))",
        )
        .await;
    let shape = fixture.source().describe("patients").await.unwrap();
    assert_eq!(shape.own_code, Vec::<String>::new());
}

/// It runs at each update of a partition, which need not be moved.
/// PostgreSQL notes nowhere that an expression needs the type.
#[tokio::test]
async fn code_of_a_type_that_json_is_read_as_is_named() {
    for (returns, read) in [
        ("d", "JSON_VALUE(j, '$.a' RETURNING d)"),
        ("d", "JSON_QUERY(j, '$.a' RETURNING d)"),
        ("an array", "JSON_QUERY(j, '$.a' RETURNING d[])"),
        ("a composite", "JSON_QUERY(j, '$.a' RETURNING pair)"),
    ] {
        let fixture = PostgresFixture::new().await;
        let types = "CREATE FUNCTION f(n bigint) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END'; \
             CREATE DOMAIN d AS bigint CHECK (f(VALUE)); CREATE TYPE pair AS (a d, b int); \
             ALTER TABLE patients ADD COLUMN j jsonb";
        fixture.execute(types).await;
        let check = format!("ALTER TABLE patients ADD CONSTRAINT k CHECK ({read} IS NULL)");
        let pool = fixture.database.pool().await;
        let version = "SELECT current_setting('server_version_num')::int";
        let version: i32 = sqlx::query_scalar(version).fetch_one(&pool).await.unwrap();
        let made = sqlx::raw_sql(sqlx::AssertSqlSafe(check))
            .execute(&pool)
            .await;
        assert_eq!(made.is_ok(), version >= 170_000, "{returns}: {made:?}");
        let shape = fixture.source().describe("patients").await.unwrap();
        let named = format!("{:?}", shape.own_code);
        let expected = version >= 170_000;
        assert_eq!(
            named.contains("constraint k calls public.f"),
            expected,
            "{returns}: {named}"
        );
    }
}

#[tokio::test]
async fn code_of_a_partition_key_is_named() {
    let fixture = PostgresFixture::with(&format!(
        "{F} CREATE TABLE visits (id bigint, ssn BYTEA) PARTITION BY LIST (f(id)); \
         CREATE TABLE visits_1 PARTITION OF visits FOR VALUES IN (true)"
    ))
    .await;
    let shape = fixture.source().describe("visits").await.unwrap();
    assert_eq!(
        shape.own_code,
        ["the partition key of public.visits calls public.f(bigint)"]
    );
}

/// False where the application made it, true for us: no function of anyone's own.
#[test]
fn an_index_on_what_a_census_groups_by_answers_nothing() {
    runtime().block_on(async {
        let fixture = PostgresFixture::new().await;
        fixture.insert(&[patient(1, OLD), patient(2, OLD)]).await;
        let expression = "CASE WHEN ssn IS NULL THEN NULL WHEN octet_length(ssn) = 0 THEN '-' \
            WHEN (octet_length(ssn) >= 5 AND substr(ssn::bytea, 1, 1) = '\\x01'::bytea AND octet_length(ssn) >= 33) \
            THEN encode(substr(ssn::bytea, 1, 5), 'hex') ELSE '' END";
        let mut application = PgConnection::connect(&fixture.database.url()).await.unwrap();
        for sql in [
            "SET bytea_output = escape".to_owned(),
            format!(
                "CREATE INDEX ON patients (({expression})) WHERE ('\\x41'::bytea)::text = '\\x41'"
            ),
            format!(
                "ALTER DATABASE \"{0}\" SET seq_page_cost = 1e100; ALTER DATABASE \"{0}\" SET random_page_cost = 0",
                fixture.database.name()
            ),
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut application).await.unwrap();
        }
        let source = fixture.another().await;
        assert_eq!(census(&*source, "patients").await, [(Found::Key(OLD), 2)]);
    });
}

/// What it reads is locked in our transaction, which is no reason to take another table for ours.
#[tokio::test]
async fn code_that_reads_a_table_is_named_and_where_it_is_trusted_all_is_counted() {
    let fixture = PostgresFixture::new().await;
    fixture.insert(&[patient(1, OLD)]).await;
    fixture
        .execute(
            "CREATE TABLE lim (n int); INSERT INTO lim VALUES (0); \
             CREATE FUNCTION least_id() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT n FROM public.lim); END'; \
             CREATE INDEX ON patients (id) WHERE id > least_id()",
        )
        .await;
    let columns = [ssn().to_count()];
    let mut pass = no_pass();
    let refused = fixture
        .source()
        .census("patients", &columns, Some(&pass))
        .await;
    assert!(
        matches!(refused, Err(SourceError::RunsCode { .. })),
        "{refused:?}"
    );
    pass.trusts_code = true;
    let counted = fixture
        .source()
        .census("patients", &columns, Some(&pass))
        .await;
    assert_eq!(counted.unwrap()[0][0].values, 1);
    let mut query = whole(fixture.source(), vec![ssn()]).await;
    query.trusts_code = true;
    let page = fixture.source().read(&query, None, 1 << 20).await.unwrap();
    assert_eq!(page.rows.len(), 1);
}

/// Its predicate was false when it was built, and is true for us: PostgreSQL takes it for complete.
#[test]
fn an_index_that_lacks_rows_answers_nothing_of_ours() {
    runtime().block_on(async {
        let fixture = PostgresFixture::new().await;
        let insert = format!(
            "INSERT INTO patients (id, name, ssn, updated_at) \
             SELECT n, repeat('x', 900), {}, 0 FROM generate_series(1, 3000) AS n; \
             DELETE FROM patients WHERE id > 100",
            old()
        );
        fixture.execute(&insert).await;
        fixture
            .execute(
                "CREATE FUNCTION lies() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS \
                 $$ BEGIN RETURN current_setting('application_name') = 'rekey'; END $$; \
                 CREATE INDEX ON patients (ssn) WHERE lies(); ANALYZE patients",
            )
            .await;
        fixture
            .execute(&format!(
                "ALTER DATABASE \"{}\" SET enable_tidscan = off",
                fixture.database.name()
            ))
            .await;
        let source = fixture.another().await;
        assert_eq!(census(&*source, "patients").await, [(Found::Key(OLD), 100)]);
        let mut query = whole(&source, vec![ssn()]).await;
        query.trusts_code = true;
        let page = source.read(&query, None, 1 << 20).await.unwrap();
        assert_eq!(page.rows.len(), 100);
    });
}

/// Each statement looks names up anew, and nothing keeps a schema from changing its own.
#[test]
fn schemas_that_change_their_names_while_parts_are_counted_are_met() {
    runtime().block_on(async {
        let fixture = PostgresFixture::with(
            "CREATE SCHEMA a; CREATE SCHEMA b; \
             CREATE TABLE visits (clinic INT NOT NULL, ssn BYTEA) PARTITION BY LIST (clinic); \
             CREATE TABLE a.part PARTITION OF visits FOR VALUES IN (1); \
             CREATE TABLE b.part PARTITION OF visits FOR VALUES IN (2); \
             CREATE FUNCTION waits() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
                 IF current_setting('application_name') = 'rekey' AND current_setting('enable_indexscan') = 'off' \
                 THEN PERFORM pg_advisory_xact_lock(41); END IF; RETURN true; END $$; \
             CREATE INDEX ON a.part (clinic) WHERE waits()",
        )
        .await;
        let insert = format!("INSERT INTO visits VALUES (1, NULL), (2, {0}), (2, {0})", old());
        fixture.execute(&insert).await;
        let mut holder = PgConnection::connect(&fixture.database.url()).await.unwrap();
        let run = async |connection: &mut PgConnection, sql: &'static str| {
            sqlx::raw_sql(sql).execute(connection).await.unwrap();
        };
        run(&mut holder, "SELECT pg_advisory_lock(41)").await;
        let source = fixture.source().clone();
        let counting = tokio::spawn(async move {
            source.census("visits", &[ssn().to_count()], None).await
        });
        until_we_wait(&mut holder).await;
        run(
            &mut holder,
            "ALTER SCHEMA b RENAME TO c; ALTER SCHEMA a RENAME TO b; ALTER SCHEMA c RENAME TO a",
        )
        .await;
        run(&mut holder, "SELECT pg_advisory_unlock(41)").await;
        let counted = counting.await.unwrap();
        assert!(
            matches!(counted, Err(SourceError::PartChanged { .. })),
            "{counted:?}"
        );
        assert_eq!(
            census_of(&**fixture.source(), "visits").await.unwrap().len(),
            1
        );
    });
}

#[tokio::test]
async fn a_part_whose_columns_have_changed_their_names_is_not_read_as_what_was_planned() {
    let fixture = PostgresFixture::with(PARTITIONED).await;
    fixture
        .execute("ALTER TABLE visits ADD COLUMN other BYTEA")
        .await;
    let insert = format!("INSERT INTO visits VALUES (1, 1, {0}, {0})", old());
    fixture.execute(&insert).await;
    let source = fixture.source();
    let part = source.parts("visits").await.unwrap().remove(1);
    let range = source.next_range("visits", &part, None, 100).await.unwrap();
    let mut query = super::fixture::query_of("visits", &part, range.unwrap(), vec![ssn()]);
    let swap = "ALTER TABLE visits RENAME ssn TO x; ALTER TABLE visits RENAME other TO ssn; \
                ALTER TABLE visits RENAME x TO other";
    assert_eq!(
        source.read(&query, None, 1 << 20).await.unwrap().rows.len(),
        1
    );
    fixture.execute(swap).await;
    let read = source.read(&query, None, 1 << 20).await;
    assert!(
        matches!(read, Err(SourceError::PartChanged { .. })),
        "{read:?}"
    );
    query.part = source.parts("visits").await.unwrap().remove(1).id;
    source.read(&query, None, 1 << 20).await.unwrap();
}

#[tokio::test]
async fn who_measures_a_table_lets_nobody_write() {
    let fixture = PostgresFixture::new().await;
    fixture.insert(&[patient(1, OLD), patient(2, OLD)]).await;
    fixture
        .execute(
            "CREATE TABLE loot (who text); \
             CREATE FUNCTION writes() RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
                 INSERT INTO public.loot VALUES (current_user); EXCEPTION WHEN OTHERS THEN \
                 PERFORM set_config('default_transaction_read_only', 'off', false); END $$; \
             CREATE FUNCTION calls(n bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
                 IF current_setting('application_name') = 'rekey' THEN PERFORM public.writes(); END IF; RETURN n; END $$; \
             CREATE INDEX ON patients (calls(1))",
        )
        .await;
    for _ in 0..3 {
        let columns = [ssn().to_count()];
        fixture
            .source()
            .measure("patients", &columns, Measure::Count)
            .await
            .unwrap();
    }
    let loot: i64 = sqlx::query_scalar("SELECT count(*) FROM loot")
        .fetch_one(&fixture.application)
        .await
        .unwrap();
    assert_eq!(loot, 0);
}

/// No row written, no id yet: a snapshot knows nothing of it.
#[test]
fn a_write_that_has_begun_and_written_no_row_is_waited_for() {
    runtime().block_on(async {
        let fixture = PostgresFixture::new().await;
        fixture.insert(&[patient(1, OLD)]).await;
        let mut copies = PgConnection::connect(&fixture.database.url()).await.unwrap();
        let mut copy = copies
            .copy_in_raw("COPY patients (id, name, updated_at) FROM STDIN")
            .await
            .unwrap();
        copy.send(&b"7\tx\t0\n"[..]).await.unwrap();
        let until_there = "SELECT count(*) FROM pg_locks WHERE mode = 'RowExclusiveLock' AND relation = 'patients'::regclass";
        while sqlx::query_scalar::<_, i64>(until_there)
            .fetch_one(&fixture.application)
            .await
            .unwrap()
            == 0
        {
            tokio::task::yield_now().await;
        }
        let pass = PassToShow {
            fence: Some(fixture.source().fence().await.unwrap()),
            ..no_pass()
        };
        let columns = [ssn().to_count()];
        let census = async || fixture.source().census("patients", &columns, Some(&pass)).await;
        let counted = census().await;
        assert!(matches!(counted, Err(SourceError::OpenTransactions { .. })), "{counted:?}");
        copy.finish().await.unwrap();
        census().await.unwrap();
    });
}

/// Each of them acts behind our look, or where no trigger of the table's own is.
#[tokio::test]
async fn nothing_that_runs_on_our_update_changes_a_value_unseen() {
    const RUIN: &str = "CREATE TABLE queue (id bigint);
        CREATE FUNCTION ruin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE public.patients SET notes = 'gone' WHERE id = new.id; RETURN NULL; END $$;";
    const CHECKED: &str =
        "CREATE FUNCTION queues(n bigint, notes text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('application_name') = 'rekey' AND notes <> 'gone' THEN
                INSERT INTO public.queue VALUES (n); END IF; RETURN true; END $$;
        CREATE CONSTRAINT TRIGGER ruins AFTER INSERT ON queue DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION ruin();
        ALTER TABLE patients ADD CONSTRAINT queues CHECK (queues(id, notes)) NOT VALID;";
    const AGAIN: &str = "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            SET CONSTRAINTS ALL DEFERRED; INSERT INTO public.queue VALUES (new.id); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER again AFTER UPDATE ON patients DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (new.notes <> 'gone') EXECUTE FUNCTION again();
        CREATE CONSTRAINT TRIGGER ruins AFTER INSERT ON queue DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION ruin();";
    const ELSEWHERE: &str = "CREATE FUNCTION elsewhere() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.id = 7 THEN new.id := 700; END IF; RETURN new; END $$;
        CREATE TRIGGER elsewhere BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION elsewhere();";
    const AS_REPLICA: &str = "CREATE TRIGGER ruins BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION blank();
        ALTER TABLE patients ENABLE REPLICA TRIGGER ruins;
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET session_replication_role = replica', current_database()); END $$";
    const BLANK: &str = "CREATE FUNCTION blank() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            new.notes := 'gone'; RETURN new; END $$;";
    for code in [CHECKED, AGAIN, ELSEWHERE, AS_REPLICA] {
        let fixture = PostgresFixture::new().await;
        ten(&fixture).await;
        let before = fixture.patients().await;
        fixture.execute(&format!("{RUIN} {BLANK} {code}")).await;
        let source = fixture.another().await;
        let (query, updates) = moves(&source).await;
        let written = write(&source, &query, &updates, Triggers::Fire).await;
        assert!(
            matches!(
                written,
                Err(SourceError::Rewritten { .. } | SourceError::PutOff { .. })
            ),
            "{code}: {written:?}"
        );
        assert_eq!(fixture.patients().await, before, "{code}");
    }
}

/// What is put off once and then done is seen, as before.
#[tokio::test]
async fn a_deferred_trigger_that_keeps_a_journal_is_let_through() {
    let fixture = PostgresFixture::new().await;
    fixture
        .execute(
            "CREATE TABLE journal (id bigint); \
             CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO public.journal VALUES (new.id); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER keeps AFTER UPDATE ON patients DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION keeps()",
        )
        .await;
    let (query, updates) = ten(&fixture).await;
    let written = write(fixture.source(), &query, &updates, Triggers::Fire).await;
    assert_eq!(written.unwrap(), vec![WriteOutcome::Written; 10]);
    let part = only_part(fixture.source(), "patients").await;
    assert_eq!(part.id, query.part);
}
