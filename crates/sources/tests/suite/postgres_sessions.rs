//! Whose names and whose settings hold in a session of ours: PostgreSQL's and ours, and nobody else's.

use std::sync::Arc;

use rekey_domain::{Found, KeyId, Limits, TextEncoding, Triggers};
use rekey_sources::{
    CensusColumn, Counted, CountedBy, Measure, Source, StoredValue, TableRights, WriteOutcome,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    fixture::{
        Fixture, NEW, OLD, ciphertext, found, notes, patient, read_all, ssn, swap, target, whole,
        whole_of, write_to,
    },
    passes::pass_over,
    postgres_fixture::{PostgresFixture, moves, patients},
    postgres_rights::Role,
};

/// With a `varchar`, of which PostgreSQL's own functions know only the next best thing, `text`.
const PATIENTS: &str = "CREATE TABLE patients (id BIGINT PRIMARY KEY, name TEXT NOT NULL, \
    ssn BYTEA, notes VARCHAR(500), updated_at BIGINT NOT NULL); \
    CREATE INDEX by_notes ON patients (notes)";

/// What a neighbour may do who has only `CREATE` on the schema: names that fit our calls better than
/// those of PostgreSQL. Whoever calls one is noted, and told what is not true.
fn lures(schema: &str) -> String {
    let function = |name: &str, parameters: &str, gives: &str, answer: &str| {
        format!(
            "CREATE FUNCTION {schema}.{name} ({parameters}) RETURNS {gives} LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO public.caught VALUES (current_user, '{name} ({parameters})'); \
             RETURN {answer}; END $$;"
        )
    };
    let operator = |name: &str, left: &str, right: &str, of: &str| {
        format!(
            "CREATE OPERATOR {schema}.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {schema}.{of});"
        )
    };
    let lures = [
        function("left", "varchar, int", "text", "'plain text'"),
        function("substr", "varchar, int, int", "text", "''"),
        function("octet_length", "varchar", "int", "0"),
        function("pg_column_size", "varchar", "int", "0"),
        function("pg_column_size", "bytea", "int", "0"),
        function("encode", "bytea, varchar", "text", "''"),
        function("unnest", "tid[]", "tid", "NULL"),
        function("array_position", "smallint[], smallint", "int", "NULL"),
        function("quote_ident", "name", "text", "''"),
        function("none", "state bigint, tid", "bigint", "0"),
        format!(
            "CREATE AGGREGATE {schema}.count (tid) (SFUNC = {schema}.none, STYPE = bigint, INITCOND = '0');"
        ),
        function("no", "varchar, text", "bool", "false"),
        operator("=", "varchar", "text", "no"),
        operator("<>", "varchar", "text", "no"),
        function("no", "oid, regclass", "bool", "false"),
        operator("=", "oid", "regclass", "no"),
        function("none", "numeric, int", "numeric", "0"),
        operator("*", "numeric", "int", "none"),
    ];
    lures.concat()
}

/// Where a lure notes who was caught.
const CAUGHT: &str =
    "CREATE TABLE public.caught (who name, by text); GRANT INSERT ON public.caught TO PUBLIC";

/// A clinic of so many patients, a neighbour's lures beside it, and the source as a role that has its
/// rights and no more.
struct Clinic {
    fixture: PostgresFixture,
    source: Arc<dyn Source>,
    roles: [Role; 2],
}

impl Clinic {
    async fn of(rows: i64) -> Self {
        let fixture = PostgresFixture::with(PATIENTS).await;
        let patients: Vec<_> = (1..=rows).map(|id| patient(id, OLD)).collect();
        fixture.insert(&patients).await;
        let ours = Role::new(&fixture, "ours").await;
        let neighbour = Role::new(&fixture, "neighbour").await;
        let grants = format!(
            "GRANT CREATE ON SCHEMA public TO {1}; GRANT USAGE ON SCHEMA public TO {0}; \
             GRANT SELECT (ctid, id, ssn, notes), UPDATE (ssn, notes) ON patients TO {0}",
            ours.name, neighbour.name
        );
        fixture.execute(&grants).await;
        let url = fixture.database.url_as(&neighbour.name, &neighbour.name);
        let mut neighbours = PgConnection::connect(&url).await.unwrap();
        for sql in [CAUGHT.to_owned(), lures("public")] {
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut neighbours)
                .await
                .unwrap();
        }
        neighbours.close().await.unwrap();
        let source = fixture.open_as(&ours.name).await;
        Self {
            fixture,
            source,
            roles: [ours, neighbour],
        }
    }

    async fn assert_nobody_was_caught(&self) {
        let caught = "SELECT DISTINCT who || ' by ' || by FROM caught ORDER BY 1";
        let caught = sqlx::query_scalar(caught).fetch_all(&self.fixture.application);
        let caught: Vec<String> = caught.await.unwrap();
        assert!(caught.is_empty(), "{caught:#?}");
    }

    async fn remove(self) {
        drop(self.source);
        let [ours, neighbour] = self.roles;
        for role in [&ours, &neighbour] {
            let own = format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", role.name);
            self.fixture.execute(&own).await;
        }
    }
}

