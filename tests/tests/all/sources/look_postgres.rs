//! A plan beside the rotation that it was made for, on PostgreSQL, in tables of several shapes.

use rekey_domain::{
    Algorithm, BackupPolicy, Bind, BindValue, KeyringName, KeyringPolicy, Limits, Need, OnUpdate,
    Purpose, RotationReason, RotationState,
};
use rekey_operations::{
    ColumnConfig, Desired, KeyringConfig, RotationPlan, Services, SourceConfig, TableConfig, apply,
    check_columns, init, rotate, rotation_plan, rotation_views,
};
use rekey_sources::Measure;
use rekey_testkit::PrivatePostgres;
use sqlx::{AssertSqlSafe, PgPool};

use rekey_tests::{
    roles::{self, APPLICATION, Database, OPERATOR, UP},
    support::{Disks, Engine, operator, services_on, short, until},
};

const ROWS: i64 = 10_000;

/// A shape of table: its name, which is its keyring's too, what follows its columns, what else there
/// is, and bytes of a plaintext.
const SHAPES: [(&str, &str, &str, usize); 5] = [
    ("packed", "", "", 100),
    ("roomy", "WITH (fillfactor = 45)", "", 100),
    (
        "many",
        "",
        "CREATE INDEX a ON many (name); CREATE INDEX b ON many (md5(name))",
        100,
    ),
    (
        "sealed",
        "WITH (fillfactor = 45)",
        "CREATE INDEX c ON sealed (ssn)",
        100,
    ),
    ("wide", "", "", 4_000),
];

struct Clinic {
    _disks: Disks,
    /// The command line's.
    services: Services,
    /// The workers', which all run in this process and share a role.
    workers: Services,
    desired: Desired,
    application: PgPool,
    database: Database,
}

impl Clinic {
    async fn on(server: &str, shapes: &[(&str, &str, &str, usize)]) -> Self {
        let disks = Disks::new();
        let database = Database::on(server, APPLICATION).await;
        let application = database.pool_as(APPLICATION).await;
        for (name, with, more, _) in shapes {
            let table = format!(
                "CREATE TABLE {name} (id BIGINT PRIMARY KEY, name TEXT NOT NULL, ssn BYTEA) {with}; \
                 ALTER TABLE {name} SET (autovacuum_enabled = false); {more}"
            );
            sqlx::raw_sql(AssertSqlSafe(table))
                .execute(&application)
                .await
                .unwrap();
        }
        let services = services_on(&disks, &[]).await;
        let workers = database.services_as(UP, &services);
        let services = database.services_as(OPERATOR, &services);
        let names = shapes.iter().map(|(name, ..)| *name);
        let desired = desired(&database.url_as(OPERATOR), names);
        init(&services, &desired, &operator()).await.unwrap();
        apply(&services, &desired, &operator()).await.unwrap();
        database.grant(&services).await;
        let clinic = Self {
            _disks: disks,
            services,
            workers,
            desired,
            application,
            database,
        };
        for (name, .., bytes) in shapes {
            clinic.fill(name, *bytes).await;
        }
        clinic
    }

