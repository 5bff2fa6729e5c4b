//! Encrypting and decrypting values of protected columns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rekey_domain::{BindValue, ColumnSpec, KeyId, KeyringName};
use rekey_envelope::{Ciphertext, DataKey, Zeroizing, associated_data};
use rekey_kms::Kms;
use tokio::time::timeout;

use crate::{
    ClientError, KeyCache, LeaseError, Leases, encrypt_right::EncryptRight, keysets::HeldKeyset,
    locked::locked, monotonic::Monotonic, tally::Tally, usage::Usage,
};

/// Lost races with a change of the keyring before an encryption is given up.
const ATTEMPTS: usize = 5;
/// How long to wait for a column's answer while the known one would do.
const PATIENCE: Duration = Duration::from_secs(1);

/// Encrypts and decrypts values of protected columns. Cheap to clone.
///
/// Whoever starts one calls [`keyring_changed`](Self::keyring_changed) on every such message, and
/// [`flush`](Self::flush) from time to time and at the end: uses that were not flushed are lost.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    leases: Arc<dyn Leases>,
    time: Monotonic,
    keys: KeyCache,
    usage: Usage,
    tally: Tally,
    columns: Mutex<HashMap<String, Column>>,
    keyrings: Mutex<HashMap<KeyringName, Arc<Keyring>>>,
}

/// What is held of a column.
#[derive(Clone)]
struct Column {
    spec: Arc<ColumnSpec>,
    /// To be asked for again.
    is_stale: bool,
    /// Not to be asked for before this, as the last request failed.
    ask_at: Option<Instant>,
}

/// What is held of a keyring.
struct Keyring {
    right: EncryptRight,
    keyset: HeldKeyset,
}

impl Client {
    /// A client that gets its keys from `leases` and unwraps them with `kms`.
    pub fn new(leases: Arc<dyn Leases>, kms: Arc<dyn Kms>) -> Self {
        Self::in_time(leases, kms, Monotonic::system())
    }

