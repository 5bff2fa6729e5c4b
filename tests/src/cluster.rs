//! A deployment of many processes: PostgreSQL, RabbitMQ and a KMS, each worker with its own rights and no more.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use rekey_domain::{Algorithm, Found, Role, RotationReason, RotationState, Worker};
use rekey_envelope::{decode_base64, encode_base64};
use rekey_kms::AwsKms;
use rekey_operations::{
    RotationView, Services, census, key_views, rotate, rotation_views, verify_audit,
};
use rekey_store::Store;
use rekey_testkit::{programs, rabbitmq::TestBroker, services};
use serde_json::Value;
use sqlx::{PgPool, Row};
use tempfile::TempDir;

use crate::{
    process::Process,
    roles::{self, APPLICATION, Database, OPERATOR, OWNER, Roles},
    support::{operator, phi, until},
};

const CONFIG: &str = "rekey.toml";

/// What carries messages between the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Messages {
    /// RabbitMQ.
    RabbitMq,
    /// The store's outbox, leased by every process.
    Local,
}

/// How the rotation of a cluster goes.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub batch_rows: u32,
    pub concurrency: u32,
    pub retry_attempts: u32,
    pub grace_period: &'static str,
    pub encrypt_lease: &'static str,
    pub messages: Messages,
    pub algorithm: Algorithm,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            batch_rows: 100,
            concurrency: 5,
            retry_attempts: 3,
            grace_period: "1s",
            encrypt_lease: "1s",
            messages: Messages::RabbitMq,
            algorithm: Algorithm::default(),
        }
    }
}

/// A clinic on PostgreSQL whose patients stand under `phi/1`, and everything its workers need.
pub struct Cluster {
    /// What the test itself looks with: an operator, not a worker.
    pub services: Services,
    /// The clinic's database, as its application has it.
    pub source: PgPool,
    /// The store's database, for what no program of ours does.
    pub store: PgPool,
    pub broker: TestBroker,
    policy: Policy,
    patients: i64,
    /// The folder of the programs that are started from now on.
    pub programs: PathBuf,
    dir: TempDir,
    databases: [Database; 2],
    /// Where the workers find the services; a proxy may stand there.
    pub places: Urls,
    /// Users at the broker.
    users: Vec<(Role, String)>,
    /// Whether the programs that made it print no grants for the command line, as those from before
    /// decision 0026: then the owners of the databases give its commands.
    made_by_owners: bool,
}

/// Host and port of each service.
#[derive(Debug, Clone)]
pub struct Urls {
    pub store: String,
    pub source: String,
    pub amqp: String,
    /// Only applications look here.
    pub kms: String,
}

/// The servers that a cluster lives on, each as an administrator.
pub struct Servers {
    pub store: String,
    pub source: String,
    pub amqp: String,
    pub rabbitmq_api: String,
}

impl Servers {
    /// Those of all tests.
    pub fn shared() -> Self {
        Self {
            store: roles::server(),
            source: roles::server(),
            amqp: services::url(services::AMQP),
            rabbitmq_api: services::url(services::RABBITMQ_API),
        }
    }
}

impl Cluster {
    pub async fn of(patients: i64, policy: Policy) -> Self {
        Self::on(Servers::shared(), patients, policy).await
    }

    /// A cluster on servers of a test's own, which it may kill.
    pub async fn on(servers: Servers, patients: i64, policy: Policy) -> Self {
        let cluster = Self::made_by(programs(), servers, patients, policy).await;
        cluster.fill().await;
        cluster
    }