fn both() -> [CensusColumn; 2] {
    [ssn(), notes()].map(|column| CensusColumn {
        name: column.name,
        encoding: column.encoding,
        by: CountedBy::Form,
    })
}

/// What a census finds, and that it knows each value below the target as what the pass left.
async fn census(source: &Arc<dyn Source>) -> Vec<Vec<(Found, u64)>> {
    let pass = pass_over(source).await;
    let counted = source.census("patients", &both(), Some(&pass)).await;
    let counted = counted.unwrap();
    let below = |one: &&Counted| one.found == Found::Key(OLD);
    for one in counted.iter().flatten().filter(below) {
        assert_eq!(one.left, one.values);
    }
    counted.into_iter().map(found).collect()
}

fn all(key: KeyId, values: u64) -> Vec<Vec<(Found, u64)>> {
    vec![vec![(Found::Key(key), values)]; 2]
}

/// Moves everything to the new key, and gives what became of each row.
async fn move_all(source: &Arc<dyn Source>) -> Vec<WriteOutcome> {
    let mut outcomes = Vec::new();
    for column in [ssn(), notes()] {
        let query = whole(source, vec![column.clone()]).await;
        let rows = read_all(source, &query).await;
        let new = ciphertext(NEW, 1, 60);
        let new = match column.encoding {
            TextEncoding::Binary => StoredValue::Bytes(new),
            TextEncoding::Base64 => StoredValue::Text(rekey_envelope::encode_base64(&new)),
        };
        let updates = rows.iter().map(|row| swap(row, &column, new.clone()));
        let updates: Vec<_> = updates.collect();
        outcomes.extend(write_to(source, &target(&query), &updates).await);
    }
    outcomes
}

#[tokio::test]
async fn no_name_of_ours_is_found_where_a_neighbour_may_create() {
    let clinic = Clinic::of(40).await;
    let source = &clinic.source;
    let shape = source.describe("patients").await.unwrap();
    assert_eq!(shape.primary_key, ["id"]);
    assert_eq!(census(source).await, all(OLD, 40));
    let sample = source.sample("patients", &both(), 1_000).await.unwrap();
    assert_eq!((sample.rows, sample.counts), (40, all(OLD, 40)));
    for how in [Measure::Estimate, Measure::Count] {
        let measured = source.measure("patients", &both(), how).await.unwrap();
        assert_eq!(measured.rows, 40, "{how:?}");
        let [ssn, notes] = &measured.columns[..] else {
            panic!()
        };
        assert_eq!((ssn.values, ssn.bytes), (40, 40 * 60), "{how:?}");
        assert_eq!((notes.values, notes.bytes), (40, 40 * 80), "{how:?}");
        assert_eq!(notes.indexes.len(), 1);
    }
    let candidates = source.candidates().await.unwrap();
    assert!(
        candidates
            .iter()
            .any(|table| table.full_name == "public.patients")
    );
    assert_eq!(source.part_names("patients").await.unwrap().len(), 1);
    let needed = TableRights {
        relation: "patients".to_owned(),
        read: vec!["id".to_owned(), "ssn".to_owned()],
        written: vec!["ssn".to_owned()],
        triggers: Triggers::Fire,
    };
    source.check_rights(&needed).await.unwrap();
    let limits = Limits {
        max_dead_tuples: Some(1),
        ..Limits::default()
    };
    source.load("patients", &limits).await.unwrap();
    clinic.assert_nobody_was_caught().await;

    // One row is locked: the others are written without it.
    let mut application = clinic.fixture.application.begin().await.unwrap();
    sqlx::query("SELECT FROM patients WHERE id = 7 FOR UPDATE")
        .execute(&mut *application)
        .await
        .unwrap();
    let outcomes = move_all(source).await;
    let count = |outcome| outcomes.iter().filter(|one| **one == outcome).count();
    assert_eq!(
        (count(WriteOutcome::Written), count(WriteOutcome::Skipped)),
        (78, 2)
    );
    application.rollback().await.unwrap();
    assert_eq!(move_all(source).await, [WriteOutcome::Written; 2]);
    assert_eq!(census(source).await, all(NEW, 40));
    clinic.assert_nobody_was_caught().await;
    clinic.remove().await;
}

