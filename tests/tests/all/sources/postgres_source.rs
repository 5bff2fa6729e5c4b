//! Whole rotations over a clinic on PostgreSQL, whose administrators go on with their own work.

use std::{collections::HashMap, time::Duration};

use rekey_domain::{
    Algorithm, BackupPolicy, Bind, BindValue, Found, KeyringPolicy, Limits, OnUpdate, Purpose,
    RotationReason, RotationState, Triggers,
};
use rekey_envelope::{decode_base64, encode_base64};
use rekey_operations::{
    ColumnConfig, Desired, KeyringConfig, OperationError, Retry, RotationView, Services,
    SourceConfig, TableConfig, apply, census, init, key_views, quarantine_views, resume_rotation,
    retry_quarantined, rotate, rotation_views,
};
use rekey_runtime::config::SecretUrl;
use rekey_store::quarantine;
use sqlx::{AssertSqlSafe, PgPool, Row};
use uuid::Uuid;

use rekey_tests::{
    roles::{self, APPLICATION, Database, OPERATOR, UP},
    support::{Disks, Engine, open, operator, phi, services_on, short, until},
};

const VISITS: &str = r#"
    CREATE TABLE "Visits" (tenant INT NOT NULL, id UUID NOT NULL, finding BYTEA, "Note" TEXT,
        updated_at TEXT NOT NULL DEFAULT 'before', PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
    CREATE TABLE visits_1 PARTITION OF "Visits" FOR VALUES IN (1);
    CREATE TABLE visits_2 PARTITION OF "Visits" FOR VALUES IN (2);
    CREATE TABLE visits_3 (LIKE "Visits" INCLUDING ALL);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.updated_at := ''touched''; RETURN NEW; END';
    CREATE TRIGGER touch BEFORE UPDATE ON "Visits" FOR EACH ROW EXECUTE FUNCTION touch()"#;

/// A clinic on PostgreSQL, with the store on SQLite.
pub struct Clinic {
    disks: Disks,
    /// The command line's.
    pub services: Services,
    /// The workers', which all run in this process and share a role.
    pub workers: Services,
    pub application: PgPool,
    database: Database,
}

impl Clinic {
    pub async fn new(on_update: OnUpdate) -> Self {
        let clinic = Self::unprotected().await;
        apply(&clinic.services, &clinic.desired(on_update), &operator())
            .await
            .unwrap();
        clinic.grant().await;
        clinic
    }

    /// Gives the roles what is printed for them; partitions are of it.
    async fn grant(&self) {
        self.database.grant(&self.services).await;
    }

    async fn unprotected() -> Self {
        let disks = Disks::new();
        let database = Database::create(APPLICATION).await;
        let application = database.pool_as(APPLICATION).await;
        sqlx::raw_sql(VISITS).execute(&application).await.unwrap();
        // A publication of everything is a superuser's.
        let publish = "CREATE PUBLICATION warehouse FOR ALL TABLES";
        roles::run(&database.administrator().await, publish).await;
        let services = services_on(&disks, &[]).await;
        let clinic = Self {
            disks,
            workers: database.services_as(UP, &services),
            services: database.services_as(OPERATOR, &services),
            application,
            database,
        };
        init(&clinic.services, &clinic.keyrings(), &operator())
            .await
            .unwrap();
        clinic
    }

    fn keyrings(&self) -> Desired {
        let policy = KeyringPolicy {
            batch_rows: 10,
            concurrency: 2,
            retry_attempts: 1,
            ..short()
        };
        let phi = KeyringConfig {
            name: phi(),
            purpose: Purpose::Phi,
            algorithm: Algorithm::default(),
            policy,
            backup: None,
        };
        Desired {
            backup: BackupPolicy::Off,
            keyrings: vec![Desired::audit_keyring(), phi],
            ..Desired::default()
        }
    }

    fn desired(&self, on_update: OnUpdate) -> Desired {
        let column = |name: &str, bind| ColumnConfig {
            name: name.to_owned(),
            keyring: phi(),
            bind,
            column_id: None,
        };
        let id = Bind::Columns(vec!["id".to_owned()]);
        let table = TableConfig {
            name: "visits".to_owned(),
            relation: r#"public."Visits""#.to_owned(),
            on_update,
            columns: vec![column("finding", Bind::Row), column("Note", id)],
        };
        let source = SourceConfig {
            name: "clinic".to_owned(),
            url: self.database.url_as(OPERATOR).into(),
            limits: Limits::default(),
            tables: vec![table],
        };
        Desired {
            sources: vec![source],
            ..self.keyrings()
        }
    }

    /// Inserts visits under the present primary key, into any table of their shape.
    pub async fn insert(&self, table: &'static str, tenant: i32, visits: usize) {
        let client = &self.services.client;
        let mut transaction = self.application.begin().await.unwrap();
        for number in 0..visits {
            let id = Uuid::now_v7();
            let (plain, binds) = (plain(id), [BindValue::Integer(tenant.into()), uuid(id)]);
            let finding = client.encrypt("clinic.visits.finding", &binds, &plain);
            let finding = finding.await.unwrap();
            let note = client.encrypt("clinic.visits.Note", &binds[1..], &plain);
            let note = encode_base64(&note.await.unwrap());
            let note = (number % 5 > 0).then_some(note);
            let insert = format!("INSERT INTO {table} VALUES ($1, $2, $3, $4)");
            sqlx::query(AssertSqlSafe(insert))
                .bind(tenant)
                .bind(id)
                .bind(finding)
                .bind(note)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
    }

    pub async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.application).await.unwrap();
    }

    pub async fn rotate(&self) {
        let reason = RotationReason::Request;
        rotate(&self.services, &phi(), reason, &operator())
            .await
            .unwrap();
    }

    pub async fn rotation(&self) -> Option<RotationView> {
        let views = rotation_views(&self.services, &operator()).await.unwrap();
        views.into_iter().find(|view| view.keyring == "phi")
    }

    pub async fn completes(&self) -> RotationView {
        until("the end of the rotation", async || {
            let view = self.rotation().await?;
            assert_ne!(view.state, RotationState::Failed, "{:?}", view.failure);
            (view.state == RotationState::Completed).then_some(view)
        })
        .await
    }

    /// Has what is in quarantine tried again, and waits for the end of that.
    async fn retry_quarantined(&self) -> RotationView {
        let asked = retry_quarantined(&self.services, &Retry::All, &operator()).await;
        let id = asked.unwrap()[0].sweep.rotation;
        until("the end of the sweep", async || {
            let view = self.completes().await;
            (view.id == id).then_some(view)
        })
        .await
    }

    /// The transaction that wrote each row last.
    async fn writers(&self) -> Vec<(Uuid, String)> {
        let writers = r#"SELECT id, xmin::text FROM "Visits" ORDER BY id"#;
        let writers = sqlx::query_as(writers).fetch_all(&self.application);
        writers.await.unwrap()
    }

    pub async fn in_store(&self, sql: &'static str) -> i64 {
        let store = open(self.disks.state("store.db"), false).await;
        sqlx::query_scalar(sql).fetch_one(&store).await.unwrap()
    }

    /// Every value is under `phi/2` and says what it said; gives how many rows there are.
    pub async fn assert_rotated(&self) -> usize {
        let keys = key_views(&self.services, &operator()).await.unwrap();
        let new = keys.iter().find(|view| view.key.to_string() == "phi/2");
        let new = Found::Key(new.unwrap().key_id);
        for row in census(&self.services, &operator()).await.unwrap() {
            assert!(row.column.source != "clinic" || row.found == new, "{row:?}");
        }
        self.services.client.keyring_changed(&phi());
        let rows = sqlx::query(r#"SELECT tenant, id, finding, "Note" FROM "Visits""#);
        let rows = rows.fetch_all(&self.application).await.unwrap();
        for row in &rows {
            let id: Uuid = row.get("id");
            let tenant: i32 = row.get("tenant");
            let binds = [BindValue::Integer(tenant.into()), uuid(id)];
            self.assert_opens("finding", &binds, row.get("finding"), id)
                .await;
            if let Some(note) = row.get::<Option<String>, _>("Note") {
                self.assert_opens("Note", &[uuid(id)], decode_base64(&note).unwrap(), id)
                    .await;
            }
        }
        rows.len()
    }

    async fn assert_opens(&self, column: &str, binds: &[BindValue], sealed: Vec<u8>, id: Uuid) {
        let column = format!("clinic.visits.{column}");
        let opened = self.services.client.decrypt(&column, binds, &sealed).await;
        assert_eq!(*opened.unwrap(), plain(id));
    }

    async fn touched(&self) -> i64 {
        let touched = r#"SELECT count(*) FROM "Visits" WHERE updated_at = 'touched'"#;
        sqlx::query_scalar(touched)
            .fetch_one(&self.application)
            .await
            .unwrap()
    }
}

fn uuid(id: Uuid) -> BindValue {
    BindValue::Uuid(*id.as_bytes())
}

fn plain(id: Uuid) -> Vec<u8> {
    format!("visit {id}").repeat(5).into_bytes()
}

pub const ACCEPTED: OnUpdate = OnUpdate {
    triggers: Some(Triggers::Suppress),
    publications_accepted: true,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_updates_set_off_must_be_said_before_a_table_is_protected() {
    let clinic = Clinic::unprotected().await;
    let refusal = async |on_update| {
        let refused = apply(&clinic.services, &clinic.desired(on_update), &operator()).await;
        match refused {
            Err(OperationError::Configuration { place, problem }) => format!("{place}: {problem}"),
            other => panic!("{other:?}"),
        }
    };
    let message = refusal(OnUpdate::default()).await;
    assert!(
        message.contains("clinic.visits") && message.contains("touch"),
        "{message}"
    );
    assert!(
        message.contains("GRANT SET ON PARAMETER session_replication_role"),
        "{message}"
    );
    let fire = OnUpdate {
        triggers: Some(Triggers::Fire),
        publications_accepted: false,
    };
    let message = refusal(fire).await;
    assert!(
        message.contains("warehouse") && message.contains("accept"),
        "{message}"
    );
    for table in ["visits_1", "visits_2"] {
        let always = format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER touch");
        sqlx::raw_sql(AssertSqlSafe(always))
            .execute(&clinic.application)
            .await
            .unwrap();
    }
    let message = refusal(ACCEPTED).await;
    assert!(message.contains("ENABLE ALWAYS"), "{message}");
    let fire = OnUpdate {
        publications_accepted: true,
        ..fire
    };
    let applied = apply(&clinic.services, &clinic.desired(fire), &operator()).await;
    assert_eq!(applied.unwrap().len(), 2);
    let ids = "SELECT count(*) FROM protected_column WHERE column_id = 'clinic.public.Visits.Note'";
    assert_eq!(clinic.in_store(ids).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_are_treated_as_it_was_said() {
    for (triggers, touched) in [(Triggers::Suppress, 0), (Triggers::Fire, 100)] {
        let clinic = Clinic::new(OnUpdate {
            triggers: Some(triggers),
            ..ACCEPTED
        })
        .await;
        clinic.insert(r#""Visits""#, 1, 60).await;
        clinic.insert(r#""Visits""#, 2, 40).await;
        let engine = Engine::start(&clinic.workers);
        clinic.rotate().await;
        let view = clinic.completes().await;
        engine.stop().await;
        assert_eq!(clinic.assert_rotated().await, 100);
        assert_eq!((view.moved, view.quarantined), (180, 0));
        assert_eq!(clinic.touched().await, touched, "{triggers}");
    }
}

/// Each flush leaves an empty message in the WAL: a commit that writes nothing waits for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_batch_is_done_before_what_it_read_outlives_a_crash() {
    let clinic = Clinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 200).await;
    let administrator = clinic.database.administrator().await;
    // Gone with its session.
    let mut session = administrator.acquire().await.unwrap();
    let slot = "SELECT pg_create_logical_replication_slot('flushes', 'pgoutput', true)";
    sqlx::raw_sql(slot).execute(&mut *session).await.unwrap();
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    clinic.completes().await;
    engine.stop().await;
    let flushes = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('flushes', NULL, NULL, \
         'proto_version', '1', 'publication_names', 'warehouse', 'messages', 'true') \
         WHERE get_byte(data, 0) = ascii('M')";
    let flushes: i64 = sqlx::query_scalar(flushes)
        .fetch_one(&mut *session)
        .await
        .unwrap();
    let batches = clinic
        .in_store("SELECT count(*) FROM batch WHERE state = 'DONE'")
        .await;
    assert!(batches >= 10 && flushes >= batches, "{batches}, {flushes}");
}

/// The first rows of a partition are deleted: written anew, its rows lie in blocks that were done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewrite_and_an_attached_partition_in_mid_rotation_lose_no_row() {
    let clinic = Clinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 700).await;
    clinic.insert(r#""Visits""#, 2, 300).await;
    clinic.insert("visits_3", 3, 80).await;
    clinic
        .execute("DELETE FROM visits_1 WHERE ctid < '(8,0)'")
        .await;
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    until("some batches that are done", async || {
        let done = "SELECT count(*) FROM batch WHERE state = 'DONE' AND last > 8";
        (clinic.in_store(done).await > 2).then_some(())
    })
    .await;
    engine.stop().await;
    let open = "SELECT count(*) FROM batch WHERE state IN ('PLANNED', 'DISPATCHED')";
    assert!(clinic.in_store(open).await > 0, "the rotation was too fast");
    clinic.execute("VACUUM FULL visits_1").await;
    // A partition gets its grants before it is attached.
    let up = clinic.database.roles().name(UP);
    let grant = format!(
        r#"GRANT SELECT (ctid, tenant, id, finding, "Note"), UPDATE (finding, "Note") ON visits_3 TO {up}"#
    );
    roles::run(&clinic.application, &grant).await;
    clinic
        .execute(r#"ALTER TABLE "Visits" ATTACH PARTITION visits_3 FOR VALUES IN (3)"#)
        .await;
    let engine = Engine::start(&clinic.workers);
    let view = clinic.completes().await;
    engine.stop().await;
    clinic.grant().await;
    assert!(clinic.assert_rotated().await > 500);
    assert_eq!((view.failure, view.quarantined), (None, 0));
    let swept = "SELECT coalesce(sum(moved), 0) FROM batch WHERE pass > 0";
    assert_eq!(
        clinic.in_store(swept).await,
        0,
        "a sweep did what the batches had to"
    );
    let void = clinic
        .in_store("SELECT count(*) FROM batch WHERE state = 'VOID'")
        .await;
    assert!(void > 0);
    let attached = r#"SELECT count(*) FROM batch WHERE part = '"public"."visits_3"' AND pass = 0"#;
    assert!(clinic.in_store(attached).await > 0);
    assert_eq!(clinic.touched().await, 0);
}

/// Met again where its partition is planned again, it is still one value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_in_quarantine_is_named_by_its_place_and_counted_once() {
    let clinic = Clinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 200).await;
    let corrupt = "UPDATE visits_1 SET finding = 'penicillin' WHERE ctid = '(1,3)'";
    clinic.execute(corrupt).await;
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    let met = "SELECT count(*) FROM quarantine";
    until("the quarantine", async || {
        (clinic.in_store(met).await > 0).then_some(())
    })
    .await;
    engine.stop().await;
    clinic.execute("VACUUM FULL visits_1").await;
    let engine = Engine::start(&clinic.workers);
    let view = clinic.completes().await;
    engine.stop().await;
    assert_eq!(view.certificate.unwrap()["quarantined"], 1);
    let listed = quarantine_views(&clinic.services, &operator())
        .await
        .unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(
        listed[0].place.starts_with(r#""public"."visits_1" ctid ("#),
        "{listed:?}"
    );
    // In clear it stands nowhere.
    let in_clear =
        "SELECT count(*) FROM quarantine WHERE row_key LIKE '%tenant%' OR row_name LIKE '%tenant%'";
    assert_eq!(clinic.in_store(in_clear).await, 0);
}

/// By the database's own record of who wrote a row last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_in_quarantine_is_moved_after_its_cause_is_mended_and_no_other_row_is_written() {
    let clinic = Clinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 100).await;
    clinic.insert(r#""Visits""#, 2, 50).await;
    clinic.execute(
        "CREATE TABLE backup AS SELECT id, finding FROM visits_1 WHERE ctid IN ('(0,2)', '(0,4)');
         UPDATE visits_1 SET finding = set_byte(finding, length(finding) - 1, get_byte(finding, length(finding) - 1) # 1)
             WHERE ctid = '(0,2)';
         UPDATE visits_1 SET finding = overlay(finding PLACING '\\xdeadbeef' FROM 2) WHERE ctid = '(0,4)'",
    )
    .await;
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    let rotation = clinic.completes().await;
    let db = clinic.services.store.db();
    let reasons = async || {
        let open = quarantine::open(db).await.unwrap();
        let mut reasons: Vec<_> = open.iter().map(|one| one.reason().to_string()).collect();
        reasons.sort_unstable();
        reasons
    };
    assert_eq!(reasons().await, ["missing-key", "unopened"]);

    let mended = r#"UPDATE "Visits" SET finding = backup.finding FROM backup
        WHERE backup.id = "Visits".id AND substr("Visits".finding, 2, 4) <> '\xdeadbeef'"#;
    clinic.execute(mended).await;
    let before = clinic.writers().await;
    let sweep = clinic.retry_quarantined().await;
    assert_ne!(sweep.id, rotation.id);
    assert_eq!((sweep.rows, sweep.moved, sweep.quarantined), (1, 1, 1));
    let after = clinic.writers().await;
    let written = before
        .iter()
        .zip(&after)
        .filter(|(one, other)| one != other);
    assert_eq!((written.count(), before.len()), (1, 150));
    assert_eq!(reasons().await, ["missing-key"]);

    let again = clinic.retry_quarantined().await;
    engine.stop().await;
    assert_eq!((again.rows, again.quarantined), (0, 1));
    assert_eq!(clinic.writers().await, after);
    assert_eq!(reasons().await, ["missing-key"]);
    assert_eq!(clinic.touched().await, 2, "by the application alone");
}

/// A transaction that stays open holds its row, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_application_has_locked_is_moved_when_it_is_free() {
    let clinic = Clinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 120).await;
    let mut application = clinic.application.begin().await.unwrap();
    sqlx::query("SELECT FROM visits_1 WHERE ctid = '(0,3)' FOR UPDATE")
        .execute(&mut *application)
        .await
        .unwrap();
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    until("all batches but one", async || {
        let open = "SELECT count(*) FROM batch WHERE state <> 'DONE'";
        let done = "SELECT count(*) FROM batch WHERE state = 'DONE'";
        (clinic.in_store(open).await == 1 && clinic.in_store(done).await > 0).then_some(())
    })
    .await;
    tokio::time::timeout(Duration::from_secs(5), application.rollback())
        .await
        .unwrap()
        .unwrap();
    let view = clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.assert_rotated().await, 120);
    assert_eq!((view.moved, view.quarantined), (216, 0));
}

