//! A deployment in a directory of its own, for tests of whole rotations.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rekey_domain::{
    BatchState, Bind, Found, KeyState, KeyringPolicy, OnUpdate, Principal, Purpose, RotationReason,
    RotationState, Timing,
};
use rekey_envelope::{decode_base64, encode_base64};
use rekey_kms::LocalKms;
use rekey_messages::{Message, RotationRequested};
use rekey_operations::{
    Desired, DesiredColumn, DesiredKeyring, DesiredSource, DesiredTable, Services, apply, census,
    init, key_views, rotate, rotation_views, verify_audit,
};
use rekey_runtime::SystemClock;
use rekey_store::{Store, audit, batches, dead_letters, rotations};
use sqlx::{Row, SqlitePool, sqlite::SqliteConnectOptions};

/// Patients in the table.
pub const ROWS: i64 = 120;
/// Visits in the other table; every second one has no reason.
pub const VISITS: i64 = 40;
/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A deployment in a directory of its own, with a table of patients under `phi/1`.
pub struct Clinic {
    pub dir: tempfile::TempDir,
    pub services: Services,
    pub source: SqlitePool,
}

impl Clinic {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let source = open(&file("source.db"), true).await;
        let table = "CREATE TABLE patients (id INTEGER PRIMARY KEY, ssn BLOB, notes TEXT)";
        sqlx::query(table).execute(&source).await.unwrap();
        let table = "CREATE TABLE visits (code TEXT PRIMARY KEY, reason TEXT)";
        sqlx::query(table).execute(&source).await.unwrap();
        let url = |name: &str, mode: &str| format!("sqlite://{}?mode={mode}", file(name).display());
        let store = Store::connect(&url("store.db", "rwc")).await.unwrap();
        store.migrate().await.unwrap();
        let kms = Arc::new(LocalKms::create(file("master.key")).await.unwrap());
        let services = Services::new(store, kms, Arc::new(SystemClock), operator());
        let desired = desired(&url("source.db", "rw")).with_store(&url("store.db", "rw"));
        init(&services, &desired, &operator()).await.unwrap();
        apply(&services, &desired, &operator()).await.unwrap();
        let clinic = Self {
            dir,
            services,
            source,
        };
        clinic.fill().await;
        clinic.fill_visits().await;
        clinic
    }

    async fn fill(&self) {
        for id in 1..=ROWS {
            let ssn = self
                .services
                .client
                .encrypt("clinic.patients.ssn", &[id.into()], ssn(id).as_bytes())
                .await;
            let notes = self
                .services
                .client
                .encrypt("clinic.patients.notes", &[id.into()], notes(id).as_bytes())
                .await;
            let insert = sqlx::query("INSERT INTO patients (id, ssn, notes) VALUES (?, ?, ?)");
            let notes = encode_base64(&notes.unwrap());
            insert
                .bind(id)
                .bind(ssn.unwrap())
                .bind(notes)
                .execute(&self.source)
                .await
                .unwrap();
        }
    }

    async fn fill_visits(&self) {
        for visit in 0..VISITS {
            let code = format!("visit/{visit}");
            let bind = [code.as_str().into()];
            let reason =
                self.services
                    .client
                    .encrypt("clinic.visits.reason", &bind, code.as_bytes());
            let reason = if visit % 2 == 0 {
                Some(encode_base64(&reason.await.unwrap()))
            } else {
                None
            };
            let insert = sqlx::query("INSERT INTO visits (code, reason) VALUES (?, ?)");
            insert
                .bind(&code)
                .bind(reason)
                .execute(&self.source)
                .await
                .unwrap();
        }
    }

    async fn assert_visits_readable(&self, point: &str) {
        let rows = sqlx::query("SELECT code, reason FROM visits")
            .fetch_all(&self.source)
            .await
            .unwrap();
        let mut reasons = 0;
        for row in rows {
            let (code, reason): (String, Option<String>) = (row.get("code"), row.get("reason"));
            let Some(reason) = reason else { continue };
            let sealed = decode_base64(&reason).unwrap();
            let bind = [code.as_str().into()];
            let opened = self
                .services
                .client
                .decrypt("clinic.visits.reason", &bind, &sealed)
                .await;
            assert_eq!(
                *opened.unwrap_or_else(|error| panic!("{point}: {error}")),
                *code.as_bytes()
            );
            reasons += 1;
        }
        assert_eq!(reasons, VISITS / 2, "{point}: NULLs stay NULL");
    }

    /// Asks for a rotation, and for one of a keyring that is not there: its handler fails.
    pub async fn ask(&self) {
        let unit = self
            .services
            .store
            .begin(self.services.clock.now())
            .await
            .unwrap();
        let ghost = RotationRequested {
            keyring: "ghost".parse().unwrap(),
            reason: RotationReason::Request,
        };
        assert!(RotationRequested::ROUTE.is_mandatory());
        unit.send(&ghost).await.unwrap();
        unit.commit().await.unwrap();
        rotate(
            &self.services,
            &"phi".parse().unwrap(),
            RotationReason::Request,
            &operator(),
        )
        .await
        .unwrap();
    }

    pub async fn wait_until_completed(&self, point: &str) {
        let started = Instant::now();
        loop {
            let rotations = rotation_views(&self.services).await.unwrap();
            let dead = dead_letters::open(self.services.store.db())
                .await
                .unwrap()
                .len();
            let keys = key_views(&self.services).await.unwrap();
            let standby = keys.iter().any(|key| key.key.to_string() == "phi/3");
            if rotations
                .first()
                .is_some_and(|last| last.state == RotationState::Completed)
                && dead > 0
                && standby
            {
                return;
            }
            let states: Vec<_> = rotations
                .iter()
                .map(|rotation| (rotation.state, rotation.batches_done))
                .collect();
            assert!(
                started.elapsed() < PATIENCE,
                "{point}: stuck with {states:?}, {dead} dead letters"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn assert_readable(&self, point: &str) {
        // A process of its own would refresh by itself; this one must see what the dead one did.
        self.services
            .client
            .keyring_changed(&"phi".parse().unwrap());
        let rows = sqlx::query("SELECT id, ssn, notes FROM patients ORDER BY id")
            .fetch_all(&self.source)
            .await
            .unwrap();
        assert_eq!(rows.len() as i64, ROWS, "{point}");
        for row in rows {
            let id: i64 = row.get("id");
            let read = |column: &'static str, value: Vec<u8>| async move {
                self.services
                    .client
                    .decrypt(column, &[id.into()], &value)
                    .await
                    .unwrap_or_else(|e| panic!("{point}: {e}"))
            };
            assert_eq!(
                *read("clinic.patients.ssn", row.get("ssn")).await,
                *ssn(id).as_bytes()
            );
            let sealed = decode_base64(row.get("notes")).unwrap();
            assert_eq!(
                *read("clinic.patients.notes", sealed).await,
                *notes(id).as_bytes()
            );
        }
    }

    pub async fn assert_whole(&self, point: &str) {
        self.assert_readable(point).await;
        self.assert_visits_readable(point).await;
        let keys = key_views(&self.services).await.unwrap();
        let phi: Vec<_> = keys
            .iter()
            .filter(|key| key.key.keyring.as_str() == "phi")
            .collect();
        let states: Vec<_> = phi.iter().map(|key| key.state).collect();
        assert_eq!(
            states,
            [KeyState::Inactive, KeyState::Active, KeyState::Pending],
            "{point}: one primary, one standby"
        );

        let counted = census(&self.services).await.unwrap();
        let clinic = counted.iter().filter(|row| row.column.source == "clinic");
        assert!(
            clinic
                .clone()
                .all(|row| row.found == Found::Key(phi[1].key_id)),
            "{point}: rows below the target"
        );
        assert_eq!(
            clinic.map(|row| row.rows).sum::<u64>(),
            (2 * ROWS + VISITS / 2) as u64,
            "{point}"
        );

        let db = self.services.store.db();
        let all = rotations::all(db).await.unwrap();
        assert_eq!(all.len(), 1, "{point}: one rotation");
        let last_pass = batches::of_pass(db, &all[0]).await.unwrap();
        assert!(
            last_pass
                .iter()
                .all(|batch| batch.state.0 == BatchState::Done),
            "{point}"
        );
        assert_eq!(
            dead_letters::open(db).await.unwrap().len(),
            1,
            "{point}: only the ghost's letter, once"
        );
        self.assert_audited_once(point).await;
    }

    async fn assert_audited_once(&self, point: &str) {
        let verdict = verify_audit(&self.services, &operator()).await.unwrap();
        assert_eq!(verdict.problems, Vec::<String>::new(), "{point}");
        let entries = audit::page(self.services.store.db(), 0, 1_000)
            .await
            .unwrap();
        let count = |action: &str, subject: &str| {
            entries
                .iter()
                .filter(|(entry, _)| entry.action == action && entry.subject == subject)
                .count()
        };
        for (action, subject) in [
            ("rotation.started", "phi"),
            ("key.activated", "phi/2"),
            ("key.created", "phi/3"),
            ("rotation.completed", "phi"),
        ] {
            assert_eq!(count(action, subject), 1, "{point}: {action} {subject}");
        }
    }
}

async fn open(file: &PathBuf, create: bool) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(create);
    SqlitePool::connect_with(options.busy_timeout(Duration::from_secs(20)))
        .await
        .unwrap()
}

