//! A pooler before the store and the source: what it may be, and how long a command waits for it.

use std::time::{Duration, Instant};

use rekey_testkit::{PoolMode, Pooler};
use rekey_tests::roles::{APPLICATION, Database, OWNER, run};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    command_line::{Answer, Desk},
    rotations::waits::Works,
};

/// A desk whose store and whose source are behind poolers of their own.
struct Behind {
    desk: Desk,
    store: Pooler,
    source: Pooler,
    databases: [Database; 2],
}

impl Behind {
    async fn poolers(mode_of_store: PoolMode, mode_of_source: PoolMode) -> Self {
        Self::poolers_of(4, mode_of_store, mode_of_source).await
    }

    async fn poolers_of(
        connections: u32,
        mode_of_store: PoolMode,
        mode_of_source: PoolMode,
    ) -> Self {
        let databases = [
            Database::create(OWNER).await,
            Database::create(APPLICATION).await,
        ];
        let table = "CREATE TABLE patients (id integer PRIMARY KEY, ssn bytea)";
        run(&databases[1].pool_as(APPLICATION).await, table).await;
        let behind = Self {
            desk: Desk::new(),
            store: Pooler::before(&databases[0].url_as(OWNER), mode_of_store, connections).unwrap(),
            source: Pooler::before(
                &databases[1].url_as(APPLICATION),
                mode_of_source,
                connections,
            )
            .unwrap(),
            databases,
        };
        behind.desk.configure(&format!(
            "backup = \"off\"\n[store]\nurl = \"{}\"\nconnections = 3\n[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n\
             grace_period = \"1s\"\nencrypt_lease = \"1s\"\nkeyset_max_age = \"1s\"\n\
             [[source]]\nname = \"clinic\"\nurl = \"{}\"\nlimits = {{ connections = 3 }}\n\
             [[source.table]]\nname = \"patients\"\ncolumns = {{ ssn = {{ keyring = \"phi\", bind = \"row\" }} }}\n",
            behind.store.url(),
            behind.source.url()
        ));
        behind
    }

    /// What a command answers, and how long that took.
    fn rekey(&self, arguments: &[&str], input: &str) -> (Answer, Duration) {
        let began = Instant::now();
        let answer = self.desk.rekey(arguments, input.as_bytes());
        (answer, began.elapsed())
    }

    fn done(&self, arguments: &[&str], input: &str) -> String {
        let (answer, _) = self.rekey(arguments, input);
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.stderr);
        answer.stdout
    }
}

/// A session of somebody else's at a pooler.
async fn hold(pooler: &Pooler) -> PgConnection {
    let options: PgConnectOptions = pooler.url().parse().unwrap();
    let options = options.extra_float_digits(None);
    let mut held = PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("SELECT 1").execute(&mut held).await.unwrap();
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_is_not_in_session_mode_is_a_wrong_configuration_and_its_cure_is_said() {
    use PoolMode::{Session, Statement, Transaction};
    for (store, source, command) in [
        (Transaction, Session, "init"),
        (Statement, Session, "init"),
        (Session, Transaction, "apply"),
        (Session, Statement, "apply"),
    ] {
        let behind = Behind::poolers(store, source).await;
        if command == "apply" {
            // The store is made before the source is looked at.
            assert_ne!(behind.rekey(&["init"], "").0.code, 0);
        }
        let (answer, took) = behind.rekey(&[command], "");
        let said = &answer.stderr;
        assert_eq!(answer.code, 2, "{store:?} {source:?}: {said}");
        assert!(said.contains("pool_mode = session"), "{said}");
        assert!(!said.contains("only-in-tests"), "{said}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_poolers_with_few_sessions_a_keyring_rotates_while_people_look() {
    // Three of the workers, and at the store, which is a source too, three more and one that listens; three while
    // somebody counts; two and one of who looks.
    let behind = Behind::poolers_of(13, PoolMode::Session, PoolMode::Session).await;
    behind.done(&["init"], "");
    let clinic = behind.databases[1].pool_as(APPLICATION).await;
    for id in 1..=20 {
        let place = ["encrypt", "--column", "clinic.patients.ssn", "--bind"];
        let bind = id.to_string();
        let sealed = behind.done(&[&place[..], &[&bind]].concat(), "123-45-6789");
        let insert = format!(
            "INSERT INTO patients VALUES ({id}, decode('{}', 'base64'))",
            sealed.trim()
        );
        run(&clinic, &insert).await;
    }
    let works = Works::start(&behind.desk);
    behind.done(&["rotate", "phi", "--wait", "--timeout", "90s"], "");
    behind.done(&["status"], "");
    behind.done(&["columns", "check"], "");
    behind.done(&["census"], "");
    drop(works);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_waits_long_for_a_pooler_that_others_have_used_up() {
    let behind = Behind::poolers_of(8, PoolMode::Session, PoolMode::Session).await;
    behind.done(&["init"], "");
    for (pooler, database, commands) in [
        (
            &behind.source,
            behind.databases[1].name(),
            &[&["columns", "check"][..], &["census"]][..],
        ),
        (
            &behind.store,
            behind.databases[0].name(),
            &[
                &["status"],
                &["keys", "list"],
                &["rotations", "list"],
                &["rotate", "phi"],
            ],
        ),
    ] {
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(hold(pooler).await);
        }
        for command in commands {
            let (answer, took) = behind.rekey(command, "");
            let said = format!("{}{}", answer.stdout, answer.stderr);
            assert!(
                took < Duration::from_secs(20),
                "{command:?} took {took:?}: {said}"
            );
            assert_ne!(answer.code, 0, "{command:?}: {said}");
            assert!(said.contains(database), "{command:?}: {said}");
            assert!(said.contains("at 127.0.0.1:"), "{command:?}: {said}");
            assert!(
                said.contains("in time (10 s") || said.contains("within 5 s"),
                "{command:?}: {said}"
            );
            assert!(!said.contains("only-in-tests"), "{command:?}: {said}");
        }
    }
}