    /// A cluster whose store and workers are those of the programs in this folder, and whose clinic is
    /// empty.
    pub async fn made_by(programs: &Path, servers: Servers, patients: i64, policy: Policy) -> Self {
        let (store, source) = (&servers.store, &servers.source);
        let roles = Roles::create(&[store, source]).await;
        let databases = [
            Database::with(&roles, store, OWNER).await,
            Database::with(&roles, source, APPLICATION).await,
        ];
        let places = Urls {
            store: place(store),
            source: place(source),
            amqp: place(&servers.amqp),
            kms: place(&services::url(services::KMS)),
        };
        let broker = TestBroker::on(servers.amqp, servers.rabbitmq_api).await;
        let [store, source] = &databases;
        let dir = tempfile::tempdir().unwrap();
        let alias = format!("alias/{}", store.name());
        std::fs::write(dir.path().join(CONFIG), config(&alias, policy)).unwrap();
        let source_pool = source.pool_as(APPLICATION).await;
        let tables =
            "CREATE TABLE patients (id bigint PRIMARY KEY, ssn bytea, notes text, updated_at text)
                 WITH (fillfactor = 70);
             CREATE TABLE visits (uuid uuid PRIMARY KEY, finding bytea)";
        sqlx::raw_sql(tables).execute(&source_pool).await.unwrap();
        let urls = [store, source].map(|database| database.url_as(OPERATOR));
        let mut cluster = Self {
            programs: programs.to_owned(),
            services: operators(&urls, &alias).await,
            source: source_pool,
            store: store.administrator().await,
            broker,
            policy,
            patients,
            dir,
            databases,
            places,
            users: Vec::new(),
            made_by_owners: false,
        };
        cluster.grant().await;
        cluster
    }

    /// The keyring's algorithm as its operator changes it; answers what `rekey apply` prints.
    pub fn apply_algorithm(&self, algorithm: Algorithm) -> String {
        let alias = format!("alias/{}", self.databases[0].name());
        let policy = Policy {
            algorithm,
            ..self.policy
        };
        std::fs::write(self.dir.path().join(CONFIG), config(&alias, policy)).unwrap();
        self.rekey(&["apply"])
    }

    /// A command as the operator gives it; answers what it prints.
    pub fn rekey(&self, arguments: &[&str]) -> String {
        let is_old = self.made_by_owners && self.programs != programs();
        let roles = if is_old {
            [OWNER, APPLICATION]
        } else {
            [OPERATOR; 2]
        };
        self.rekey_as(roles, arguments)
    }

    /// Brings the store's schema up to date, as its owner.
    pub fn migrate(&self) {
        self.rekey_as([OWNER, OPERATOR], &["migrate"]);
    }

    /// As these roles at the store and at the source.
    pub fn rekey_as(&self, roles: [&str; 2], arguments: &[&str]) -> String {
        let mut command = self.command("rekey");
        let [store, source] = &self.databases;
        command.args(arguments).stdin(Stdio::null());
        command.env("REKEY__STORE__URL", store.url_as(roles[0]));
        command.env("REKEY__SOURCE__CLINIC__URL", source.url_as(roles[1]));
        if let Some(url) = self.broker_url(Role::Operator) {
            command.env("REKEY__BROKER__URL", url);
        }
        let done = command.output().unwrap();
        let (said, wrong) = (
            String::from_utf8(done.stdout).unwrap(),
            String::from_utf8(done.stderr).unwrap(),
        );
        assert!(done.status.success(), "rekey {arguments:?}: {wrong}");
        said
    }

