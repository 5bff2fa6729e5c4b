//! A deployment in a directory of its own, with its workers in this process.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rekey_broker::{LocalTransport, Transport};
use rekey_deployment::background;
use rekey_domain::{
    Algorithm, BackupPolicy, Bind, BindValue, Found, KeyId, KeyState, KeyringName, KeyringPolicy,
    Limits, OnUpdate, Principal, Purpose, RotationReason, RotationState, Timing,
};
use rekey_envelope::{decode_base64, encode_base64};
use rekey_kms::LocalKms;
use rekey_operations::{
    Change, ColumnConfig, Desired, KeyView, KeyringConfig, RotationView, Services, SourceConfig,
    TableConfig, apply, census, init, key_views, rotate, rotation_views,
};
use rekey_runtime::config::{ChannelConfig, MonitoringConfig};
use rekey_store::Store;
use sqlx::{Row, SqlitePool, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Every so many patients one has no notes.
const WITHOUT_NOTES: i64 = 7;

/// Looks until there is something to see.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub fn operator() -> Principal {
    Principal::os("ana", "clinic")
}

pub fn phi() -> KeyringName {
    "phi".parse().unwrap()
}

/// Waits of milliseconds where people have days.
pub fn short() -> KeyringPolicy {
    KeyringPolicy {
        timing: Timing {
            keyset_max_age: Duration::from_millis(100),
            grace_period: Duration::from_millis(300),
            sweep_every: Duration::from_millis(200),
        },
        encrypt_lease: Duration::from_millis(200),
        batch_rows: 100,
        ..KeyringPolicy::default()
    }
}

/// The state directory of a deployment and, apart from it, the directory of the clinic's database.
pub struct Disks(TempDir);

impl Default for Disks {
    fn default() -> Self {
        Self::new()
    }
}

impl Disks {
    pub fn new() -> Self {
        let disks = Self(tempfile::tempdir().unwrap());
        for directory in [disks.state(""), disks.clinic("")] {
            DirBuilder::new().mode(0o700).create(directory).unwrap();
        }
        disks
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.0.path().join("state").join(name)
    }

    pub fn clinic(&self, name: &str) -> PathBuf {
        self.0.path().join("clinic").join(name)
    }
}

/// What a deployment on these disks has before it has a key: a KMS, a store, and the sources whose URLs
/// the store keeps without their passwords.
pub async fn services_on(disks: &Disks, sources: &[(&str, String)]) -> Services {
    let kms = LocalKms::create(disks.state("master.key")).await.unwrap();
    let store = Store::connect(&url(disks.state("store.db"), "rwc")).await;
    let store = store.unwrap();
    store.migrate().await.unwrap();
    let sources = sources.iter();
    let sources = sources.map(|(name, url)| ((*name).to_owned(), url.clone().into()));
    Services::new(store, Arc::new(kms), operator()).with_source_urls(sources.collect())
}

/// A clinic whose patients stand under `phi/1`: BLOB and base64 text, with NULLs, in two tables.
pub struct Deployment {
    /// Where everything is.
    pub disks: Disks,
    /// What the test itself works with.
    pub services: Services,
    /// The clinic's database.
    pub source: SqlitePool,
    /// The store's database, for what no program of ours does.
    pub store: SqlitePool,
    policy: KeyringPolicy,
    patients: i64,
}

impl Deployment {
    pub async fn of(patients: i64) -> Self {
        Self::with(patients, short()).await
    }

    pub async fn with(patients: i64, policy: KeyringPolicy) -> Self {
        Self::on(Disks::new(), patients, policy).await
    }

    /// The same, on disks that were made ready.
    pub async fn on(disks: Disks, patients: i64, policy: KeyringPolicy) -> Self {
        Self::made(disks, patients, Algorithm::default(), policy).await
    }

    /// The same, of keyrings that do not have the default algorithm.
    pub async fn of_algorithm(patients: i64, algorithm: Algorithm, policy: KeyringPolicy) -> Self {
        Self::made(Disks::new(), patients, algorithm, policy).await
    }

