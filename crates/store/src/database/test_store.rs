//! A store of its own on each kind of database, for the tests beside each module.

use std::ops::Deref;

use chrono::{DateTime, Utc};
use rekey_domain::{Algorithm, KeyId, KeyringPolicy, Purpose};
use rekey_testkit::TestDatabase;
use sea_orm::{ConnectionTrait, Statement};
use tempfile::TempDir;

use crate::{
    Store, StoreError, Unit,
    keys::{
        NewKey,
        keyrings::{self, Keyring},
    },
};

/// A kind of database. What a test says of stores in general, it says of each: `for kind in Kind::BOTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::Sqlite, Self::Postgres];
}

/// A migrated store, and the database that goes with it.
pub(crate) struct TestStore {
    store: Store,
    database: Database,
}

enum Database {
    Sqlite(TempDir),
    Postgres(TestDatabase),
}

impl TestStore {
    pub async fn new(kind: Kind) -> Self {
        let test = Self::unmigrated(kind).await;
        test.migrate().await.unwrap();
        test
    }

    #[expect(
        clippy::print_stdout,
        reason = "a test that fails shows which database it was on"
    )]
    pub async fn unmigrated(kind: Kind) -> Self {
        println!("on {kind:?}:");
        let database = match kind {
            Kind::Sqlite => Database::Sqlite(tempfile::tempdir().unwrap()),
            Kind::Postgres => Database::Postgres(TestDatabase::create().await),
        };
        let store = Store::connect(&database.url()).await.unwrap();
        Self { store, database }
    }

    /// The store as another process has it: connections and locks of its own.
    pub async fn another(&self) -> Store {
        Store::connect(&self.database.url()).await.unwrap()
    }

    pub async fn unit(&self) -> Unit {
        self.begin().await.unwrap()
    }

    pub async fn keyring(&self, name: &str) -> Keyring {
        let unit = self.unit().await;
        let (name, policy) = (name.parse().unwrap(), KeyringPolicy::default());
        let keyring = keyrings::create(&unit, &name, Purpose::Phi, Algorithm::default(), &policy)
            .await
            .unwrap();
        unit.commit().await.unwrap();
        keyring
    }

    /// How many sessions on the database listen for notifications.
    pub async fn listeners(&self) -> i64 {
        let count = "SELECT count(*) AS n FROM pg_stat_activity \
                     WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        let count = Statement::from_string(sea_orm::DbBackend::Postgres, count);
        let row = self.db().query_one_raw(count).await.unwrap().unwrap();
        row.try_get("", "n").unwrap()
    }
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Database {
    fn url(&self) -> String {
        match self {
            Self::Sqlite(dir) => {
                let file = dir.path().join("store.db");
                format!("sqlite://{}?mode=rwc", file.display())
            }
            Self::Postgres(database) => database.url(),
        }
    }
}

/// A time that rows and events are dated with.
pub(crate) fn now() -> DateTime<Utc> {
    "2026-03-29T01:30:00Z".parse().unwrap()
}

/// A key that nothing can be decrypted with.
pub(crate) fn new_key(id: u32) -> NewKey {
    NewKey {
        id: KeyId::new(id),
        algorithm: Algorithm::Aes256Gcm,
        wrapped: vec![0; 60],
        master_key: "master-1".to_owned(),
        check_value: vec![0; 16],
        public_key: None,
    }
}

/// The failed one of two outcomes; exactly one must fail.
pub(crate) fn loser(outcomes: (Result<(), StoreError>, Result<(), StoreError>)) -> StoreError {
    match outcomes {
        (Ok(()), Err(late)) | (Err(late), Ok(())) => late,
        both => panic!("one of two should win: {both:?}"),
    }
}
