//! Whole rotations over a clinic on PostgreSQL, whose administrators go on with their own work.

use std::{sync::Arc, time::Duration};

use rekey_domain::{
    Algorithm, Bind, BindValue, Found, KeyringPolicy, Limits, OnUpdate, Purpose, RotationReason,
    RotationState, Triggers,
};
use rekey_envelope::{decode_base64, encode_base64};
use rekey_operations::{
    Desired, DesiredColumn, DesiredKeyring, DesiredSource, DesiredTable, OperationError,
    RotationView, Services, apply, census, init, key_views, rotate, rotation_views,
};
use rekey_runtime::SystemClock;
use rekey_store::quarantine;
use rekey_testkit::TestDatabase;
use sqlx::{AssertSqlSafe, PgPool, Row};
use uuid::Uuid;

use crate::support::{Disks, Engine, open, operator, phi, services_on, short, until};

const VISITS: &str = r#"
    CREATE TABLE "Visits" (tenant INT NOT NULL, id UUID NOT NULL, finding BYTEA, "Note" TEXT,
        updated_at TEXT NOT NULL DEFAULT 'before', PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
    CREATE TABLE visits_1 PARTITION OF "Visits" FOR VALUES IN (1);
    CREATE TABLE visits_2 PARTITION OF "Visits" FOR VALUES IN (2);
    CREATE TABLE visits_3 (LIKE "Visits" INCLUDING ALL);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.updated_at := ''touched''; RETURN NEW; END';
    CREATE TRIGGER touch BEFORE UPDATE ON "Visits" FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE PUBLICATION warehouse FOR ALL TABLES"#;

/// A clinic on PostgreSQL, with the store on SQLite.
struct Clinic {
    disks: Disks,
    services: Services,
    application: PgPool,
    database: TestDatabase,
}

impl Clinic {
    async fn new(on_update: OnUpdate) -> Self {
        let clinic = Self::unprotected().await;
        apply(&clinic.services, &clinic.desired(on_update), &operator())
            .await
            .unwrap();
        clinic
    }

    async fn unprotected() -> Self {
        let disks = Disks::new();
        let database = TestDatabase::create().await;
        let application = database.pool().await;
        sqlx::raw_sql(VISITS).execute(&application).await.unwrap();
        let sources = [("clinic", database.url())];
        let services = services_on(&disks, Arc::new(SystemClock), &sources).await;
        let clinic = Self {
            disks,
            services,
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
            ..short()
        };
        let phi = DesiredKeyring {
            name: phi(),
            purpose: Purpose::Phi,
            algorithm: Algorithm::default(),
            policy,
        };
        Desired {
            keyrings: vec![Desired::audit_keyring(), phi],
            sources: Vec::new(),
        }
    }

    fn desired(&self, on_update: OnUpdate) -> Desired {
        let column = |name: &str, bind| DesiredColumn {
            name: name.to_owned(),
            keyring: phi(),
            bind,
            column_id: None,
        };
        let id = Bind::Columns(vec!["id".to_owned()]);
        let table = DesiredTable {
            name: "visits".to_owned(),
            relation: r#"public."Visits""#.to_owned(),
            on_update,
            columns: vec![column("finding", Bind::Row), column("Note", id)],
        };
        let source = DesiredSource {
            name: "clinic".to_owned(),
            url: self.database.url().into(),
            limits: Limits::default(),
            tables: vec![table],
        };
        Desired {
            sources: vec![source],
            ..self.keyrings()
        }
    }

    /// Inserts visits under the present primary key, into any table of their shape.
    async fn insert(&self, table: &'static str, tenant: i32, visits: usize) {
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

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.application).await.unwrap();
    }

    async fn rotate(&self) {
        let reason = RotationReason::Request;
        rotate(&self.services, &phi(), reason, &operator())
            .await
            .unwrap();
    }

    async fn rotation(&self) -> Option<RotationView> {
        let views = rotation_views(&self.services).await.unwrap();
        views.into_iter().find(|view| view.keyring == "phi")
    }

    async fn completes(&self) -> RotationView {
        until("the end of the rotation", async || {
            let view = self.rotation().await?;
            assert_ne!(view.state, RotationState::Failed, "{:?}", view.failure);
            (view.state == RotationState::Completed).then_some(view)
        })
        .await
    }

    async fn in_store(&self, sql: &'static str) -> i64 {
        let store = open(self.disks.state("store.db"), false).await;
        sqlx::query_scalar(sql).fetch_one(&store).await.unwrap()
    }

    /// Every value is under `phi/2` and says what it said; gives how many rows there are.
    async fn assert_rotated(&self) -> usize {
        let keys = key_views(&self.services).await.unwrap();
        let new = keys.iter().find(|view| view.key.to_string() == "phi/2");
        let new = Found::Key(new.unwrap().key_id);
        for row in census(&self.services).await.unwrap() {
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

const ACCEPTED: OnUpdate = OnUpdate {
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
        let engine = Engine::start(&clinic.services);
        clinic.rotate().await;
        let view = clinic.completes().await;
        engine.stop().await;
        assert_eq!(clinic.assert_rotated().await, 100);
        assert_eq!((view.moved, view.quarantined), (180, 0));
        assert_eq!(clinic.touched().await, touched, "{triggers}");
    }
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
    let engine = Engine::start(&clinic.services);
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
    clinic
        .execute(r#"ALTER TABLE "Visits" ATTACH PARTITION visits_3 FOR VALUES IN (3)"#)
        .await;
    let engine = Engine::start(&clinic.services);
    let view = clinic.completes().await;
    engine.stop().await;
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
async fn a_value_in_quarantine_is_named_by_its_key_and_counted_once() {
    let clinic = Clinic::new(ACCEPTED).await;
    clinic.insert(r#""Visits""#, 1, 200).await;
    let corrupt = "UPDATE visits_1 SET finding = 'penicillin' WHERE ctid = '(1,3)'";
    clinic.execute(corrupt).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate().await;
    let met = "SELECT count(*) FROM quarantine";
    until("the quarantine", async || {
        (clinic.in_store(met).await > 0).then_some(())
    })
    .await;
    engine.stop().await;
    clinic.execute("VACUUM FULL visits_1").await;
    let engine = Engine::start(&clinic.services);
    let view = clinic.completes().await;
    engine.stop().await;
    assert_eq!(view.certificate.unwrap()["quarantined"], 1);
    let id = "SELECT id FROM visits_1 WHERE finding = 'penicillin'";
    let id: Uuid = sqlx::query_scalar(id)
        .fetch_one(&clinic.application)
        .await
        .unwrap();
    let listed = quarantine::open(clinic.services.store.db()).await.unwrap();
    let rows: Vec<_> = listed.iter().map(|value| value.row_key.as_str()).collect();
    assert_eq!(rows, [format!("tenant=1,id={id}")]);
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
    let engine = Engine::start(&clinic.services);
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
