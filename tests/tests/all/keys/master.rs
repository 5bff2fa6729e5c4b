//! Replacing the master key: every key unwraps at any moment, whatever the KMS does meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::config::{Credentials, SharedCredentialsProvider};
use rekey_domain::{BackupPolicy, Principal};
use rekey_envelope::{CheckValue, KeyMaterial};
use rekey_kms::{
    AwsKms, EncryptionContext, GeneratedKey, Kms, KmsError, MasterKeyInfo, RewrappedKey, WrappedKey,
};
use rekey_operations::{
    Desired, MasterRotation, OperationError, Services, StartWith, init, master_view, rotate_master,
    verify_audit,
};
use rekey_store::{
    Store, audit, keyrings,
    keys::{self, Key, StoredKey},
};
use rekey_testkit::services;

use rekey_tests::{
    roles::{Database, OPERATOR, OWNER, printed},
    support::{Deployment, operator},
};

/// Four keyrings, each with a primary and a standby.
const KEYS: usize = 8;

#[tokio::test]
async fn a_new_master_key_wraps_every_key_and_every_value_reads_as_before() {
    let clinic = Deployment::of(40).await;
    let before = clinic.services.kms.describe().await.unwrap();
    let old = stored(&clinic.services).await;
    let rotation = rotate(&clinic.services).await.unwrap();
    let now = clinic.services.kms.describe().await.unwrap();
    let expected = MasterRotation {
        master_key: now.id.clone(),
        made: true,
        rewrapped: KEYS as u64,
        failed: Vec::new(),
    };
    assert_eq!(rotation, expected);
    assert_ne!(now.id, before.id);
    assert_all_under(&clinic.services, &now.id).await;
    for (old, new) in old.iter().zip(stored(&clinic.services).await) {
        assert_ne!(old.wrapped, new.wrapped);
        let unchanged = StoredKey {
            wrapped: old.wrapped.clone(),
            key: Key {
                master_key: old.master_key.clone(),
                // The audit log encrypts what is recorded of it.
                used: old.used,
                ..new.key
            },
            ..new
        };
        assert_eq!(*old, unchanged, "nothing else of a key is touched");
    }
    clinic.assert_reads_back().await;
    let elsewhere = clinic.process("re-encryptor").await;
    assert_every_key_unwraps(&elsewhere).await;
}

#[tokio::test]
async fn a_rotation_of_the_master_key_is_audited_from_start_to_end() {
    let clinic = Deployment::of(4).await;
    let before = clinic.services.kms.describe().await.unwrap().id;
    let new = rotate(&clinic.services).await.unwrap().master_key;
    let expected = [
        ("master-key.rotation-started", before.as_str(), "done"),
        ("master-key.created", new.as_str(), "done"),
        ("master-key.rotated", new.as_str(), "done"),
    ];
    assert_eq!(audited(&clinic.services).await, expected.map(owned));
    let verdict = verify_audit(&clinic.services, &operator()).await.unwrap();
    assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
}

#[tokio::test]
async fn nobody_but_an_operator_replaces_the_master_key() {
    let clinic = Deployment::of(4).await;
    let before = clinic.services.kms.describe().await.unwrap();
    for principal in [Principal::app("portal"), Principal::worker("rotator")] {
        let refused = rotate_master(&clinic.services, StartWith::WhatIsLeft, &principal).await;
        assert!(matches!(refused, Err(OperationError::NotAllowed { .. })));
    }
    assert_eq!(clinic.services.kms.describe().await.unwrap(), before);
}