/// What triggers of the application's do in our session: one finds what the application's path names,
/// the other leaves settings and a path behind.
const LEAVES: &str = "
    CREATE TABLE journal (id BIGINT, lock_timeout TEXT);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO journal VALUES (NEW.id, current_setting('lock_timeout')); RETURN NEW; END $$;
    CREATE TRIGGER note BEFORE UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION note();
    CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM set_config(name, value, false) FROM (VALUES
            ('search_path', 'evil, pg_catalog, public'), ('lock_timeout', '0'), ('row_security', 'on'),
            ('client_min_messages', 'notice'), ('standard_conforming_strings', 'off'),
            ('default_transaction_isolation', 'serializable'), ('enable_seqscan', 'on'))
            AS left_behind (name, value);
        RETURN NULL; END $$;
    CREATE TRIGGER leave AFTER UPDATE ON patients EXECUTE FUNCTION leave()";

#[tokio::test]
async fn a_trigger_finds_what_the_applications_path_names_and_leaves_nothing_behind() {
    const ROWS: i64 = 1_200;
    let clinic = Clinic::of(ROWS).await;
    let [ours, _] = &clinic.roles;
    clinic
        .fixture
        .execute("CREATE SCHEMA evil; CREATE SCHEMA app")
        .await;
    clinic.fixture.execute(&lures("evil")).await;
    let inside = format!("SET search_path = app, public; {LEAVES}; RESET search_path");
    clinic.fixture.execute(&inside).await;
    clinic
        .fixture
        .execute(&format!(
            "GRANT USAGE ON SCHEMA evil, app TO {0}; GRANT INSERT ON app.journal TO {0}; \
             GRANT SELECT (updated_at) ON patients TO {0}; ALTER ROLE {0} SET search_path = app, public",
            ours.name
        ))
        .await;
    let source = clinic.fixture.open_as(&ours.name).await;
    let outcomes = move_all(&source).await;
    assert_eq!(outcomes, vec![WriteOutcome::Written; 2 * ROWS as usize]);
    // Transaction by transaction: what one left, the next did not find.
    let found = sqlx::query_scalar("SELECT DISTINCT lock_timeout FROM app.journal")
        .fetch_all(&clinic.fixture.application);
    let found: Vec<String> = found.await.unwrap();
    assert_eq!(found, ["200ms"]);
    assert_eq!(census(&source).await, all(NEW, 1_200));
    source.describe("patients").await.unwrap();
    clinic.assert_nobody_was_caught().await;
    drop(source);
    clinic.remove().await;
}

/// `sqlx_s_1` and the like are names as any other in a session: who runs there can give one another
/// meaning. The count is taken where nobody has run.
#[tokio::test]
async fn a_trigger_that_exchanges_our_statements_does_not_change_the_count() {
    let (fixture, query, updates) = patients(40).await;
    let source = fixture.source();
    let counted = async || {
        let counted = source.census("patients", &both()[..1], None).await;
        found(counted.unwrap().remove(0))
    };
    assert_eq!(counted().await, [(Found::Key(OLD), 40)]);
    fixture
        .execute(
            "CREATE TABLE exchanged (statement text);
             CREATE FUNCTION exchange() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE s record; BEGIN
                 FOR s IN SELECT * FROM pg_prepared_statements WHERE statement LIKE 'WITH RECURSIVE tree%' LOOP
                     EXECUTE format('DEALLOCATE %I', s.name);
                     EXECUTE format('PREPARE %I (%s) AS SELECT * FROM (%s) AS all_of_it LIMIT 0',
                         s.name, array_to_string(s.parameter_types, ', '), s.statement);
                     INSERT INTO exchanged VALUES (s.statement);
                 END LOOP; RETURN NULL; END $$;
             CREATE TRIGGER exchange AFTER UPDATE ON patients EXECUTE FUNCTION exchange()",
        )
        .await;
    // Time and again, as each may be in another session.
    for some in updates.chunks(4) {
        let written = write_to(source, &target(&query), some).await;
        assert_eq!(written, [WriteOutcome::Written; 4]);
    }
    for _ in 0..10 {
        assert_eq!(counted().await, [(Found::Key(NEW), 40)]);
    }
}