pub fn operator() -> Principal {
    Principal::os("ana", "clinic")
}

pub fn ssn(id: i64) -> String {
    format!("{:03}-{:02}-{:04}", id % 900, id % 100, id)
}

pub fn notes(id: i64) -> String {
    format!("note of patient {id} ").repeat(usize::try_from(id % 20 + 1).unwrap())
}

fn desired(source: &str) -> Desired {
    let timing = Timing {
        keyset_max_age: Duration::from_millis(100),
        grace_period: Duration::from_millis(300),
        sweep_every: Duration::from_millis(200),
    };
    let encrypt_lease = Duration::from_millis(200);
    let policy = KeyringPolicy {
        timing,
        encrypt_lease,
        batch_rows: 25,
        concurrency: 3,
        ..Default::default()
    };
    let phi: rekey_domain::KeyringName = "phi".parse().unwrap();
    let column = |name: &str| DesiredColumn {
        name: name.to_owned(),
        keyring: phi.clone(),
        bind: Bind::Row,
        column_id: None,
    };
    let table = DesiredTable {
        name: "patients".to_owned(),
        relation: "patients".to_owned(),
        on_update: OnUpdate::default(),
        columns: vec![column("ssn"), column("notes")],
    };
    let visits = DesiredTable {
        name: "visits".to_owned(),
        relation: "visits".to_owned(),
        on_update: OnUpdate::default(),
        columns: vec![column("reason")],
    };
    Desired {
        keyrings: vec![
            Desired::audit_keyring(),
            DesiredKeyring {
                name: phi,
                purpose: Purpose::Phi,
                policy,
            },
        ],
        sources: vec![DesiredSource {
            name: "clinic".to_owned(),
            url: source.to_owned(),
            tables: vec![table, visits],
        }],
    }
}