#[tokio::test]
async fn cut_short_anywhere_it_goes_on_without_another_master_key() {
    let clinic = Deployment::of(8).await;
    for moved in 0..KEYS {
        let faulty = services_with(&clinic.services, Fault::OutOfReachAfter(moved));
        let cut = rotate(&faulty).await.unwrap_err();
        assert!(cut.is_retryable(), "{cut}");
        let current = clinic.services.kms.describe().await.unwrap().id;
        assert_eq!(under(&clinic.services, &current).await, moved);
        assert_every_key_unwraps(&clinic.services).await;

        let rotation = rotate(&clinic.services).await.unwrap();
        let expected = MasterRotation {
            master_key: current.clone(),
            made: false,
            rewrapped: (KEYS - moved) as u64,
            failed: Vec::new(),
        };
        assert_eq!(rotation, expected, "cut after {moved}");
        assert_all_under(&clinic.services, &current).await;
    }
    let cut = owned(("master-key.rotated", "", "cut short"));
    let entries = audited(&clinic.services).await;
    let cut = entries.iter().filter(|entry| entry.2 == cut.2).count();
    assert_eq!(cut, KEYS);
    clinic.assert_reads_back().await;
}

#[tokio::test]
async fn what_does_not_open_to_the_same_key_replaces_nothing() {
    let clinic = Deployment::of(8).await;
    let old = stored(&clinic.services).await;
    let faulty = services_with(&clinic.services, Fault::AnotherKeyAt(3));
    let rotation = rotate(&faulty).await.unwrap();
    assert_eq!(
        (rotation.rewrapped, rotation.failed.len()),
        (KEYS as u64 - 1, 1)
    );
    let failed = &rotation.failed[0];
    assert!(failed.problem.contains("check value"), "{failed:?}");
    let kept = stored(&clinic.services).await;
    let pairs = old.iter().zip(&kept);
    let same = pairs.filter(|(old, kept)| old.wrapped == kept.wrapped);
    assert_eq!(same.count(), 1);
    assert_every_key_unwraps(&clinic.services).await;
    let entries = audited(&clinic.services).await;
    assert_eq!(entries.last().unwrap().2, "in part");

    let rotation = rotate(&clinic.services).await.unwrap();
    assert_eq!((rotation.made, rotation.rewrapped), (false, 1));
    clinic.assert_reads_back().await;
}

#[tokio::test]
async fn a_key_that_does_not_open_bars_none_of_the_others_and_no_later_master_key() {
    let clinic = Deployment::of(8).await;
    let swap = "UPDATE key SET wrapped = zeroblob(77) WHERE version = 2
        AND keyring_id = (SELECT id FROM keyring WHERE name = 'other')";
    assert_eq!(clinic.in_store(swap).await, 1);
    let first = rotate(&clinic.services).await.unwrap();
    for (start, made, rewrapped) in [
        (StartWith::WhatIsLeft, false, 0),
        (StartWith::NewMasterKey, true, KEYS as u64 - 1),
    ] {
        let rotation = rotate_master(&clinic.services, start, &operator()).await;
        let rotation = rotation.unwrap();
        assert_eq!((rotation.made, rotation.rewrapped), (made, rewrapped));
        assert_eq!(rotation.master_key != first.master_key, made);
        let failed: Vec<_> = rotation.failed.iter().map(|f| f.key.to_string()).collect();
        assert_eq!(failed, ["other/2"]);
    }
    clinic.assert_reads_back().await;
}

#[tokio::test]
async fn keys_of_an_older_program_are_told_by_what_the_kms_says() {
    let clinic = Deployment::of(8).await;
    let forget = "UPDATE key SET master_key = NULL";
    clinic.in_store(forget).await;
    let faulty = services_with(&clinic.services, Fault::OutOfReachAfter(2));
    rotate(&faulty).await.unwrap_err();
    let current = clinic.services.kms.describe().await.unwrap().id;
    clinic.in_store(forget).await;
    let view = master_view(&clinic.services, &operator()).await.unwrap();
    assert_eq!((view.keys[0].keys, view.keys[1].keys), (0, KEYS as u64));
    assert_eq!(view.keys[1].master_key, None);
    let rotation = rotate(&clinic.services).await.unwrap();
    let expected = MasterRotation {
        master_key: current.clone(),
        made: false,
        rewrapped: KEYS as u64 - 2,
        failed: Vec::new(),
    };
    assert_eq!(rotation, expected);
    assert_all_under(&clinic.services, &current).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_at_once_lose_no_key() {
    let clinic = Deployment::of(8).await;
    let elsewhere = services_with(&clinic.services, Fault::None);
    let (one, other) = tokio::join!(rotate(&clinic.services), rotate(&elsewhere));
    for ended in [one, other] {
        assert!(ended.unwrap().failed.is_empty());
    }
    assert_every_key_unwraps(&clinic.services).await;
    rotate(&clinic.services).await.unwrap();
    let current = clinic.services.kms.describe().await.unwrap().id;
    assert_all_under(&clinic.services, &current).await;
    clinic.assert_reads_back().await;
}

#[tokio::test]
async fn in_aws_it_is_the_same_cut_short_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.db");
    let url = format!("sqlite://{}?mode=rwc", store.display());
    Store::connect(&url).await.unwrap().migrate().await.unwrap();
    in_aws_over(&url).await;
}

