//! What a crash of the server takes back: commits that nobody waited for. What was flushed it cannot.

use rekey_domain::Found;
use rekey_sources::{SourceError, WriteOutcome};
use rekey_testkit::PrivatePostgres;

use super::{
    fixture::{
        Fixture, NEW, OLD, census_of, ciphertext, in_a_minute, patient, read_all, ssn, target,
        write,
    },
    postgres_fixture::{PostgresFixture, moves},
};

/// Only a commit that waits for it brings the WAL to the disk: a crash comes before all else would.
const LAZY: &[&str] = &["wal_writer_delay=10s", "autovacuum=off"];
/// Two transactions of a write.
const ROWS: i64 = 600;

struct Server(PrivatePostgres);

impl Server {
    fn start(settings: &'static [&'static str]) -> Self {
        Self(PrivatePostgres::start_with(settings).unwrap())
    }

    /// A clinic whose patients stand under the old key, on the disk.
    async fn clinic(&self) -> PostgresFixture {
        let clinic = PostgresFixture::at(&self.0.url()).await;
        let patients: Vec<_> = (1..=ROWS).map(|id| patient(id, OLD)).collect();
        clinic.insert(&patients).await;
        clinic.execute("CHECKPOINT").await;
        clinic
    }

    /// What a census counts after the server was killed.
    async fn counted_after_a_crash(&mut self, clinic: &PostgresFixture) -> Vec<(Found, u64)> {
        self.0.kill();
        self.0.restart().unwrap();
        let source = rekey_sources::open(&clinic.database.url()).await.unwrap();
        census_of(&source, "patients", &ssn()).await.unwrap()
    }
}

/// The last transaction of the write finds nothing to do, and PostgreSQL waits for none of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_before_a_last_transaction_that_wrote_none_outlive_a_crash() {
    let mut server = Server::start(LAZY);
    let clinic = server.clinic().await;
    let (_, updates) = moves(clinic.source()).await;
    let theirs = "UPDATE patients SET ssn = NULL WHERE id > 500";
    clinic.execute(theirs).await;
    let outcomes = write(clinic.source(), &updates).await;
    let written = |outcome: &&WriteOutcome| **outcome == WriteOutcome::Written;
    assert_eq!(outcomes.iter().filter(written).count(), 500);
    clinic.source().flush().await.unwrap();
    let counted = server.counted_after_a_crash(&clinic).await;
    assert_eq!(counted, [(Found::Key(NEW), 500)]);
}

/// It failed midway, and the next attempt finds nothing left to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_an_attempt_before_wrote_outlive_a_crash() {
    let mut server = Server::start(LAZY);
    let clinic = server.clinic().await;
    let (query, updates) = moves(clinic.source()).await;
    let stubborn = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE SQLSTATE ''P0001''; END'; \
         CREATE TRIGGER refuse BEFORE UPDATE OF ssn ON patients FOR EACH ROW WHEN (old.id > 500) EXECUTE FUNCTION refuse()";
    clinic.execute(stubborn).await;
    let first = rekey_sources::open(&clinic.database.url()).await.unwrap();
    let deadline = in_a_minute(&first).await;
    let failed = first.write(&target(&query), &updates, deadline).await;
    assert!(matches!(failed, Err(SourceError::Refused { .. })));
    let theirs = "BEGIN; SET LOCAL synchronous_commit = off; DROP TRIGGER refuse ON patients; \
         UPDATE patients SET ssn = NULL WHERE id > 500; COMMIT";
    clinic.execute(theirs).await;
    assert_eq!(read_all(clinic.source(), &query).await, []);
    clinic.source().flush().await.unwrap();
    let counted = server.counted_after_a_crash(&clinic).await;
    assert_eq!(counted, [(Found::Key(NEW), 500)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_census_counted_outlives_a_crash_whoever_wrote_it_and_however_the_database_is_set() {
    let mut server = Server::start(&[
        "wal_writer_delay=10s",
        "autovacuum=off",
        "synchronous_commit=off",
    ]);
    let clinic = server.clinic().await;
    let new = ciphertext(NEW, 7, 60);
    let theirs = format!("UPDATE patients SET ssn = {}", clinic.literal(&new));
    clinic.execute(&theirs).await;
    let expected = [(Found::Key(NEW), ROWS.unsigned_abs())];
    let counted = census_of(clinic.source(), "patients", &ssn()).await;
    assert_eq!(counted.unwrap(), expected);
    assert_eq!(server.counted_after_a_crash(&clinic).await, expected);
}