    async fn fill(&self, table: &str, bytes: usize) {
        let rows = if bytes > 1_000 { ROWS / 10 } else { ROWS };
        let column = format!("clinic.{table}.ssn");
        let plain = vec![7; bytes];
        let mut sealed = Vec::new();
        for id in 1..=rows {
            let binds = [BindValue::Integer(id)];
            sealed.push(
                self.services
                    .client
                    .encrypt(&column, &binds, &plain)
                    .await
                    .unwrap(),
            );
        }
        let insert = format!(
            "INSERT INTO {table} SELECT v.id, 'patient ' || v.id, v.ssn \
             FROM unnest($1::bytea[]) WITH ORDINALITY AS v (ssn, id)"
        );
        sqlx::query(AssertSqlSafe(insert))
            .bind(sealed)
            .execute(&self.application)
            .await
            .unwrap();
        self.execute(&format!("VACUUM ANALYZE {table}")).await;
    }

    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.application)
            .await
            .unwrap();
    }

    async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&self.application)
            .await
            .unwrap()
    }

    async fn plan(&self, keyring: &str) -> RotationPlan {
        let keyring: KeyringName = keyring.parse().unwrap();
        let (measure, ana) = (Measure::Estimate, operator());
        let plan = rotation_plan(&self.services, &self.desired, &keyring, measure, &ana);
        plan.await.unwrap()
    }

    /// Rotates a keyring; gives what was written to the log, and by how much its table grew.
    async fn rotate(&self, keyring: &str) -> (i64, i64) {
        let size = format!("SELECT pg_total_relation_size('{keyring}')");
        roles::run(&self.database.administrator().await, "CHECKPOINT").await;
        let written = "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::int8";
        let (log, before) = (self.number(written).await, self.number(&size).await);
        let name = keyring.parse().unwrap();
        rotate(&self.services, &name, RotationReason::Request, &operator())
            .await
            .unwrap();
        until("the end of the rotation", async || {
            let views = rotation_views(&self.services, &operator()).await.unwrap();
            let view = views.into_iter().find(|view| view.keyring == keyring)?;
            assert_ne!(view.state, RotationState::Failed, "{:?}", view.failure);
            (view.state == RotationState::Completed).then_some(())
        })
        .await;
        (
            self.number(written).await - log,
            self.number(&size).await - before,
        )
    }
}

fn desired<'a>(url: &str, names: impl Iterator<Item = &'a str>) -> Desired {
    let policy = KeyringPolicy {
        batch_rows: 2_000,
        ..short()
    };
    let (mut keyrings, mut tables) = (
        vec![Desired::audit_keyring(), Desired::signing_keyring()],
        Vec::new(),
    );
    for name in names {
        let keyring: KeyringName = name.parse().unwrap();
        keyrings.push(KeyringConfig {
            name: keyring.clone(),
            purpose: Purpose::Phi,
            algorithm: Algorithm::default(),
            policy: policy.clone(),
            backup: None,
        });
        let column = ColumnConfig {
            name: "ssn".to_owned(),
            keyring,
            bind: Bind::Row,
            column_id: None,
        };
        tables.push(TableConfig {
            name: name.to_owned(),
            relation: name.to_owned(),
            on_update: OnUpdate::default(),
            columns: vec![column],
        });
    }
    let source = SourceConfig {
        name: "clinic".to_owned(),
        url: url.to_owned().into(),
        limits: Limits::default(),
        tables,
    };
    Desired {
        backup: BackupPolicy::Off,
        keyrings,
        sources: vec![source],
        ..Desired::default()
    }
}