/// As `rekey.toml` may say it, and a store from before has it.
#[tokio::test]
async fn a_name_without_a_schema_is_found_by_the_path_of_the_login_and_said_with_it() {
    let fixture = PostgresFixture::with(
        "CREATE SCHEMA app; CREATE SCHEMA closed; CREATE TABLE app.patients (id INT PRIMARY KEY, ssn BYTEA);
         CREATE TABLE closed.patients (id INT); CREATE TABLE patients (id INT);
         CREATE TABLE app.\"Order\" (id INT)",
    )
    .await;
    let role = Role::new(&fixture, "path").await;
    fixture
        .execute(&format!(
            "GRANT USAGE ON SCHEMA app TO {0}; GRANT ALL ON ALL TABLES IN SCHEMA app TO {0}; \
             ALTER ROLE {0} SET search_path = nowhere, \"$user\", closed, app, public",
            role.name
        ))
        .await;
    let source = fixture.open_as(&role.name).await;
    let said = async |relation: &str| source.describe(relation).await.unwrap().relation;
    assert_eq!(said("patients").await, "app.patients");
    assert_eq!(said("public.patients").await, "public.patients");
    assert_eq!(said("\"Order\"").await, "app.\"Order\"");
    // A schema of the role's own, made later, comes before.
    fixture
        .execute(&format!(
            "CREATE SCHEMA {0} AUTHORIZATION {0}; CREATE TABLE {0}.patients (id INT)",
            role.name
        ))
        .await;
    assert_eq!(said("patients").await, format!("{}.patients", role.name));
    drop(source);
    let own = format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", role.name);
    fixture.execute(&own).await;
}

/// A constraint's function, too, may name things that only the application's path finds.
#[tokio::test]
async fn suppressed_triggers_or_not_constraints_find_what_the_applications_path_names() {
    let fixture = PostgresFixture::with(
        "CREATE FUNCTION small(bytea) RETURNS bool LANGUAGE sql AS 'SELECT octet_length($1) < 1000';
         CREATE FUNCTION fits(bytea) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN small($1); END';
         CREATE TABLE patients (id BIGINT PRIMARY KEY, ssn BYTEA CHECK (fits(ssn)))",
    )
    .await;
    let insert = format!(
        "INSERT INTO patients VALUES (1, {0}), (2, {0})",
        fixture.literal(&ciphertext(OLD, 1, 60))
    );
    fixture.execute(&insert).await;
    let source = fixture.source();
    for triggers in [Triggers::Fire, Triggers::Suppress] {
        let (query, updates) = moves(source).await;
        let target = rekey_sources::WriteTarget {
            triggers,
            ..target(&query)
        };
        let written = write_to(source, &target, &updates[..1]).await;
        assert_eq!(written, [WriteOutcome::Written], "{triggers:?}");
    }
    let mut query = whole_of(source, "patients", vec![ssn()]).await;
    query.trusts_code = true;
    assert!(read_all(source, &query).await.is_empty());
}

/// As after a restore into a database of another name, which then takes the name of the first.
#[tokio::test]
async fn a_name_that_leads_to_another_database_is_noticed_by_the_next_session() {
    let (fixture, query, _) = patients(3).await;
    let source = fixture.source();
    source.read(&query, None, 1 << 20).await.unwrap();
    assert!(!source.is_another());
    let name = fixture.database.name().to_owned();
    let server = rekey_testkit::services::url(rekey_testkit::services::POSTGRES);
    let mut server = PgConnection::connect(&server).await.unwrap();
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    let swap = format!(
        "ALTER DATABASE {name} RENAME TO {name}_old; CREATE DATABASE {name} TEMPLATE {name}_old"
    );
    for sql in [end].into_iter().chain(swap.split("; ").map(str::to_owned)) {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut server)
            .await
            .unwrap();
    }
    // The first call finds its session ended.
    let mut said = String::new();
    for _ in 0..3 {
        said = source
            .read(&query, None, 1 << 20)
            .await
            .unwrap_err()
            .to_string();
    }
    assert!(said.contains("another database"), "{said}");
    assert!(source.is_another());
    let drop = format!("DROP DATABASE {name}_old WITH (FORCE)");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(&mut server)
        .await
        .unwrap();
}