    async fn made(
        disks: Disks,
        patients: i64,
        algorithm: Algorithm,
        policy: KeyringPolicy,
    ) -> Self {
        let source = open(disks.clinic("source.db"), true).await;
        let tables =
            "CREATE TABLE patients (id INTEGER PRIMARY KEY, ssn BLOB, notes TEXT, updated_at TEXT);
            CREATE TABLE visits (uuid TEXT PRIMARY KEY, finding BLOB)";
        sqlx::raw_sql(tables).execute(&source).await.unwrap();
        let services = services_on(&disks, &[]).await;
        let desired = desired_on(&disks, algorithm, policy.clone());
        init(&services, &desired, &operator()).await.unwrap();
        apply(&services, &desired, &operator()).await.unwrap();
        let store = open(disks.state("store.db"), false).await;
        let deployment = Self {
            disks,
            services,
            source,
            store,
            policy,
            patients,
        };
        deployment.fill().await;
        deployment
    }

    /// Applies the same configuration with another algorithm for every keyring.
    pub async fn apply_algorithm(&self, algorithm: Algorithm) -> Vec<Change> {
        let desired = desired_on(&self.disks, algorithm, self.policy.clone());
        apply(&self.services, &desired, &operator()).await.unwrap()
    }

    /// Applies the same configuration with these channels.
    pub async fn apply_channels(&self, channels: Vec<ChannelConfig>) -> Vec<Change> {
        let desired = desired_on(&self.disks, Algorithm::default(), self.policy.clone());
        let desired = Desired {
            channels,
            ..desired
        };
        apply(&self.services, &desired, &operator()).await.unwrap()
    }

    /// What another process would have: connections, leases and cached keys of its own.
    pub async fn process(&self, name: &str) -> Services {
        let store = Store::connect(&url(self.disks.state("store.db"), "rw"))
            .await
            .unwrap();
        let kms = LocalKms::open(self.disks.state("master.key"))
            .await
            .unwrap();
        Services::new(store, Arc::new(kms), Principal::worker(name))
    }

    async fn fill(&self) {
        let mut transaction = self.source.begin().await.unwrap();
        for id in 1..=self.patients {
            let ssn = self
                .seal("patients.ssn", id.into(), ssn(id).as_bytes())
                .await;
            let notes = match id % WITHOUT_NOTES {
                0 => None,
                _ => Some(encode_base64(
                    &self
                        .seal("patients.notes", id.into(), notes(id).as_bytes())
                        .await,
                )),
            };
            let insert = "INSERT INTO patients VALUES (?, ?, ?, '2024-02-29')";
            let insert = sqlx::query(insert).bind(id).bind(ssn).bind(notes);
            insert.execute(&mut *transaction).await.unwrap();
        }
        for visit in 1..=self.visits() {
            let finding = self
                .seal(
                    "visits.finding",
                    uuid(visit).as_str().into(),
                    notes(visit).as_bytes(),
                )
                .await;
            let insert = sqlx::query("INSERT INTO visits VALUES (?, ?)").bind(uuid(visit));
            insert
                .bind(finding)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
    }

    async fn seal(&self, column: &str, bind: BindValue, plaintext: &[u8]) -> Vec<u8> {
        let column = format!("clinic.{column}");
        let client = &self.services.client;
        client.encrypt(&column, &[bind], plaintext).await.unwrap()
    }

    fn visits(&self) -> i64 {
        self.patients / 4
    }

    /// Values under `phi`, in all columns.
    pub fn values(&self) -> u64 {
        let notes = self.patients - self.patients / WITHOUT_NOTES;
        (self.patients + notes + self.visits()).unsigned_abs()
    }

    /// Applies the configuration again, with another policy of `phi` and other limits of the clinic.
    pub async fn apply(&self, change: impl FnOnce(&mut KeyringPolicy, &mut Limits)) {
        let (mut policy, mut limits) = (self.policy.clone(), Limits::default());
        change(&mut policy, &mut limits);
        let mut desired = desired_on(&self.disks, Algorithm::default(), policy);
        let clinic = desired.sources.iter_mut().find(|one| one.name == "clinic");
        clinic.unwrap().limits = limits;
        apply(&self.services, &desired, &operator()).await.unwrap();
    }

    /// Asks for a rotation; answers the request's event id.
    pub async fn rotate(&self, keyring: &KeyringName) -> String {
        let reason = RotationReason::Request;
        let asked = rotate(&self.services, keyring, reason, &operator()).await;
        asked.unwrap()
    }

    /// Runs a statement on the store behind everyone's back.
    pub async fn in_store(&self, sql: impl sqlx::SqlSafeStr) -> u64 {
        sqlx::query(sql)
            .execute(&self.store)
            .await
            .unwrap()
            .rows_affected()
    }

    /// Runs a statement on the clinic's database.
    pub async fn in_source(&self, sql: &'static str) -> u64 {
        sqlx::query(sql)
            .execute(&self.source)
            .await
            .unwrap()
            .rows_affected()
    }

    /// A number from the store.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(&self.store)
            .await
            .unwrap()
    }

