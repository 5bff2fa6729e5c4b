//! The keys of a keyring as they were last asked for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rekey_domain::{KeyId, KeyringName};

use crate::{
    ClientError, KeyCache, KeysetKey, LeaseError, Leases, locked::locked, monotonic::Monotonic,
};

/// No set is used for longer, whatever it says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Answers overtaken by a change of the keyring before the call is given up.
const ATTEMPTS: usize = 5;

/// One keyring's key set.
pub(crate) struct HeldKeyset {
    keyring: KeyringName,
    time: Monotonic,
    /// One request at a time: whoever waits finds a fresh set.
    asking: tokio::sync::Mutex<()>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: HashMap<KeyId, Arc<KeysetKey>>,
    /// Which request brought the set, and when it is too old; none: it must be asked for again.
    set: Option<(u64, Instant)>,
    /// Requests begun.
    requests: u64,
    /// Counts changes, so that an answer that one of them overtook is not used.
    changes: u64,
}

/// What a set says of a key.
enum Answer {
    Key(Arc<KeysetKey>),
    /// It is not in the set, and the set was asked for after the question was put.
    NoSuchKey,
    AskAgain,
}

impl HeldKeyset {
    /// No set yet.
    pub(crate) fn new(keyring: KeyringName, time: Monotonic) -> Self {
        Self {
            keyring,
            time,
            asking: tokio::sync::Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// The set must be asked for again before its next use.
    pub(crate) fn changed(&self) {
        let mut held = locked(&self.held);
        held.changes += 1;
        held.set = None;
    }

    /// The key `id`. The set is asked for again when it is too old, or does not have the key; keys
    /// that are gone from it are forgotten by `cache`.
    ///
    /// # Errors
    /// [`ClientError::UnknownKey`] if a new set does not have it either.
    pub(crate) async fn key(
        &self,
        leases: &dyn Leases,
        cache: &KeyCache,
        id: KeyId,
    ) -> Result<Arc<KeysetKey>, ClientError> {
        let before = locked(&self.held).requests;
        if let Answer::Key(key) = self.find(id, before) {
            return Ok(key);
        }
        let _turn = self.asking.lock().await;
        for _ in 0..=ATTEMPTS {
            match self.find(id, before) {
                Answer::Key(key) => return Ok(key),
                Answer::NoSuchKey => {
                    return Err(ClientError::UnknownKey {
                        key: id,
                        keyring: self.keyring.clone(),
                    });
                }
                Answer::AskAgain => {}
            }
            let asked = self.time.now();
            let (request, changes) = {
                let mut held = locked(&self.held);
                held.requests += 1;
                (held.requests, held.changes)
            };
            let keyset = leases.keyset(&self.keyring).await?;
            let ends = asked + keyset.max_age.min(LONGEST);
            cache.forget(&self.accept(keyset.keys, (request, ends), changes));
        }
        Err(LeaseError::keeps_changing(&self.keyring).into())
    }

    /// What the set says; `before` are the requests begun before the question was put. A set asked
    /// for later answers it in any case.
    fn find(&self, id: KeyId, before: u64) -> Answer {
        let now = self.time.now();
        let held = locked(&self.held);
        let usable = |(request, ends): &(u64, Instant)| *request > before || now < *ends;
        let Some((request, _)) = held.set.filter(usable) else {
            return Answer::AskAgain;
        };
        match held.keys.get(&id) {
            Some(key) => Answer::Key(Arc::clone(key)),
            None if request > before => Answer::NoSuchKey,
            None => Answer::AskAgain,
        }
    }

    /// Keeps the set, unless the keyring changed meanwhile, and returns the keys that are gone.
    fn accept(&self, keys: Vec<KeysetKey>, set: (u64, Instant), changes: u64) -> Vec<KeyId> {
        let mut held = locked(&self.held);
        if held.changes != changes {
            return Vec::new();
        }
        let keys = keys.into_iter().map(|key| (key.id, Arc::new(key)));
        let before = std::mem::replace(&mut held.keys, keys.collect());
        held.set = Some(set);
        let gone = before.into_keys().filter(|id| !held.keys.contains_key(id));
        gone.collect()
    }
}