    /// The command line as an application that encrypts starts it.
    pub fn application(&self) -> Command {
        let mut command = self.command("rekey");
        let url = self.databases[0].url_as(OPERATOR);
        let url = url.replace(&place(&url), &self.places.store);
        command.env("REKEY__STORE__URL", url);
        let kms = format!("http://{}", self.places.kms);
        command.env("REKEY__KMS__ENDPOINT_URL", kms);
        command
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.dir.path());
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("REKEY_STATE_DIR", "state"),
        ] {
            command.env(name, value);
        }
        // Older programs know nothing of it, and make keyrings so.
        if name == "rekey" && knows_backups(&self.programs) {
            command.env("REKEY__BACKUP", "off");
        }
        command
    }

    /// Gives every worker and the command line what `rekey grants` prints, and nothing else.
    async fn grant(&mut self) {
        for who in Role::ALL {
            let (user, _) = self.broker.user().await;
            if who == Role::Operator {
                // Whoever declares needs this before anything exists that could print it.
                let ours = r"^rekey(\..*)?$";
                self.broker.management.permit(&user, ours, ours, ours).await;
            }
            self.users.push((who, user));
        }
        self.migrate();
        let operator = Role::Operator.name();
        self.made_by_owners = self.grants().iter().all(|one| one["worker"] != operator);
        // Nothing is protected yet: what the operator needs to make keyrings and to apply.
        self.grant_anew().await;
        self.rekey(&["init"]);
        self.grant_anew().await;
    }

    /// The same once more, as another version may need other rights.
    pub async fn grant_anew(&self) {
        let [store, source] = &self.databases;
        let printed = self.grants();
        store.give_store(&printed).await;
        source.give_source("clinic", &printed).await;
        for (who, user) in &self.users {
            let is_theirs = |one: &&Value| one["worker"] == who.name();
            let Some(grants) = printed.iter().find(is_theirs) else {
                // Older programs know nothing of it.
                assert!(self.programs != programs(), "{}", who.name());
                continue;
            };
            let expression = |name: &str| grants["rabbitmq"][name].as_str().unwrap().to_owned();
            let [configure, write, read] = ["configure", "write", "read"].map(expression);
            self.broker
                .management
                .permit(user, &configure, &write, &read)
                .await;
        }
    }

    /// The role of a worker at the databases.
    pub fn role(&self, worker: Worker) -> String {
        Role::from(worker).role(self.databases[0].roles().prefix())
    }

    /// What a worker's program works with, in the test's own hands: its role at the databases, and the KMS.
    pub async fn services_as(&self, worker: Worker) -> Services {
        let role = Role::from(worker).role("");
        let urls = [0, 1].map(|at: usize| self.databases[at].url_as(&role));
        let alias = format!("alias/{}", self.databases[0].name());
        operators(&urls, &alias).await
    }

    /// Connections to the store, as a worker.
    pub async fn store_as(&self, who: impl Into<Role>) -> PgPool {
        let role = who.into().role("");
        self.databases[0].pool_as(&role).await
    }

    /// Runs what takes back what older programs were given.
    pub async fn revoke_former(&self) {
        for grants in self.grants() {
            for sql in grants["store_revokes"].as_array().unwrap() {
                roles::run(&self.store, sql.as_str().unwrap()).await;
            }
        }
    }

    /// What `rekey grants` prints. The store's owner runs it, as the operator may still lack that right; old programs
    /// also look at the tables.
    fn grants(&self) -> Vec<Value> {
        let is_old = self.programs != programs();
        let at_source = if is_old { APPLICATION } else { OPERATOR };
        let prefix = self.databases[0].roles().prefix();
        let ask = ["--output", "json", "grants", "--role-prefix", prefix];
        let printed = self.rekey_as([OWNER, at_source], &ask);
        let printed: Value = serde_json::from_str(&printed).unwrap();
        printed["grants"].as_array().unwrap().clone()
    }

    /// The broker's URL for one of its users, where there is a broker.
    fn broker_url(&self, who: Role) -> Option<String> {
        if self.policy.messages == Messages::Local {
            return None;
        }
        let (_, user) = self.users.iter().find(|(one, _)| *one == who).unwrap();
        Some(self.broker.url_as(user, "password"))
    }

    /// Gives the clinic limits, and the workers the rights that these take there.
    pub async fn limit(&self, limits: &str) {
        let file = self.dir.path().join("rekey.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{config}[source.limits]\n{limits}\n")).unwrap();
        self.rekey(&["apply"]);
        let [_, source] = &self.databases;
        source.give_source("clinic", &self.grants()).await;
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Adds to the configuration, and applies it.
    pub fn configure(&self, more: &str) {
        let file = self.dir.path().join(CONFIG);
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{config}\n{more}")).unwrap();
        self.rekey(&["apply"]);
    }

    /// Says of the patients that their triggers are right to fire.
    pub fn fire_triggers(&self) {
        let file = self.dir.path().join(CONFIG);
        let config = std::fs::read_to_string(&file).unwrap();
        let table = "relation = \"public.patients\"\n";
        let said = format!("{table}on_update = {{ triggers = \"fire\" }}\n");
        std::fs::write(&file, config.replace(table, &said)).unwrap();
        self.rekey(&["apply"]);
    }

    /// Starts a worker with its own rights.
    pub fn start(&self, worker: Worker) -> Process {
        self.start_with(worker, &[])
    }

    /// The same, with more in its environment.
    pub fn start_with(&self, worker: Worker, environment: &[(&str, &str)]) -> Process {
        let mut command = self.command(&format!("rekey-{}", worker.name()));
        if worker == Worker::Scheduler {
            // It has no business at the KMS.
            for credential in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
                command.env_remove(credential);
            }
        }
        let role = Role::from(worker).role("");
        let [store, source] = &self.databases;
        let at = |url: String, there: &str| url.replace(&place(&url), there);
        let url = at(store.url_as(&role), &self.places.store);
        command.env("REKEY__STORE__URL", url);
        let url = at(source.url_as(&role), &self.places.source);
        command.env("REKEY__SOURCE__CLINIC__URL", url);
        if let Some(url) = self.broker_url(worker.into()) {
            command.env("REKEY__BROKER__URL", at(url, &self.places.amqp));
        }
        command.env("REKEY_LOG", "info").env("NO_COLOR", "1");
        command.envs(environment.iter().copied());
        Process::spawn(command)
    }

    /// A scheduler, a rotator and so many re-encryptors.
    pub fn start_all(&self, re_encryptors: usize) -> Vec<Process> {
        let mut all = vec![self.start(Worker::Scheduler), self.start(Worker::Rotator)];
        all.extend((0..re_encryptors).map(|_| self.start(Worker::ReEncryptor)));
        all
    }

    /// Takes the patients in. The store has the schema that this program knows.
    pub async fn fill(&self) {
        let client = &self.services.client;
        let mut transaction = self.source.begin().await.unwrap();
        for first in (1..=self.patients).step_by(1_000) {
            let (mut ids, mut ssns, mut all_notes) = (Vec::new(), Vec::new(), Vec::new());
            for id in first..(first + 1_000).min(self.patients + 1) {
                ids.push(id);
                ssns.push(self.seal("ssn", id, &ssn(id)).await);
                let sealed = encode_base64(&self.seal("notes", id, &notes(id)).await);
                all_notes.push((id % 7 > 0).then_some(sealed));
            }
            let insert = "INSERT INTO patients SELECT *, '2024-02-29' FROM unnest($1::bigint[], $2::bytea[], $3::text[])";
            let insert = sqlx::query(insert).bind(ids).bind(ssns).bind(all_notes);
            insert.execute(&mut *transaction).await.unwrap();
        }
        for visit in 0..self.visits() {
            let id = uuid::Uuid::from_u128(visit.unsigned_abs().into());
            let bind = [rekey_domain::BindValue::Uuid(*id.as_bytes())];
            let column = "clinic.visits.finding";
            let finding = client.encrypt(column, &bind, id.as_bytes()).await.unwrap();
            let insert = sqlx::query("INSERT INTO visits VALUES ($1, $2)");
            let insert = insert.bind(id).bind(finding);
            insert.execute(&mut *transaction).await.unwrap();
        }
        transaction.commit().await.unwrap();
        let analyse = sqlx::raw_sql("ANALYZE patients; ANALYZE visits");
        analyse.execute(&self.source).await.unwrap();
    }

    /// A value of a patient as the application writes it, under the present primary key.
    pub async fn seal(&self, column: &str, id: i64, value: &str) -> Vec<u8> {
        let (column, bind) = (format!("clinic.patients.{column}"), [id.into()]);
        let sealed = self
            .services
            .client
            .encrypt(&column, &bind, value.as_bytes());
        sealed.await.unwrap()
    }

    /// What a value of a patient says.
    pub async fn open(&self, column: &str, id: i64, sealed: &[u8]) -> String {
        let (column, bind) = (format!("clinic.patients.{column}"), [id.into()]);
        let opened = self.services.client.decrypt(&column, &bind, sealed).await;
        String::from_utf8(opened.unwrap().to_vec()).unwrap()
    }

    fn visits(&self) -> i64 {
        (self.patients / 10).min(500)
    }

    /// Values under `phi`.
    pub fn values(&self) -> u64 {
        let notes = self.patients - self.patients / 7;
        (self.patients + notes + self.visits()).unsigned_abs()
    }

    pub async fn rotate(&self) -> String {
        let reason = RotationReason::Request;
        let asked = rotate(&self.services, &phi(), reason, &operator()).await;
        asked.unwrap()
    }

    pub async fn rotation(&self) -> Option<RotationView> {
        let views = rotation_views(&self.services, &operator()).await.unwrap();
        views.into_iter().find(|view| view.keyring == "phi")
    }

    pub async fn reaches(&self, state: RotationState) -> RotationView {
        until(&state.to_string(), async || {
            let view = self.rotation().await?;
            let failed = view.state == RotationState::Failed && state != RotationState::Failed;
            assert!(!failed, "the rotation failed: {:?}", view.failure);
            assert_eq!(view.paused_because, None);
            (view.state == state).then_some(view)
        })
        .await
    }

    /// Waits until batches are being moved.
    pub async fn moves(&self) {
        until("values being moved", async || {
            (self.rotation().await?.moved > 0).then_some(())
        })
        .await;
    }

    /// As if a minute had passed: leases of processes that are gone have ended.
    pub async fn leases_end(&self) {
        for sql in [
            "UPDATE lease SET until = 0",
            "UPDATE outbox SET leased_until = 0",
            "UPDATE batch SET resend_at = 0",
            "UPDATE rotation SET resend_at = 0",
        ] {
            // Workers hold rows in another order: whoever is the victim tries again.
            until(sql, async || {
                sqlx::query(sql).execute(&self.store).await.ok()
            })
            .await;
        }
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(&self.store)
            .await
            .unwrap()
    }

    /// Values of the clinic under a version of `phi`.
    pub async fn under(&self, version: u32) -> u64 {
        let keys = key_views(&self.services, &operator()).await.unwrap();
        let name = format!("phi/{version}");
        let key = keys.iter().find(|key| key.key.to_string() == name).unwrap();
        let rows = census(&self.services, &operator()).await.unwrap();
        let clinic = rows.iter().filter(|row| row.column.source == "clinic");
        let of_key = clinic.filter(|row| row.found == Found::Key(key.key_id));
        of_key.map(|row| row.rows).sum()
    }

    /// Ended once, everything under the new key, everything as it was written, the log whole.
    pub async fn assert_rotated_once(&self) {
        until("a new standby", async || {
            let keys = key_views(&self.services, &operator()).await.unwrap();
            let phi = keys.iter().filter(|key| key.key.keyring == phi());
            (phi.count() == 3).then_some(())
        })
        .await;
        assert_eq!(self.count("SELECT count(*) FROM rotation").await, 1);
        for (action, subject) in [
            ("rotation.started", "phi"),
            ("key.activated", "phi/2"),
            ("key.created", "phi/3"),
            ("rotation.completed", "phi"),
        ] {
            let count = "SELECT count(*) FROM audit_entry WHERE action = $1 AND subject = $2";
            let count = sqlx::query_scalar::<_, i64>(count)
                .bind(action)
                .bind(subject);
            let entries = count.fetch_one(&self.store).await.unwrap();
            assert_eq!(entries, 1, "{action} {subject}");
        }
        assert_eq!(self.under(2).await, self.values());
        self.assert_reads_back().await;
        let verdict = verify_audit(&self.services, &operator()).await.unwrap();
        assert_eq!(verdict.problems, Vec::<String>::new());
    }

    /// Every value says what it said, and nothing else of its row was touched.
    pub async fn assert_reads_back(&self) {
        self.services.client.keyring_changed(&phi());
        let rows = sqlx::query("SELECT id, ssn, notes, updated_at FROM patients ORDER BY id");
        let rows = rows.fetch_all(&self.source).await.unwrap();
        assert_eq!(rows.len() as i64, self.patients);
        for row in rows {
            let id: i64 = row.get("id");
            let sealed: Vec<u8> = row.get("ssn");
            assert_eq!(self.open("ssn", id, &sealed).await, ssn(id));
            let sealed: Option<String> = row.get("notes");
            assert_eq!(sealed.is_none(), id % 7 == 0);
            if let Some(sealed) = sealed {
                let sealed = decode_base64(&sealed).unwrap();
                assert_eq!(self.open("notes", id, &sealed).await, notes(id));
            }
            assert_eq!(row.get::<String, _>("updated_at"), "2024-02-29");
        }
    }
}