    /// The keyring's latest rotation, once it is there.
    pub async fn rotation(&self, keyring: &KeyringName) -> Option<RotationView> {
        let views = rotation_views(&self.services, &operator()).await.unwrap();
        views
            .into_iter()
            .find(|view| view.keyring == keyring.as_str())
    }

    /// Whether no message waits for a worker; those for every process stay a while.
    pub async fn no_message_waits(&self) -> bool {
        let waiting = rekey_store::outbox::depth(&self.services.store).await;
        waiting.unwrap() == 0
    }

    /// Waits until the rotation of `phi` has moved some values, and gives its id.
    pub async fn moves(&self) -> Uuid {
        until("some progress", async || {
            let view = self.rotation(&phi()).await?;
            (view.moved > 0).then_some(view.id)
        })
        .await
    }

    /// Waits until the keyring's latest rotation is in `state`.
    pub async fn reaches(&self, keyring: &KeyringName, state: RotationState) -> RotationView {
        let started = Instant::now();
        until(&state.to_string(), async || {
            let view = self.rotation(keyring).await?;
            let failed = view.state == RotationState::Failed && state != RotationState::Failed;
            assert!(!failed, "the rotation failed: {:?}", view.failure);
            let late = started.elapsed() > PATIENCE && view.state != state;
            assert!(!late, "waited in vain for {state}: {view:#?}");
            (view.state == state).then_some(view)
        })
        .await
    }

    /// What the audit log has of an action on a subject.
    pub async fn audited(&self, action: &str, subject: &str) -> i64 {
        let count = "SELECT count(*) FROM audit_entry WHERE action = ? AND subject = ?";
        let count = sqlx::query_scalar(count).bind(action).bind(subject);
        count.fetch_one(&self.store).await.unwrap()
    }

    pub async fn completes(&self) -> RotationView {
        self.reaches(&phi(), RotationState::Completed).await
    }

    pub async fn keys(&self, keyring: &KeyringName) -> Vec<KeyView> {
        let mut keys = key_views(&self.services, &operator()).await.unwrap();
        keys.retain(|view| view.key.keyring == *keyring);
        keys
    }

    /// Waits for the standby that a switch orders: then `phi` has three keys.
    pub async fn has_a_new_standby(&self) {
        until("a new standby", async || {
            (self.keys(&phi()).await.len() == 3).then_some(())
        })
        .await;
    }

    /// One rotation, one switch, every value under the new key but `left`, and all that can be read
    /// reads as it was written.
    pub async fn assert_rotated_once(&self) {
        self.has_a_new_standby().await;
        let keys = self.keys(&phi()).await;
        let states: Vec<_> = keys.iter().map(|key| key.state).collect();
        assert_eq!(
            states,
            [KeyState::Inactive, KeyState::Active, KeyState::Pending]
        );
        assert_eq!(self.count("SELECT count(*) FROM rotation").await, 1);
        for (action, subject) in [
            ("rotation.started", "phi"),
            ("key.activated", "phi/2"),
            ("key.created", "phi/3"),
            ("rotation.completed", "phi"),
        ] {
            let entries = self.audited(action, subject).await;
            assert_eq!(entries, 1, "{action} {subject}");
        }
        assert_eq!(
            self.count("SELECT count(*) FROM batch WHERE state <> 'DONE'")
                .await,
            0
        );
        assert_eq!(
            self.under(Found::Key(keys[1].key_id)).await,
            self.values(),
            "census"
        );
        self.assert_reads_back().await;
    }

