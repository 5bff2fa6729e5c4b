//! The keys of a keyring as they were last asked for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rekey_domain::{KeyId, KeyringName};
use tokio::time::timeout;

use crate::{
    ClientError, KeyCache, Keyset, KeysetKey, LeaseError, Leases, locked::locked,
    monotonic::Monotonic,
};

/// No set is used for longer, whatever it says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Answers overtaken by a change of the keyring before the call is given up.
const ATTEMPTS: usize = 5;
/// How long a new set is waited for while the one held decrypts.
const PATIENCE: Duration = Duration::from_secs(1);
/// A set that could not be had is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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
    /// The last set that was brought.
    set: Option<Set>,
    /// Requests begun.
    requests: u64,
    /// Counts changes, so that an answer that was requested before one is not used.
    changes: u64,
    /// Until then no other set is asked for, as the last request failed.
    ask_at: Option<Instant>,
}

/// A set, and how long it may be used. Only another set takes a key away: a set that cannot be had turns off nobody's
/// data, whatever has changed.
#[derive(Clone, Copy)]
struct Set {
    /// Which request brought it.
    request: u64,
    /// As new as its keyring.
    fresh_until: Instant,
    /// Decrypts where no other can be had.
    decrypts_until: Instant,
}

/// A key, and whether the set that has it is stale: then no other could be had.
pub(crate) struct HeldKey {
    pub(crate) key: Arc<KeysetKey>,
    pub(crate) is_stale: bool,
}

/// What a set says of a key.
enum Answer {
    Key(HeldKey),
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
        let now = self.time.now();
        let mut held = locked(&self.held);
        held.changes += 1;
        held.ask_at = None;
        if let Some(set) = &mut held.set {
            set.fresh_until = set.fresh_until.min(now);
        }
    }

    /// The key `id`. The set is asked for again when it is too old, or does not have the key; keys
    /// that are gone from it are forgotten by `cache`. Where no other can be had, the last one goes on.
    ///
    /// # Errors
    /// [`ClientError::UnknownKey`] if a new set does not have it either.
    pub(crate) async fn key(
        &self,
        leases: &dyn Leases,
        cache: &KeyCache,
        id: KeyId,
    ) -> Result<HeldKey, ClientError> {
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
            match self.ask(leases, asked).await {
                Ok(keyset) => {
                    let fresh_for = keyset.max_age.min(LONGEST);
                    let set = Set {
                        request,
                        fresh_until: asked + fresh_for,
                        decrypts_until: asked + keyset.decrypts_for.min(LONGEST).max(fresh_for),
                    };
                    self.accept(keyset.keys, set, changes, cache);
                }
                Err(error) => return self.go_on(id, error),
            }
        }
        Err(LeaseError::keeps_changing(&self.keyring).into())
    }

    /// Asks for a set; waits only briefly if the present one would do.
    async fn ask(&self, leases: &dyn Leases, asked: Instant) -> Result<Keyset, LeaseError> {
        let request = leases.keyset(&self.keyring);
        if !locked(&self.held).decrypts(asked) {
            return request.await;
        }
        timeout(PATIENCE, request).await.unwrap_or_else(|_| {
            Err(LeaseError::OutOfReach {
                reason: format!("no key set within {PATIENCE:?}"),
            })
        })
    }

    /// Goes on with the set held, while it decrypts, and asks again after a while.
    fn go_on(&self, id: KeyId, error: LeaseError) -> Result<HeldKey, ClientError> {
        let now = self.time.now();
        let mut held = locked(&self.held);
        if !error.is_retryable() || !held.decrypts(now) {
            return Err(error.into());
        }
        held.ask_at = Some(now + ASK_AGAIN);
        let Some(key) = held.keys.get(&id) else {
            return Err(error.into());
        };
        tracing::warn!(keyring = %self.keyring, %error, "no new key set; the last one goes on decrypting");
        Ok(HeldKey {
            key: Arc::clone(key),
            is_stale: true,
        })
    }

    /// What the set says of a key. `before` counts the requests begun before the question; a set of a later request
    /// answers it in any case.
    fn find(&self, id: KeyId, before: u64) -> Answer {
        let now = self.time.now();
        let held = locked(&self.held);
        let Some(set) = held.set else {
            return Answer::AskAgain;
        };
        let is_late = set.request > before;
        let is_stale = !is_late && now >= set.fresh_until;
        let waits = held.ask_at.is_some_and(|at| now < at) && held.decrypts(now);
        if is_stale && !waits {
            return Answer::AskAgain;
        }
        match held.keys.get(&id) {
            Some(key) => Answer::Key(HeldKey {
                key: Arc::clone(key),
                is_stale,
            }),
            None if is_late => Answer::NoSuchKey,
            None => Answer::AskAgain,
        }
    }

    /// Keeps the set, unless the keyring changed meanwhile. Keys that are gone are forgotten.
    fn accept(&self, keys: Vec<KeysetKey>, set: Set, changes: u64, cache: &KeyCache) {
        let mut held = locked(&self.held);
        if held.changes != changes {
            return;
        }
        let keys = keys.into_iter().map(|key| (key.id, Arc::new(key)));
        let before = std::mem::replace(&mut held.keys, keys.collect());
        held.set = Some(set);
        held.ask_at = None;
        let gone = before.into_keys().filter(|id| !held.keys.contains_key(id));
        cache.forget(&gone.collect::<Vec<_>>());
        cache.keep(held.keys.keys().copied(), set.decrypts_until);
    }
}

impl Held {
    fn decrypts(&self, now: Instant) -> bool {
        self.set.is_some_and(|set| now < set.decrypts_until)
    }
}