/// Host and port of a URL.
pub fn place(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    let (_, rest) = rest.split_once('@').unwrap_or(("", rest));
    rest.split('/').next().unwrap().to_owned()
}

pub fn ssn(id: i64) -> String {
    format!("{:03}-{:02}-{:04}", id % 900, id % 100, id % 10_000)
}

fn notes(id: i64) -> String {
    format!("note {id} ").repeat(usize::try_from(id % 20).unwrap())
}

fn config(alias: &str, policy: Policy) -> String {
    let Policy {
        batch_rows,
        concurrency,
        algorithm,
        retry_attempts,
        grace_period,
        encrypt_lease,
        ..
    } = policy;
    let kms = services::url(services::KMS);
    format!(
        r#"
[kms]
provider = "aws"
master_key = "{alias}"
region = "us-east-1"
endpoint_url = "{kms}"

[[keyring]]
name = "phi"
purpose = "PHI"
algorithm = "{algorithm}"
keyset_max_age = "1s"
grace_period = "{grace_period}"
sweep_every = "1s"
encrypt_lease = "{encrypt_lease}"
batch_rows = {batch_rows}
concurrency = {concurrency}
retry_attempts = {retry_attempts}

[[source]]
name = "clinic"
url = "postgres://nobody@nowhere/clinic"
[[source.table]]
name = "patients"
relation = "public.patients"
columns = {{ ssn = {{ keyring = "phi", bind = "row" }}, notes = {{ keyring = "phi", bind = "row" }} }}
[[source.table]]
name = "visits"
relation = "visits"
columns = {{ finding = {{ keyring = "phi", bind = ["uuid"] }} }}
"#
    )
}

async fn operators([store, source]: &[String; 2], alias: &str) -> Services {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .endpoint_url(services::url(services::KMS))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let kms = AwsKms::with_sdk_config(&sdk, alias.parse().unwrap());
    kms.ensure_master_key().await.unwrap();
    let store = Store::connect(store).await.unwrap();
    let sources = HashMap::from([("clinic".to_owned(), source.clone().into())]);
    Services::new(store, Arc::new(kms), operator()).with_source_urls(sources)
}

/// Whether programs are of a time when keys were backed up.
fn knows_backups(programs: &Path) -> bool {
    let asked = Command::new(programs.join("rekey"))
        .args(["backups", "--help"])
        .output();
    asked.unwrap().status.success()
}