    /// Values of the clinic that were found so.
    pub async fn under(&self, found: Found) -> u64 {
        let rows = census(&self.services, &operator()).await.unwrap();
        let clinic = rows.iter().filter(|row| row.column.source == "clinic");
        clinic
            .filter(|row| row.found == found)
            .map(|row| row.rows)
            .sum()
    }

    /// Values of the clinic under `phi/1`.
    pub async fn under_old(&self) -> u64 {
        self.under(Found::Key(self.key_id(&phi(), 1).await)).await
    }

    pub async fn key_id(&self, keyring: &KeyringName, version: u32) -> KeyId {
        let keys = self.keys(keyring).await;
        let key = keys.iter().find(|view| view.key.version == version);
        key.unwrap().key_id
    }

    /// Every value says what it said, and nothing else of its row was touched.
    pub async fn assert_reads_back(&self) {
        self.services.client.keyring_changed(&phi());
        let rows = sqlx::query("SELECT id, ssn, notes, updated_at FROM patients ORDER BY id")
            .fetch_all(&self.source)
            .await
            .unwrap();
        assert_eq!(rows.len() as i64, self.patients);
        for row in rows {
            let id: i64 = row.get("id");
            let opened = self.open("patients.ssn", id.into(), row.get("ssn")).await;
            assert_eq!(opened, ssn(id).as_bytes());
            let sealed: Option<String> = row.get("notes");
            assert_eq!(sealed.is_none(), id % WITHOUT_NOTES == 0);
            if let Some(sealed) = sealed {
                let sealed = decode_base64(&sealed).unwrap();
                let opened = self.open("patients.notes", id.into(), sealed).await;
                assert_eq!(opened, notes(id).as_bytes());
            }
            assert_eq!(row.get::<String, _>("updated_at"), "2024-02-29");
        }
        let rows = sqlx::query("SELECT uuid, finding FROM visits ORDER BY uuid")
            .fetch_all(&self.source)
            .await
            .unwrap();
        assert_eq!(rows.len() as i64, self.visits());
        for (row, visit) in rows.iter().zip(1..) {
            let bind: String = row.get("uuid");
            assert_eq!(bind, uuid(visit));
            let opened = self
                .open("visits.finding", bind.as_str().into(), row.get("finding"))
                .await;
            assert_eq!(opened, notes(visit).as_bytes());
        }
    }

    async fn open(&self, column: &str, bind: BindValue, sealed: Vec<u8>) -> Vec<u8> {
        let column = format!("clinic.{column}");
        let opened = self
            .services
            .client
            .decrypt(&column, &[bind], &sealed)
            .await;
        opened.unwrap().to_vec()
    }

    /// Every row of the patients as it stands, byte for byte.
    pub async fn patients(&self) -> Vec<(i64, String)> {
        let rows =
            "SELECT id, hex(ssn) || ' ' || coalesce(notes, 'NULL') FROM patients ORDER BY id";
        sqlx::query_as(rows).fetch_all(&self.source).await.unwrap()
    }
}

/// What a deployment was made as.
pub fn desired_of(deployment: &Deployment) -> Desired {
    let policy = deployment.policy.clone();
    desired_on(&deployment.disks, Algorithm::default(), policy)
}

pub fn url(file: PathBuf, mode: &str) -> String {
    format!("sqlite://{}?mode={mode}", file.display())
}

pub async fn open(file: PathBuf, create: bool) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(create);
    let options = options.busy_timeout(Duration::from_secs(20));
    SqlitePool::connect_with(options).await.unwrap()
}

pub fn ssn(id: i64) -> String {
    format!("{:03}-{:02}-{:04}", id % 900, id % 100, id)
}

fn notes(id: i64) -> String {
    format!("note {id} ").repeat(usize::try_from(id % 20).unwrap())
}

