//! AWS KMS passes the suite, against an emulator over HTTP.
//!
//! The emulator lets a master key that is disabled or pending deletion go on, so `refuses_while` is
//! not run here; what AWS answers then is in `aws_faults.rs`.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::{
    Client,
    config::{Credentials, SharedCredentialsProvider},
};
use rekey_kms::{AwsKms, AwsMasterKey, Kms, KmsError};
use rekey_testkit::services;

use crate::suite;

#[tokio::test]
async fn it_conforms() {
    let (kms, _) = emulated().await;
    suite::conforms(&kms).await;
}

#[tokio::test]
async fn a_new_master_key_wraps_and_the_old_one_goes_on_unwrapping() {
    let (kms, _) = emulated().await;
    for _ in 0..3 {
        suite::goes_on_under_a_new_master_key(&kms).await;
    }
}

#[tokio::test]
async fn creating_again_changes_nothing() {
    let (kms, _) = emulated().await;
    let first = kms.describe().await.unwrap();
    assert_eq!(kms.ensure_master_key().await, Ok(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn created_at_once_by_many_there_is_one_master_key() {
    let alias = new_alias();
    let creations = (0..8).map(|_| {
        let kms = AwsKms::with_sdk_config(&emulator(), alias.clone());
        tokio::spawn(async move { kms.ensure_master_key().await.unwrap() })
    });
    let mut described = Vec::new();
    for creation in creations.collect::<Vec<_>>() {
        described.push(creation.await.unwrap());
    }
    described.dedup();
    assert_eq!(described.len(), 1);
}

#[tokio::test]
async fn a_master_key_is_made_with_description_and_tag() {
    let (kms, client) = emulated().await;
    let id = kms.describe().await.unwrap().id;
    let found = client.describe_key().key_id(&id).send().await.unwrap();
    let found = found.key_metadata.unwrap();
    assert_eq!(found.description(), Some("Rekey PHI master key"));
    let tags = client
        .list_resource_tags()
        .key_id(&id)
        .send()
        .await
        .unwrap();
    let tag = &tags.tags()[0];
    assert_eq!(
        (tag.tag_key(), tag.tag_value()),
        ("Purpose", "PHI_PROTECTION")
    );
}

#[tokio::test]
async fn a_master_key_named_by_its_id_serves_and_is_not_replaced() {
    let (by_alias, _) = emulated().await;
    let arn = by_alias.describe().await.unwrap().id;
    let id = arn.rsplit('/').next().unwrap();
    for name in [&arn, id] {
        let by_id = AwsKms::with_sdk_config(&emulator(), name.parse().unwrap());
        assert_eq!(by_id.ensure_master_key().await.unwrap().id, arn);
        suite::unwraps_what_it_wrapped(&by_id).await;
        let refused = by_id.new_master_key().await.unwrap_err();
        assert!(matches!(refused, KmsError::Configuration { .. }));
        assert!(refused.to_string().contains("alias/"), "{refused}");
        assert_eq!(by_id.describe().await.unwrap().id, arn);
    }
}

#[tokio::test]
async fn a_master_key_that_is_not_there_is_unknown_and_by_id_never_made() {
    let nowhere = "00000000-0000-4000-8000-00000000dead";
    for name in ["alias/rekey-test-nowhere", nowhere] {
        let kms = AwsKms::with_sdk_config(&emulator(), name.parse().unwrap());
        let generated = kms.generate_data_key(&suite::context()).await;
        is_unknown(generated.err(), name);
        is_unknown(kms.describe().await.err(), name);
        is_unknown(kms.new_master_key().await.err(), name);
    }
    let by_id = AwsKms::with_sdk_config(&emulator(), nowhere.parse().unwrap());
    is_unknown(by_id.ensure_master_key().await.err(), nowhere);
}

/// By the name that was configured, or by its ARN where the service says it.
fn is_unknown(refused: Option<KmsError>, name: &str) {
    let unknown = match &refused {
        Some(KmsError::UnknownMasterKey { master_key, .. }) => master_key.ends_with(name),
        Some(KmsError::Configuration { .. }) => !name.starts_with("alias/"),
        _ => false,
    };
    assert!(unknown, "{refused:?}");
}

/// A master key of the test's own, and a client to look behind it.
async fn emulated() -> (AwsKms, Client) {
    let kms = AwsKms::with_sdk_config(&emulator(), new_alias());
    kms.ensure_master_key().await.unwrap();
    (kms, Client::new(&emulator()))
}

fn new_alias() -> AwsMasterKey {
    let random = uuid::Uuid::new_v4();
    format!("alias/rekey-test-{random}").parse().unwrap()
}

fn emulator() -> SdkConfig {
    sdk_config(&services::url(services::KMS), "test", "test")
}

/// Requests to `url`, with these credentials.
pub fn sdk_config(url: &str, access_key: &str, secret: &str) -> SdkConfig {
    let credentials = Credentials::new(access_key, secret, None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}
