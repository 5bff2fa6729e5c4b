//! Keyrings whose algorithm changes: new keys have the new one, values move with the next rotation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use rekey_domain::{Algorithm, Found, KeyState, KeyringName, KeyringPolicy, RotationState, Timing};
use rekey_operations::{RotationView, Services, requested_rotation, verify_audit};
use tokio::task::JoinHandle;

use rekey_tests::{
    cluster::{self, Cluster, Policy},
    support::{self, Deployment, Engine, operator, phi, short, until},
};

/// There and back; each with the version that it makes primary. The version before it was the
/// standby of the other algorithm.
const MOVES: [(Algorithm, u32); 2] = [(Algorithm::Aes256Gcm, 3), (Algorithm::Aes256Cbc, 5)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_moves_from_cbc_to_gcm_and_back_while_the_application_writes() {
    let clinic = Deployment::of_algorithm(300, Algorithm::Aes256Cbc, short()).await;
    let clinic = Arc::new(clinic);
    assert_eq!(lengths(&clinic).await, [ssn_length(Algorithm::Aes256Cbc)]);
    assert!(
        clinic
            .apply_algorithm(Algorithm::Aes256Cbc)
            .await
            .is_empty()
    );
    let engine = Engine::start(&clinic.services);
    let writer = Writer::start(&clinic);
    for (algorithm, version) in MOVES {
        for keyring in keyrings() {
            standby(&clinic, &keyring, version - 1).await;
        }
        let changes = clinic.apply_algorithm(algorithm).await;
        let said = changes.iter().find(|one| one.subject == "keyring phi");
        assert!(said.unwrap().change.contains(&format!("-> {algorithm};")));
        for keyring in keyrings() {
            let view = rotates(&clinic, &keyring).await;
            let target = view.target.unwrap();
            assert_eq!(target.version, version, "{keyring}");
            assert_eq!(view.quarantined, 0, "{keyring}");
        }
        let key = clinic.key_id(&phi(), version).await;
        assert_eq!(clinic.under(Found::Key(key)).await, clinic.values());
        assert_eq!(lengths(&clinic).await, [ssn_length(algorithm)]);
        let retired = format!("phi/{}", version - 1);
        assert_eq!(clinic.audited("key.retired", &retired).await, 1);
        assert_eq!(clinic.audited("key.activated", &retired).await, 0);
    }
    assert!(writer.stop().await > 20);
    engine.stop().await;
    clinic.assert_reads_back().await;
    let verdict = verify_audit(&clinic.services, &operator()).await.unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new());
    assert_eq!(clinic.count("SELECT count(*) FROM dead_letter").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_has_not_switched_waits_for_a_standby_of_the_new_algorithm() {
    use KeyState::{Active, Destroying, Inactive, Pending};
    let policy = KeyringPolicy {
        timing: Timing {
            keyset_max_age: Duration::from_secs(3),
            ..short().timing
        },
        ..short()
    };
    let clinic = Deployment::of_algorithm(60, Algorithm::Aes256Cbc, policy).await;
    let engine = Engine::start(&clinic.services);
    clinic.rotate(&phi()).await;
    let distributing = clinic.reaches(&phi(), RotationState::Distributing).await;
    assert_eq!(distributing.target.map(|key| key.version), Some(2));
    clinic.apply_algorithm(Algorithm::Aes256Gcm).await;
    let completed = clinic.completes().await;
    standby(&clinic, &phi(), 4).await;
    engine.stop().await;

    assert_eq!(completed.id, distributing.id);
    assert_eq!(completed.target.map(|key| key.version), Some(3));
    let keys = clinic.keys(&phi()).await;
    let states: Vec<_> = keys.iter().map(|key| key.state).collect();
    assert_eq!(states, [Inactive, Destroying, Active, Pending]);
    assert_eq!(clinic.audited("key.activated", "phi/2").await, 0);
    assert_eq!(lengths(&clinic).await, [ssn_length(Algorithm::Aes256Gcm)]);
    clinic.assert_reads_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_on_postgresql_move_every_value_from_cbc_to_gcm_and_back() {
    let policy = Policy {
        algorithm: Algorithm::Aes256Cbc,
        ..Policy::default()
    };
    let cluster = Arc::new(Cluster::of(1_000, policy).await);
    let workers = cluster.start_all(2);
    let writer = Writer::start(&cluster);
    for (algorithm, version) in MOVES {
        let standby = format!("phi/{}", version - 1);
        until("a standby", async || {
            let keys = cluster.rekey(&["keys", "list"]);
            let line = keys.lines().find(|line| line.starts_with(&standby))?;
            line.contains("PENDING").then_some(())
        })
        .await;
        let said = cluster.apply_algorithm(algorithm);
        assert!(said.contains(&format!("-> {algorithm};")), "{said}");
        let event = cluster.rotate().await;
        let view = completed(&cluster.services, &event).await;
        assert_eq!(view.target.map(|key| key.version), Some(version));
        assert_eq!(view.quarantined, 0);
        assert_eq!(cluster.under(version).await, cluster.values());
        let lengths = "SELECT DISTINCT length(ssn) FROM patients";
        let lengths: Vec<i32> = sqlx::query_scalar(lengths)
            .fetch_all(&cluster.source)
            .await
            .unwrap();
        assert_eq!(lengths.as_slice(), [ssn_length(algorithm) as i32]);
        let keys = cluster.rekey(&["keys", "show", &format!("phi/{version}")]);
        assert!(keys.contains(&algorithm.to_string()), "{keys}");
    }
    assert!(writer.stop().await > 20);
    for worker in workers {
        worker.terminate().await;
    }
    cluster.assert_reads_back().await;
    assert_eq!(cluster.count("SELECT count(*) FROM dead_letter").await, 0);
}

/// Bytes of a stored social security number.
fn ssn_length(algorithm: Algorithm) -> i64 {
    match algorithm {
        Algorithm::Aes256Gcm => 5 + 12 + 11 + 16,
        Algorithm::Aes256Cbc => 5 + 16 + 16 + 32,
        Algorithm::Ed25519 => unreachable!("it encrypts nothing"),
    }
}

async fn lengths(clinic: &Deployment) -> Vec<i64> {
    sqlx::query_scalar("SELECT DISTINCT length(ssn) FROM patients")
        .fetch_all(&clinic.source)
        .await
        .unwrap()
}

/// Those that have something to move.
fn keyrings() -> [KeyringName; 2] {
    [phi(), "audit".parse().unwrap()]
}

async fn standby(clinic: &Deployment, keyring: &KeyringName, version: u32) {
    until("a standby", async || {
        let keys = clinic.keys(keyring).await;
        let key = keys.into_iter().find(|key| key.key.version == version)?;
        (key.state == KeyState::Pending).then_some(())
    })
    .await;
}

async fn rotates(clinic: &Deployment, keyring: &KeyringName) -> RotationView {
    let event = clinic.rotate(keyring).await;
    completed(&clinic.services, &event).await
}

/// The rotation that a request led to, once it is over.
async fn completed(services: &Services, event: &str) -> RotationView {
    until("a completed rotation", async || {
        let view = requested_rotation(services, event, &operator())
            .await
            .unwrap()?;
        assert_eq!((&view.failure, &view.paused_because), (&None, &None));
        (view.state == RotationState::Completed).then_some(view)
    })
    .await
}

/// What an application has: it writes one row after another, under whatever key is primary.
trait Application: Send + Sync + 'static {
    fn write(&self, id: i64) -> impl Future<Output = ()> + Send;
}

impl Application for Deployment {
    async fn write(&self, id: i64) {
        let client = &self.services.client;
        let (bind, value) = ([id.into()], support::ssn(id));
        let sealed = client.encrypt("clinic.patients.ssn", &bind, value.as_bytes());
        let update = sqlx::query("UPDATE patients SET ssn = ? WHERE id = ?");
        let update = update.bind(sealed.await.unwrap()).bind(id);
        update.execute(&self.source).await.unwrap();
    }
}

impl Application for Cluster {
    async fn write(&self, id: i64) {
        let sealed = self.seal("ssn", id, &cluster::ssn(id)).await;
        let update = sqlx::query("UPDATE patients SET ssn = $1 WHERE id = $2");
        let update = update.bind(sealed).bind(id);
        update.execute(&self.source).await.unwrap();
    }
}

/// Writes what is there anew, until it is stopped.
struct Writer {
    stop: Arc<AtomicBool>,
    writes: JoinHandle<u32>,
}

impl Writer {
    fn start(application: &Arc<impl Application>) -> Self {
        let (application, stop) = (application.clone(), Arc::new(AtomicBool::new(false)));
        let told = stop.clone();
        let writes = tokio::spawn(async move {
            let mut writes = 0;
            while !told.load(SeqCst) {
                application.write(rand::random_range(1..=60)).await;
                writes += 1;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            writes
        });
        Self { stop, writes }
    }

    /// How many there were.
    async fn stop(self) -> u32 {
        self.stop.store(true, SeqCst);
        self.writes.await.unwrap()
    }
}
