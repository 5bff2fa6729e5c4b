//! Data keys unwrapped once and kept for a while, each checked before it is used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rekey_domain::KeyId;
use rekey_envelope::{CheckValue, DataKey};
use rekey_kms::Kms;

use crate::{ClientError, KeysetKey, locked::locked, monotonic::Monotonic};

/// Keys kept unless said otherwise.
const CAPACITY: usize = 1_000;
/// How long a key is kept unless said otherwise.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// Keys that can be unwrapped at once; those that share a lane wait for each other.
const LANES: usize = 16;

/// Keys unwrapped once and cached, each checked against its check value in constant time.
///
/// Holds a limited number of keys. A key that is too old is unwrapped again. It leaves the cache only when its key set
/// would no longer decrypt if the keys' keeper were away, as it may be needed until then. A key that leaves is zeroized
/// when its last user is done.
pub struct KeyCache {
    kms: Arc<dyn Kms>,
    time: Monotonic,
    capacity: usize,
    max_age: Duration,
    /// One unwrapping of a key at a time: whoever waits finds it cached.
    lanes: [tokio::sync::Mutex<()>; LANES],
    cached: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    entries: HashMap<KeyId, Entry>,
    /// Keys that are not dropped for their age.
    kept_until: HashMap<KeyId, Instant>,
    /// Counts clearings, so that a key that was being unwrapped during one is not kept.
    clearings: u64,
}

struct Entry {
    key: Arc<DataKey>,
    check_value: CheckValue,
    unwrapped: Instant,
}

impl KeyCache {
    /// A cache of at most 1,000 keys for at most an hour each, unwrapped by `kms`.
    pub fn new(kms: Arc<dyn Kms>) -> Self {
        Self::with_limits(kms, CAPACITY, MAX_AGE)
    }

    /// A cache of at most `capacity` keys (at least one) for at most `max_age` each.
    pub fn with_limits(kms: Arc<dyn Kms>, capacity: usize, max_age: Duration) -> Self {
        Self {
            kms,
            time: Monotonic::system(),
            capacity: capacity.max(1),
            max_age,
            lanes: Default::default(),
            cached: Mutex::default(),
        }
    }

    /// The same cache, counting ages in `time`.
    pub(crate) fn in_time(self, time: Monotonic) -> Self {
        Self { time, ..self }
    }

    /// The data key, from the cache or unwrapped now.
    ///
    /// # Errors
    /// [`ClientError::Kms`] if it cannot be unwrapped, [`ClientError::WrongKeyMaterial`] if what
    /// was unwrapped is another key; nothing is cached then.
    pub async fn key(&self, key: &KeysetKey) -> Result<Arc<DataKey>, ClientError> {
        self.key_for(key, false).await
    }

    /// The same; for a stale set a cached key of any age will do.
    pub(crate) async fn key_for(
        &self,
        key: &KeysetKey,
        is_stale: bool,
    ) -> Result<Arc<DataKey>, ClientError> {
        if let Some(found) = self.find(key, is_stale) {
            return Ok(found);
        }
        let lane = &self.lanes[key.id.value() as usize % LANES];
        let _turn = lane.lock().await;
        if let Some(found) = self.find(key, is_stale) {
            return Ok(found);
        }
        let clearings = locked(&self.cached).clearings;
        let unwrapped = self.time.now();
        let data_key = Arc::new(self.unwrap(key).await?);
        let entry = Entry {
            key: Arc::clone(&data_key),
            check_value: key.check_value,
            unwrapped,
        };
        self.insert(key.id, entry, clearings);
        Ok(data_key)
    }

    /// Forgets every key.
    pub fn clear(&self) {
        let mut cached = locked(&self.cached);
        cached.clearings += 1;
        cached.entries.clear();
    }

    /// Forgets the keys `ids`.
    pub(crate) fn forget(&self, ids: &[KeyId]) {
        let mut cached = locked(&self.cached);
        for id in ids {
            cached.entries.remove(id);
            cached.kept_until.remove(id);
        }
    }

    /// Keeps the keys `ids` until then, however old they get: the set that has them may go stale.
    pub(crate) fn keep(&self, ids: impl Iterator<Item = KeyId>, until: Instant) {
        let mut cached = locked(&self.cached);
        for id in ids {
            cached.kept_until.insert(id, until);
        }
    }

    /// Forgets every key that is too old.
    pub(crate) fn forget_old(&self) {
        let now = self.time.now();
        let mut cached = locked(&self.cached);
        cached.kept_until.retain(|_, until| now < *until);
        let Cached {
            entries,
            kept_until,
            ..
        } = &mut *cached;
        entries.retain(|id, entry| self.is_young(entry, now) || kept_until.contains_key(id));
    }

    /// A key that was checked against the same check value, and is not too old.
    fn find(&self, key: &KeysetKey, of_any_age: bool) -> Option<Arc<DataKey>> {
        let now = self.time.now();
        let cached = locked(&self.cached);
        let entry = cached.entries.get(&key.id)?;
        // Check values are no secret: this compares what is stored, not what is unwrapped.
        let same = entry.check_value.as_bytes() == key.check_value.as_bytes();
        (same && (of_any_age || self.is_young(entry, now))).then(|| Arc::clone(&entry.key))
    }

    fn is_young(&self, entry: &Entry, now: Instant) -> bool {
        now.saturating_duration_since(entry.unwrapped) < self.max_age
    }

    async fn unwrap(&self, key: &KeysetKey) -> Result<DataKey, ClientError> {
        let wrong = ClientError::WrongKeyMaterial { key: key.id };
        if key.context.key_id != key.id {
            return Err(wrong);
        }
        let material = self.kms.decrypt(&key.wrapped, &key.context).await?;
        if !key.check_value.matches(&material) {
            tracing::error!(key = %key.id, "an unwrapped key does not have its check value");
            return Err(wrong);
        }
        Ok(DataKey::new(key.id, key.algorithm, &material)?)
    }

    fn insert(&self, id: KeyId, entry: Entry, clearings: u64) {
        self.forget_old();
        let mut cached = locked(&self.cached);
        if cached.clearings != clearings {
            return;
        }
        if cached.entries.len() >= self.capacity && !cached.entries.contains_key(&id) {
            let oldest = cached.entries.iter().min_by_key(|(_, e)| e.unwrapped);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                cached.entries.remove(&oldest);
            }
        }
        cached.entries.insert(id, entry);
    }
}
