//! S3 passes the suite, against an emulator over HTTP. It evaluates no policies; what S3 answers then is in `probe.rs`.

use std::sync::Arc;

use rekey_destinations::{
    Destination, DestinationError, DestinationUrl, Environment, Erasable, open_to_prune, open_with,
};
use rekey_testkit::{services, tls::http_client};

use crate::suite::{self, name};

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let bucket = bucket().await;
    suite::conforms(at(&bucket, "/some/prefix")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_without_a_prefix() {
    suite::conforms(at(&bucket().await, "")).await;
}

#[tokio::test]
async fn a_person_takes_objects_away() {
    let bucket = bucket().await;
    let prune = open_to_prune(&url(&bucket, "/p"), Environment::new(&environment)).unwrap();
    suite::prunes(at(&bucket, "/p"), &*prune).await;
}

#[tokio::test]
async fn one_prefix_sees_nothing_of_another() {
    let bucket = bucket().await;
    let [one, longer] = ["/one", "/one-more"].map(|prefix| at(&bucket, prefix));
    longer.create(&name("a/b"), b"1").await.unwrap();
    let missing = one.read(&name("a/b")).await.unwrap_err();
    assert!(
        matches!(missing, DestinationError::Missing { .. }),
        "{missing}"
    );
    one.create(&name("a/c"), b"1").await.unwrap();
    let page = one.list(&"a".parse().unwrap(), None).await.unwrap();
    assert_eq!(page.names, [name("a/c")]);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_no_empty_one() {
    let nowhere = at(&format!("nowhere-{}", uuid::Uuid::new_v4()), "/p");
    let no_place = DestinationError::NoPlace {
        place: nowhere.place(),
    };
    assert!(!no_place.is_retryable());
    assert_eq!(
        nowhere.create(&name("a/b"), b"1").await,
        Err(no_place.clone())
    );
    assert_eq!(nowhere.read(&name("a/b")).await, Err(no_place.clone()));
    assert_eq!(
        nowhere.list(&"a".parse().unwrap(), None).await,
        Err(no_place)
    );
}

#[tokio::test]
async fn it_can_be_erased_unless_it_keeps_versions() {
    let bucket = bucket().await;
    let plain = at(&bucket, "/p");
    for _ in 0..2 {
        assert_eq!(plain.erasable().await, Ok(Erasable::Yes));
    }
    let versions = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let url = format!("{}/{bucket}?versioning", services::url(services::KMS));
    let enabled = http_client().put(url).body(versions).send().await.unwrap();
    assert!(enabled.status().is_success(), "{enabled:?}");
    assert_eq!(at(&bucket, "/p").erasable().await, Ok(Erasable::Versioned));
}

/// A bucket of the test's own.
async fn bucket() -> String {
    let bucket = format!("rekey-test-{}", uuid::Uuid::new_v4());
    let url = format!("{}/{bucket}", services::url(services::KMS));
    let made = http_client().put(url).send().await.unwrap();
    assert!(made.status().is_success(), "{made:?}");
    bucket
}

fn at(bucket: &str, prefix: &str) -> Arc<dyn Destination> {
    open_with(&url(bucket, prefix), Environment::new(&environment))
        .unwrap()
        .into()
}

fn url(bucket: &str, prefix: &str) -> DestinationUrl {
    let endpoint = services::url(services::KMS);
    let url = format!("s3://{bucket}{prefix}?region=us-east-1&endpoint={endpoint}&allow-http=true");
    url.parse().unwrap()
}

fn environment(variable: &str) -> Option<String> {
    match variable {
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
        _ => None,
    }
}