fn uuid(visit: i64) -> String {
    format!("00000000-0000-7000-8000-{visit:012}")
}

fn desired_on(disks: &Disks, algorithm: Algorithm, policy: KeyringPolicy) -> Desired {
    let source = url(disks.clinic("source.db"), "rw");
    desired(&source, algorithm, policy).with_store(&url(disks.state("store.db"), "rw"))
}

fn desired(source: &str, algorithm: Algorithm, policy: KeyringPolicy) -> Desired {
    let keyring = |name: &str, purpose, policy| KeyringConfig {
        name: name.parse().unwrap(),
        purpose,
        algorithm,
        policy,
        backup: None,
    };
    let column = |name: &str, bind| ColumnConfig {
        name: name.to_owned(),
        keyring: phi(),
        bind,
        column_id: None,
    };
    let table = |name: &str, columns| TableConfig {
        name: name.to_owned(),
        relation: name.to_owned(),
        on_update: OnUpdate::default(),
        columns,
    };
    let uuid = Bind::Columns(vec!["uuid".to_owned()]);
    Desired {
        backup: BackupPolicy::Off,
        keyrings: vec![
            keyring("audit", Purpose::Audit, short()),
            keyring("phi", Purpose::Phi, policy),
            keyring("other", Purpose::Phi, short()),
        ],
        sources: vec![SourceConfig {
            name: "clinic".to_owned(),
            url: source.to_owned().into(),
            limits: Limits::default(),
            tables: vec![
                table(
                    "patients",
                    vec![column("ssn", Bind::Row), column("notes", Bind::Row)],
                ),
                table("visits", vec![column("finding", uuid)]),
            ],
        }],
        ..Desired::default()
    }
}

/// Workers, running until they are stopped or dropped.
#[derive(Default)]
pub struct Engine {
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Engine {
    /// All workers of one process.
    pub fn start(services: &Services) -> Self {
        let transport = Arc::new(LocalTransport::new(services.store.clone()));
        let mut engine = Self::default();
        engine.listen(services, transport.clone());
        engine.scheduler(services);
        engine.rotator(services, transport.clone());
        engine.re_encryptor(services, transport);
        engine
    }

    /// Hands messages for every process to this one's client.
    pub fn listen(&mut self, services: &Services, transport: Arc<dyn Transport>) {
        let client = services.client.clone();
        self.tasks
            .spawn(background(client, transport, self.shutdown.clone()));
    }

    pub fn scheduler(&mut self, services: &Services) {
        let deps = rekey_scheduler::Deps {
            services: services.clone(),
            expiration_warning: Duration::from_secs(7 * 24 * 3_600),
        };
        self.tasks
            .spawn(rekey_scheduler::run(deps, self.shutdown.clone()));
    }

    pub fn rotator(&mut self, services: &Services, transport: Arc<dyn Transport>) {
        let deps = rekey_rotator::Deps {
            services: services.clone(),
            transport,
            requesters: Vec::new(),
        };
        self.tasks
            .spawn(rekey_rotator::run(deps, self.shutdown.clone()));
    }

    pub fn re_encryptor(&mut self, services: &Services, transport: Arc<dyn Transport>) {
        let deps = rekey_re_encryptor::Deps {
            services: services.clone(),
            transport,
            slots: 3,
        };
        self.tasks
            .spawn(rekey_re_encryptor::run(deps, self.shutdown.clone()));
    }

    /// Tells people by these channels.
    pub fn notifier(&mut self, services: &Services, channels: Vec<ChannelConfig>) {
        self.monitor(services, channels, MonitoringConfig::default());
    }

    /// The same, as `monitoring` says.
    pub fn monitor(
        &mut self,
        services: &Services,
        channels: Vec<ChannelConfig>,
        monitoring: MonitoringConfig,
    ) {
        // As every program does when it starts.
        rekey_runtime::hardening::install_tls_provider();
        let deps = rekey_incident_notifier::Deps {
            services: services.clone(),
            channels,
            monitoring,
        };
        self.tasks
            .spawn(rekey_incident_notifier::run(deps, self.shutdown.clone()));
    }

    /// Has every worker end what it is at; a panic of one is a panic here.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}