#[tokio::test]
async fn in_aws_over_postgresql_it_is_the_same_cut_short_and_gone_on_with() {
    let database = Database::create(OWNER).await;
    let owned = Store::connect(&database.url_as(OWNER)).await.unwrap();
    owned.migrate().await.unwrap();
    let kms = AwsKms::with_sdk_config(&emulator(), "alias/unused".parse().unwrap());
    let owner = Services::new(owned, Arc::new(kms), operator());
    let printed = printed(&owner, database.roles()).await;
    database.give_store(&printed).await;
    in_aws_over(&database.url_as(OPERATOR)).await;
}

async fn in_aws_over(url: &str) {
    let store = Store::connect(url).await.unwrap();
    let alias = format!("alias/rekey-test-{}", uuid::Uuid::new_v4());
    let kms = AwsKms::with_sdk_config(&emulator(), alias.parse().unwrap());
    let first = kms.ensure_master_key().await.unwrap();
    let aws = Services::new(store, Arc::new(kms), operator());
    let desired = Desired {
        backup: BackupPolicy::Off,
        ..Desired::default()
    };
    let desired = desired.with_store(url);
    init(&aws, &desired, &operator()).await.unwrap();
    assert_all_under(&aws, &first.id).await;

    let faulty = services_with(&aws, Fault::OutOfReachAfter(1));
    assert!(rotate(&faulty).await.unwrap_err().is_retryable());
    let current = aws.kms.describe().await.unwrap();
    assert_ne!(current.id, first.id);
    assert_eq!(under(&aws, &current.id).await, 1);
    assert_every_key_unwraps(&aws).await;

    let rotation = rotate(&aws).await.unwrap();
    assert_eq!((rotation.made, rotation.rewrapped), (false, 3));
    assert_all_under(&aws, &current.id).await;
    let rotation = rotate(&aws).await.unwrap();
    assert_eq!((rotation.made, rotation.rewrapped), (true, 4));
    let verdict = verify_audit(&aws, &operator()).await.unwrap();
    assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
}

async fn rotate(services: &Services) -> Result<MasterRotation, OperationError> {
    rotate_master(services, StartWith::WhatIsLeft, &operator()).await
}

async fn stored(services: &Services) -> Vec<StoredKey> {
    keys::wrapped(services.store.db()).await.unwrap()
}

async fn under(services: &Services, master_key: &str) -> usize {
    let keys = stored(services).await;
    let under = keys
        .iter()
        .filter(|key| key.master_key.as_deref() == Some(master_key));
    under.count()
}

/// By what the store says and by what the KMS says.
async fn assert_all_under(services: &Services, master_key: &str) {
    assert_every_key_unwraps(services).await;
    for key in stored(services).await {
        assert_eq!(key.master_key.as_deref(), Some(master_key));
        let (wrapped, context) = wrapped_in_context(services, &key).await;
        let by = services.kms.wrapped_by(&wrapped, &context).await;
        assert_eq!(by.as_deref(), Ok(master_key));
    }
    let view = master_view(services, &operator()).await.unwrap();
    assert_eq!(view.master_key, master_key);
    assert!(view.keys.len() == 1 && view.keys[0].current, "{view:?}");
}