/// As a job that replaces passwords does it: at the server, in the file, and no old session stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_replaced_in_mid_rotation_is_taken_up_without_a_restart() {
    let mut clinic = Clinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 700).await;
    let file = clinic.disks.state("url");
    let url = clinic.database.url_as(UP);
    std::fs::write(&file, &url).unwrap();
    let in_file = SecretUrl::in_file(&file).unwrap();
    let urls = HashMap::from([("clinic".to_owned(), in_file)]);
    clinic.workers = clinic.workers.with_source_urls(urls);
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    until("some batches that are done", async || {
        let done = "SELECT count(*) FROM batch WHERE state = 'DONE'";
        (clinic.in_store(done).await > 2).then_some(())
    })
    .await;
    let role = clinic.database.roles().name(UP);
    let administrator = clinic.database.administrator().await;
    let replace = format!("ALTER ROLE {role} PASSWORD 'the-next-one'");
    roles::run(&administrator, &replace).await;
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    roles::run(&administrator, &end).await;
    let open = "SELECT count(*) FROM batch WHERE state IN ('PLANNED', 'DISPATCHED')";
    assert!(clinic.in_store(open).await > 0, "the rotation was too fast");
    let next = url.replace("only-in-tests", "the-next-one");
    assert_ne!(next, url);
    std::fs::write(&file, next).unwrap();
    let view = clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.assert_rotated().await, 700);
    assert_eq!((view.moved, view.quarantined), (1_260, 0));
    let given_up = "SELECT count(*) FROM dead_letter";
    assert_eq!(clinic.in_store(given_up).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_appears_on_a_table_after_it_was_applied_puts_the_rotation_on_hold_until_it_is_spoken_of()
 {
    let clinic = Clinic::unprotected().await;
    let administrator = clinic.database.administrator().await;
    roles::run(&administrator, "DROP PUBLICATION warehouse").await;
    clinic.execute(r#"DROP TRIGGER touch ON "Visits""#).await;
    let mut said = OnUpdate::default();
    let apply = async |said| {
        apply(&clinic.services, &clinic.desired(said), &operator())
            .await
            .unwrap();
        clinic.grant().await;
    };
    apply(said).await;
    clinic.insert(r#""Visits""#, 1, 60).await;
    let engine = Engine::start(&clinic.workers);
    clinic
        .execute(r#"CREATE TRIGGER late BEFORE UPDATE ON "Visits" FOR EACH ROW EXECUTE FUNCTION touch()"#)
        .await;
    clinic.rotate().await;
    for (name, remedy) in [("late", "on_update"), ("lake", "publications = \"accept\"")] {
        let view = until(name, async || {
            let view = clinic.rotation().await?;
            let why = view.paused_because.as_ref()?;
            why.contains(name).then_some(view)
        })
        .await;
        let why = view.paused_because.unwrap();
        for part in ["clinic.visits", remedy, "rekey apply"] {
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(clinic.in_store("SELECT count(*) FROM batch").await, 0);
        if name == "late" {
            said.triggers = Some(Triggers::Fire);
            apply(said).await;
            roles::run(&administrator, "CREATE PUBLICATION lake FOR ALL TABLES").await;
        } else {
            said.publications_accepted = true;
            apply(said).await;
        }
        resume_rotation(&clinic.services, view.id, &operator())
            .await
            .unwrap();
    }
    clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.assert_rotated().await, 60);
    assert_eq!(clinic.touched().await, 60);
}

/// With its triggers suppressed nobody would check it, and the other table would keep what it held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_key_that_appears_after_apply_puts_the_rotation_on_hold_until_it_is_gone() {
    let clinic = Clinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 60).await;
    clinic
        .execute(
            "CREATE TABLE codes (code bytea PRIMARY KEY);
             INSERT INTO codes SELECT DISTINCT finding FROM visits_1 WHERE finding IS NOT NULL;
             ALTER TABLE visits_1 ADD CONSTRAINT coded FOREIGN KEY (finding) REFERENCES codes (code) NOT VALID",
        )
        .await;
    let engine = Engine::start(&clinic.workers);
    clinic.rotate().await;
    let view = until("a rotation on hold", async || {
        let view = clinic.rotation().await?;
        view.paused_because.is_some().then_some(view)
    })
    .await;
    let why = view.paused_because.unwrap();
    for part in ["clinic.visits", "coded", "finding"] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(clinic.in_store("SELECT count(*) FROM batch").await, 0);
    clinic
        .execute("ALTER TABLE visits_1 DROP CONSTRAINT coded")
        .await;
    resume_rotation(&clinic.services, view.id, &operator())
        .await
        .unwrap();
    clinic.completes().await;
    engine.stop().await;
    assert_eq!(clinic.assert_rotated().await, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_are_printed_for_a_table_whose_rows_nobody_of_us_may_read_yet() {
    let clinic = Clinic::unprotected().await;
    clinic
        .execute(
            "INSERT INTO visits_1 SELECT 1, gen_random_uuid(), 'x' FROM generate_series(1, 100)",
        )
        .await;
    let applied = apply(&clinic.services, &clinic.desired(ACCEPTED), &operator()).await;
    applied.unwrap();
    census(&clinic.services, &operator()).await.unwrap_err();
    clinic.grant().await;
    let counted: u64 = census(&clinic.services, &operator())
        .await
        .unwrap()
        .iter()
        .map(|row| row.rows)
        .sum();
    assert_eq!(counted, 100);
}