    /// The same, counting in `time`.
    pub(crate) fn in_time(leases: Arc<dyn Leases>, kms: Arc<dyn Kms>, time: Monotonic) -> Self {
        let inner = Inner {
            leases,
            keys: KeyCache::new(kms).in_time(time.clone()),
            time,
            usage: Usage::default(),
            tally: Tally::default(),
            columns: Mutex::default(),
            keyrings: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Encrypts a value of `column` for the row that `bind` names, and returns the ciphertext's bytes. Each bind value
    /// may be written in any way that its column's type allows (`042`, a UUID in upper case). A column with base64
    /// encoding holds the bytes through `rekey_envelope::encode_base64`.
    ///
    /// # Errors
    /// [`ClientError`]; nothing was encrypted.
    pub async fn encrypt(
        &self,
        column: &str,
        bind: &[BindValue],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        let spec = self.column(column).await?;
        let aad = associated_data(&spec.column_id, &spec.fit_bind(bind)?);
        let key = self.encryption_key(&spec.keyring, 1).await?;
        Ok(key.encrypt(plaintext, &aad)?)
    }

    /// Decrypts a value of `column` that was encrypted for the row that `bind` names.
    ///
    /// # Errors
    /// [`ClientError`]; [`AeadError::NotAuthentic`](rekey_envelope::AeadError::NotAuthentic) if it
    /// is not that column's and row's value.
    pub async fn decrypt(
        &self,
        column: &str,
        bind: &[BindValue],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let spec = self.column(column).await?;
        let aad = associated_data(&spec.column_id, &spec.fit_bind_to_open(bind)?);
        let ciphertext = Ciphertext::parse(ciphertext).map_err(|_| ClientError::NotCiphertext)?;
        let key = self
            .decryption_key(&spec.keyring, ciphertext.key_id())
            .await?;
        let plaintext = key.decrypt(&ciphertext, &aad)?;
        self.decrypted(key.id(), 1);
        Ok(plaintext)
    }

    /// The keyring's primary key with the right to make `count` encryptions under it now: a fresh
    /// encrypt lease and usage drawn. They count as made, and are started before anything is
    /// awaited: later the lease may have ended.
    ///
    /// # Errors
    /// [`ClientError::LeaseEnded`] or [`ClientError::Lease`] when nothing may be encrypted now.
    pub async fn encryption_key(
        &self,
        keyring: &KeyringName,
        count: u64,
    ) -> Result<Arc<DataKey>, ClientError> {
        let Inner {
            leases,
            usage,
            tally,
            ..
        } = &*self.inner;
        let right = &self.keyring(keyring).right;
        let mut compromised = None;
        for _ in 0..ATTEMPTS {
            let id = right.key(&**leases).await?;
            let key = self.decryption_key(keyring, id).await?;
            match usage.draw(&**leases, id, count).await {
                // The key was primary a moment ago; now another key is, or none.
                Err(error @ LeaseError::Compromised { .. }) => {
                    right.end();
                    compromised = Some(error);
                    continue;
                }
                drawn => drawn?,
            }
            // Getting the key and the usage may have taken long: the lease has the last word.
            if right.covers(id) {
                tally.encrypted(id, count);
                return Ok(key);
            }
            usage.give_back(id, count);
        }
        let why = compromised.unwrap_or_else(|| LeaseError::keeps_changing(keyring));
        Err(why.into())
    }

    /// Whether an encryption under `key` may start now, by the lease that is held.
    pub fn may_encrypt(&self, keyring: &KeyringName, key: KeyId) -> bool {
        self.keyring(keyring).right.covers(key)
    }

    /// A key of the keyring by id, asking the leases once more when it is not known. What it
    /// decrypts is counted by [`decrypted`](Self::decrypted).
    ///
    /// # Errors
    /// [`ClientError::UnknownKey`] if the keyring has no such key that may be used.
    pub async fn decryption_key(
        &self,
        keyring: &KeyringName,
        id: KeyId,
    ) -> Result<Arc<DataKey>, ClientError> {
        let Inner { leases, keys, .. } = &*self.inner;
        let held = self.keyring(keyring);
        let found = held.keyset.key(&**leases, keys, id).await?;
        keys.key_for(&found.key, found.is_stale).await
    }

    /// Counts `count` values decrypted with a key from [`decryption_key`](Self::decryption_key),
    /// for the next report.
    pub fn decrypted(&self, key: KeyId, count: u64) {
        self.inner.tally.decrypted(key, count);
    }

    /// Ends encrypt leases, and has key sets and columns asked for again: a `keyring.changed` arrived. If no new ones
    /// can be had, the known ones go on decrypting.
    pub fn keyring_changed(&self, keyring: &KeyringName) {
        let held = self.keyring(keyring);
        held.right.end();
        held.keyset.changed();
        for column in locked(&self.inner.columns).values_mut() {
            if column.spec.keyring == *keyring {
                (column.is_stale, column.ask_at) = (true, None);
            }
        }
    }

    /// The same of every keyring: broadcasts were missed.
    pub fn any_keyring_changed(&self) {
        let keyrings: Vec<_> = locked(&self.inner.keyrings).keys().cloned().collect();
        for keyring in &keyrings {
            self.keyring_changed(keyring);
        }
    }

    /// Reports uses so far, and drops keys that are too old from memory.
    ///
    /// # Errors
    /// [`ClientError::Lease`]; the uses are kept for the next time.
    pub async fn flush(&self) -> Result<(), ClientError> {
        self.inner.keys.forget_old();
        Ok(self.inner.tally.report(&*self.inner.leases).await?)
    }

    async fn column(&self, name: &str) -> Result<Arc<ColumnSpec>, ClientError> {
        let known = locked(&self.inner.columns).get(name).cloned();
        let now = self.inner.time.now();
        let waits = |column: &&Column| !column.is_stale || column.ask_at.is_some_and(|at| now < at);
        if let Some(known) = known.as_ref().filter(waits) {
            return Ok(Arc::clone(&known.spec));
        }
        let asked = self.inner.leases.column(name);
        let asked = match known {
            None => asked.await,
            // Its bind and keyring never change; the rest is checked when the value is opened.
            Some(known) => match timeout(PATIENCE, asked).await {
                Ok(Ok(spec)) => Ok(spec),
                Ok(Err(error)) if !error.is_retryable() => Err(error),
                _ => {
                    let mut columns = locked(&self.inner.columns);
                    let held = columns.entry(name.to_owned()).or_insert(known);
                    held.ask_at = Some(self.inner.time.now() + PATIENCE);
                    return Ok(Arc::clone(&held.spec));
                }
            },
        };
        let spec = Arc::new(asked?);
        let column = Column {
            spec: Arc::clone(&spec),
            is_stale: false,
            ask_at: None,
        };
        locked(&self.inner.columns).insert(name.to_owned(), column);
        Ok(spec)
    }

    fn keyring(&self, name: &KeyringName) -> Arc<Keyring> {
        let mut keyrings = locked(&self.inner.keyrings);
        if let Some(held) = keyrings.get(name) {
            return Arc::clone(held);
        }
        let held = Arc::new(Keyring {
            right: EncryptRight::new(name.clone(), self.inner.time.clone()),
            keyset: HeldKeyset::new(name.clone(), self.inner.time.clone()),
        });
        keyrings.insert(name.clone(), Arc::clone(&held));
        held
    }
}