async fn assert_every_key_unwraps(services: &Services) {
    for key in stored(services).await {
        let (wrapped, context) = wrapped_in_context(services, &key).await;
        let material = services.kms.decrypt(&wrapped, &context).await.unwrap();
        let check_value = CheckValue::try_from(&key.check_value[..]).unwrap();
        assert!(check_value.matches(&material), "key {}", key.id);
    }
}

async fn wrapped_in_context(
    services: &Services,
    key: &StoredKey,
) -> (WrappedKey, EncryptionContext) {
    let db = services.store.db();
    let keyring = keyrings::by_id(db, key.keyring_id).await.unwrap();
    let context = EncryptionContext {
        deployment: keyrings::deployment(db).await.unwrap(),
        keyring: keyring.id,
        key_id: key.id,
        purpose: keyring.purpose,
    };
    (key.wrapped.clone().unwrap().into(), context)
}

/// What the audit log says of master keys: action, subject, outcome.
async fn audited(services: &Services) -> Vec<(String, String, String)> {
    let page = audit::page(services.store.db(), 0, 10_000).await.unwrap();
    let entries = page.into_iter().map(|(entry, _)| entry);
    entries
        .filter(|entry| entry.action.starts_with("master-key."))
        .map(|entry| (entry.action, entry.subject, entry.outcome))
        .collect()
}

fn owned((action, subject, outcome): (&str, &str, &str)) -> (String, String, String) {
    (action.to_owned(), subject.to_owned(), outcome.to_owned())
}

fn emulator() -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .endpoint_url(services::url(services::KMS))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// The same deployment, over a KMS with a fault.
fn services_with(services: &Services, fault: Fault) -> Services {
    let kms = Faulty {
        inner: services.kms.clone(),
        fault,
        rewraps: AtomicUsize::new(0),
    };
    let store = services.store.clone();
    Services::new(store, Arc::new(kms), operator())
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// After so many keys were wrapped anew.
    OutOfReachAfter(usize),
    /// The key wrapped anew at this place is not the one that was given.
    AnotherKeyAt(usize),
}

/// A KMS that fails while keys are wrapped anew.
struct Faulty {
    inner: Arc<dyn Kms>,
    fault: Fault,
    rewraps: AtomicUsize,
}

#[async_trait]
impl Kms for Faulty {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn generate_data_key(&self, to: &EncryptionContext) -> Result<GeneratedKey, KmsError> {
        self.inner.generate_data_key(to).await
    }

    async fn decrypt(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<KeyMaterial, KmsError> {
        self.inner.decrypt(wrapped, context).await
    }

    async fn describe(&self) -> Result<MasterKeyInfo, KmsError> {
        self.inner.describe().await
    }

    async fn wrapped_by(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<String, KmsError> {
        self.inner.wrapped_by(wrapped, context).await
    }

    async fn rewrap(
        &self,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
        master_key: &str,
    ) -> Result<RewrappedKey, KmsError> {
        let before = self.rewraps.fetch_add(1, SeqCst);
        if matches!(self.fault, Fault::OutOfReachAfter(limit) if before >= limit) {
            return Err(KmsError::OutOfReach {
                provider: "faulty",
                reason: "it was switched off".to_owned(),
            });
        }
        if self.fault != Fault::AnotherKeyAt(before) {
            return self.inner.rewrap(wrapped, context, master_key).await;
        }
        let another = self.inner.generate_data_key(context).await?;
        Ok(RewrappedKey {
            wrapped: another.wrapped,
            master_key: another.master_key,
        })
    }

    async fn wrap(
        &self,
        material: &KeyMaterial,
        context: &EncryptionContext,
    ) -> Result<RewrappedKey, KmsError> {
        self.inner.wrap(material, context).await
    }

    async fn new_master_key(&self) -> Result<MasterKeyInfo, KmsError> {
        self.inner.new_master_key().await
    }
}
