//! A store in a directory of its own, for the tests beside each module.

use std::ops::Deref;

use chrono::{DateTime, Utc};
use rekey_domain::{Algorithm, KeyId, KeyringPolicy, Purpose};
use tempfile::TempDir;

use crate::{
    Store, Unit,
    keyrings::{self, Keyring},
    keys::NewKey,
};

/// A migrated store, and the directory that goes with it.
pub(crate) struct TestStore {
    store: Store,
    dir: TempDir,
}

impl TestStore {
    pub async fn new() -> Self {
        let test = Self::unmigrated().await;
        test.migrate().await.unwrap();
        test
    }

    pub async fn unmigrated() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = connect(&dir).await;
        Self { store, dir }
    }

    /// The store as another process has it: connections and locks of its own.
    pub async fn another(&self) -> Store {
        connect(&self.dir).await
    }

    pub async fn unit(&self) -> Unit {
        self.begin(now()).await.unwrap()
    }

    pub async fn keyring(&self, name: &str) -> Keyring {
        let unit = self.unit().await;
        let (name, policy) = (name.parse().unwrap(), KeyringPolicy::default());
        let keyring = keyrings::create(&unit, &name, Purpose::Phi, &policy)
            .await
            .unwrap();
        unit.commit().await.unwrap();
        keyring
    }
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

async fn connect(dir: &TempDir) -> Store {
    let file = dir.path().join("store.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    Store::connect(&url).await.unwrap()
}

/// A time that units are stamped with.
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
    }
}
