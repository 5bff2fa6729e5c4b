//! A fake of whoever keeps the keys, in memory, with a clock that is moved by hand.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rekey_domain::{
    Algorithm, Bind, BindType, ColumnSpec, KeyId, KeyState, KeyringName, Purpose, TextEncoding,
    UsageBlock,
};
use rekey_envelope::CheckValue;
use rekey_kms::{EncryptionContext, Kms, LocalKms};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    Client, Keyset, KeysetKey, LeaseError, LeaseGrant, Leases, Use, locked::locked,
    monotonic::Monotonic,
};

pub(super) const COLUMN: &str = "clinic.patients.ssn";
pub(super) const ENCRYPT_LEASE: Duration = Duration::from_secs(300);
pub(super) const MAX_AGE: Duration = Duration::from_secs(60);
pub(super) const DECRYPTS_FOR: Duration = Duration::from_secs(60 * 60);

pub(super) fn keyring() -> KeyringName {
    "phi".parse().unwrap()
}

#[derive(Default)]
pub(super) struct FakeLeases {
    pub(super) keys: Mutex<Vec<KeysetKey>>,
    pub(super) primary: Mutex<Option<KeyId>>,
    pub(super) out_of_reach: AtomicBool,
    pub(super) suspended: AtomicBool,
    pub(super) keyset_requests: AtomicU64,
    pub(super) lease_requests: AtomicU64,
    pub(super) granted: Mutex<HashMap<KeyId, u64>>,
    pub(super) blocks: AtomicU64,
    /// Encryptions a key may make; 0: as many as it likes.
    pub(super) limit: AtomicU64,
    pub(super) compromised: Mutex<Vec<KeyId>>,
    pub(super) reported: Mutex<Vec<Use>>,
    /// Runs while the next encrypt lease is on its way back.
    pub(super) on_the_way: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Runs while the next usage block is on its way back.
    pub(super) while_drawing: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl FakeLeases {
    fn reach(&self) -> Result<(), LeaseError> {
        let reason = "down".to_owned();
        match self.out_of_reach.load(SeqCst) {
            true => Err(LeaseError::OutOfReach { reason }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Leases for FakeLeases {
    async fn column(&self, name: &str) -> Result<ColumnSpec, LeaseError> {
        self.reach()?;
        if name != COLUMN {
            let what = format!("column {name}");
            return Err(LeaseError::Unknown { what });
        }
        Ok(ColumnSpec {
            name: name.parse().unwrap(),
            column_id: "clinic.public.patients.ssn".to_owned(),
            keyring: keyring(),
            bind: Bind::Row,
            bind_columns: vec!["id".to_owned()],
            bind_types: Some(vec![BindType::Int4]),
            encoding: TextEncoding::Binary,
        })
    }

    async fn keyset(&self, keyring: &KeyringName) -> Result<Keyset, LeaseError> {
        self.keyset_requests.fetch_add(1, SeqCst);
        self.reach()?;
        Ok(Keyset {
            keyring: keyring.clone(),
            max_age: MAX_AGE,
            decrypts_for: DECRYPTS_FOR,
            keys: locked(&self.keys).clone(),
        })
    }

    async fn encrypt_lease(&self, keyring: &KeyringName) -> Result<LeaseGrant, LeaseError> {
        self.lease_requests.fetch_add(1, SeqCst);
        self.reach()?;
        if self.suspended.load(SeqCst) {
            let reason = "rolled back".to_owned();
            return Err(LeaseError::Suspended { reason });
        }
        let primary = *locked(&self.primary);
        if let Some(happens) = locked(&self.on_the_way).take() {
            happens();
        }
        let keyring = keyring.clone();
        let key = primary.ok_or(LeaseError::NoPrimary { keyring })?;
        let lasts = ENCRYPT_LEASE;
        Ok(LeaseGrant { key, lasts })
    }

    async fn usage_block(&self, key: KeyId, wanted: u64) -> Result<UsageBlock, LeaseError> {
        self.reach()?;
        tokio::task::yield_now().await;
        if let Some(happens) = locked(&self.while_drawing).take() {
            happens();
        }
        if locked(&self.compromised).contains(&key) {
            return Err(LeaseError::Compromised { key });
        }
        let mut granted = locked(&self.granted);
        let used = granted.entry(key).or_default();
        let limit = match self.limit.load(SeqCst) {
            0 => u64::MAX,
            limit => limit,
        };
        let size = wanted.min(limit - *used);
        if size == 0 {
            return Err(LeaseError::Exhausted { key });
        }
        *used += size;
        self.blocks.fetch_add(1, SeqCst);
        Ok(UsageBlock { size })
    }

    async fn report(&self, uses: &[Use]) -> Result<(), LeaseError> {
        self.reach()?;
        locked(&self.reported).extend(uses);
        Ok(())
    }
}

/// A client, and everything around it.
pub(super) struct Setup {
    pub(super) leases: Arc<FakeLeases>,
    pub(super) kms: Arc<LocalKms>,
    pub(super) client: Client,
    millis: Arc<AtomicU64>,
    directory: TempDir,
}

impl Setup {
    /// A keyring whose key 1 is primary.
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let kms = LocalKms::create(directory.path().join("keys.json")).await;
        let kms = Arc::new(kms.unwrap());
        let leases = Arc::new(FakeLeases::default());
        let millis = Arc::new(AtomicU64::new(0));
        let (start, read) = (Instant::now(), Arc::clone(&millis));
        let time = Monotonic::reading(move || start + Duration::from_millis(read.load(SeqCst)));
        let setup = Self {
            client: Client::in_time(leases.clone(), kms.clone(), time),
            leases,
            kms,
            millis,
            directory,
        };
        setup.add_key(1).await;
        setup.make_primary(1);
        setup
    }

    pub(super) fn master_key(&self) -> std::path::PathBuf {
        self.directory.path().join("keys.json")
    }

    pub(super) async fn make_key(&self, id: u32) -> KeysetKey {
        self.make_key_of(id, Algorithm::Aes256Gcm).await
    }

    pub(super) async fn make_key_of(&self, id: u32, algorithm: Algorithm) -> KeysetKey {
        let context = EncryptionContext {
            deployment: Uuid::from_u128(1),
            keyring: Uuid::from_u128(2),
            key_id: KeyId::new(id),
            purpose: Purpose::Phi,
        };
        let generated = self.kms.generate_data_key(&context).await.unwrap();
        KeysetKey {
            id: KeyId::new(id),
            version: id,
            state: KeyState::Active,
            algorithm,
            check_value: CheckValue::of(&generated.material),
            wrapped: generated.wrapped,
            context,
        }
    }

    pub(super) async fn add_key(&self, id: u32) {
        let key = self.make_key(id).await;
        locked(&self.leases.keys).push(key);
    }

    pub(super) fn make_primary(&self, id: u32) {
        *locked(&self.leases.primary) = Some(KeyId::new(id));
    }

    pub(super) fn cut_off(&self, cut: bool) {
        self.leases.out_of_reach.store(cut, SeqCst);
    }

    pub(super) fn pass(&self, time: Duration) {
        self.millis.fetch_add(time.as_millis() as u64, SeqCst);
    }
}