/// The figures of `docs/operating.md`: run with `--nocapture` to see them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are for docs/operating.md")]
async fn what_a_plan_expects_is_about_what_the_rotation_writes() {
    // As real servers have it.
    let settings = &["full_page_writes=on", "wal_level=replica"];
    let server = PrivatePostgres::start_with(settings).unwrap();
    let clinic = Clinic::on(&server.url(), &SHAPES).await;
    let engine = Engine::start(&clinic.workers);
    let mut told = Vec::new();
    for (name, ..) in SHAPES {
        let plan = clinic.plan(name).await;
        let table = &plan.tables[0];
        let expected = (
            plan.wal_bytes,
            plan.bloat_bytes,
            table.hot_expected.unwrap(),
        );
        let updates = format!(
            "SELECT pg_stat_get_tuples_hot_updated('{name}'::regclass) * 100 \
             / greatest(pg_stat_get_tuples_updated('{name}'::regclass), 1)"
        );
        let (wal, growth) = clinic.rotate(name).await;
        let hot = until("the statistics", async || {
            let updated = format!("SELECT pg_stat_get_tuples_updated('{name}'::regclass)");
            let all = clinic.number(&updated).await >= table.rows as i64;
            match all {
                true => Some(clinic.number(&updates).await),
                false => None,
            }
        })
        .await;
        println!(
            "{name}: rows {}, WAL expected {} measured {wal} ({:.2}), growth expected {} measured {growth} ({:.2}), HOT expected {:.0} % measured {hot} %",
            table.rows,
            expected.0,
            expected.0 as f64 / wal as f64,
            expected.1,
            expected.1 as f64 / growth.max(1) as f64,
            expected.2 * 100.0
        );
        told.push((name, expected, wal, growth, hot));
    }
    engine.stop().await;
    for (name, (expected_wal, expected_growth, expected_hot), wal, growth, hot) in told {
        let of_wal = expected_wal as f64 / wal as f64;
        assert!((0.75..1.4).contains(&of_wal), "WAL of {name}: {of_wal}");
        let off = expected_growth as i64 - growth;
        let size = (growth.max(1 << 20)) as f64;
        assert!(
            (-0.35..0.6).contains(&(off as f64 / size)),
            "growth of {name}: {off}"
        );
        assert!(
            (expected_hot * 100.0 - hot as f64).abs() < 25.0,
            "HOT of {name}: {hot}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_of_postgresql_finds_effects_that_nobody_spoke_of_and_copies_in_other_schemas() {
    let clinic = Clinic::on(&roles::server(), &[("packed", "", "", 20)]).await;
    let check = async |role| {
        let services = clinic.database.services_as(role, &clinic.services);
        let (services, desired) = (&services, &clinic.desired);
        let check = check_columns(services, desired, &[], Measure::Count, &operator())
            .await
            .unwrap();
        // What is granted is enough to open every value.
        let opening = &check.opened[0].opening;
        assert_eq!((opening.tried, opening.opened), (ROWS as u64, ROWS as u64));
        assert!(opening.all);
        check.findings
    };
    // What is granted shows the protected columns, and says that it shows no more.
    let found = check(OPERATOR).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].need, found[0].subject.as_str()),
        (Need::Note, "source clinic")
    );
    assert!(found[0].problem.contains(r#""packed" (name)"#), "{found:?}");
    assert_eq!(check(APPLICATION).await, []);
    clinic
        .execute(
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
             CREATE TRIGGER touch BEFORE UPDATE ON packed FOR EACH ROW EXECUTE FUNCTION touch(); \
             CREATE SCHEMA \"Old\"; CREATE TABLE \"Old\".\"Patients\" AS SELECT encode(ssn, 'base64') AS note FROM packed; \
             CREATE TABLE plain AS SELECT name FROM packed; CREATE TYPE pair AS (a text, b int); \
             CREATE TABLE papers AS SELECT jsonb_build_object('ssn', encode(ssn, 'base64')) AS doc, \
             ARRAY[ssn] AS many, '\\x' || encode(ssn, 'hex') AS digits, (name, 1)::pair AS two FROM packed LIMIT 50",
        )
        .await;
    let found = check(APPLICATION).await;
    let subjects: Vec<_> = found
        .iter()
        .map(|finding| finding.subject.as_str())
        .collect();
    let copy = r#"column note of "Old"."Patients" in source clinic"#;
    let papers = ["doc", "many", "digits"]
        .map(|name| format!(r#"column {name} of "public"."papers" in source clinic"#));
    let expected = ["table clinic.packed", copy].into_iter();
    let expected = expected.chain(papers.iter().map(String::as_str));
    let expected: Vec<_> = expected.chain(["source clinic"]).collect();
    assert_eq!(subjects, expected);
    for (at, says) in [
        (2, "50 under packed/1 in base64"),
        (3, "50 under packed/1 in hex"),
        (4, "50 under packed/1 in hex"),
        (
            5,
            r#"two of "public"."papers" (public.pair): it is composed of others"#,
        ),
    ] {
        assert!(found[at].problem.contains(says), "{:?}", found[at]);
    }
    let plan = clinic.plan("packed").await;
    assert_eq!(plan.tables[0].update_triggers, ["touch"]);
    assert_eq!(plan.findings.len(), 1, "{:?}", plan.findings);
}
