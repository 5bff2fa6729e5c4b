//! Azure passes the suite, against an emulator over HTTP, which evaluates what a signature (SAS) allows.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use rekey_destinations::{
    Created, Destination, DestinationError, DestinationUrl, Doing, Environment, Erasable,
    open_to_prune, open_with,
};
use rekey_testkit::{
    PrivateAzure,
    azure::{container, signature},
    services,
};

use crate::suite::{self, name};

const KEY: (&str, &str) = ("AZURE_STORAGE_KEY", PrivateAzure::KEY);

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    suite::conforms(at(&container().await, "/some/prefix", KEY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_without_a_prefix() {
    suite::conforms(at(&container().await, "", KEY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_where_one_may_create_and_not_write() {
    let signature = signature("rcl");
    let create_only = ("AZURE_STORAGE_SAS_TOKEN", &*signature);
    suite::conforms(at(&container().await, "/p", create_only)).await;
}

#[tokio::test]
async fn who_may_create_and_not_write_cannot_erase() {
    let container = container().await;
    for (rights, expected) in [
        ("rcl", Erasable::No),
        ("rclw", Erasable::Yes),
        ("rclwd", Erasable::Yes),
        ("rcld", Erasable::Yes),
    ] {
        let signature = signature(rights);
        let destination = at(&container, "/p", ("AZURE_STORAGE_SAS_TOKEN", &signature));
        for _ in 0..2 {
            assert_eq!(destination.erasable().await, Ok(expected), "{rights}");
        }
    }
}

#[tokio::test]
async fn a_person_takes_objects_away_and_who_may_only_create_does_not() {
    let container = container().await;
    let (all, some) = (signature("rcld"), signature("rcl"));
    let prune = |signature: &str| {
        let environment =
            |variable: &str| (variable == "AZURE_STORAGE_SAS_TOKEN").then(|| signature.to_owned());
        open_to_prune(&url(&container, "/p"), Environment::new(&environment)).unwrap()
    };
    let kept = at(&container, "/p", ("AZURE_STORAGE_SAS_TOKEN", &some));
    suite::prunes(kept.clone(), &*prune(&all)).await;
    let denied = prune(&some).remove(&name("old/two")).await;
    assert!(
        matches!(denied, Err(DestinationError::Denied { .. })),
        "{denied:?}"
    );
    assert!(kept.read(&name("old/two")).await.is_ok());
}

#[tokio::test]
async fn what_a_signature_does_not_allow_is_denied() {
    let container = container().await;
    at(&container, "", KEY)
        .create(&name("a/b"), b"1")
        .await
        .unwrap();
    let signature = signature("r");
    let reader = at(&container, "", ("AZURE_STORAGE_SAS_TOKEN", &signature));
    let denied = |doing| DestinationError::Denied {
        place: reader.place(),
        doing,
    };
    assert_eq!(reader.read(&name("a/b")).await, Ok(b"1".to_vec()));
    // It stands there already, which it may see.
    assert_eq!(
        reader.create(&name("a/b"), b"1").await,
        Ok(Created::AlreadyThere)
    );
    assert_eq!(
        reader.create(&name("a/c"), b"1").await,
        Err(denied(Doing::Create))
    );
    assert_eq!(
        reader.list(&"a".parse().unwrap(), None).await,
        Err(denied(Doing::List))
    );
}

#[tokio::test]
async fn another_key_is_told_as_such_and_not_shown() {
    let wrong = BASE64_STANDARD.encode("canary7f3a");
    let destination = at(&container().await, "", ("AZURE_STORAGE_KEY", &wrong));
    let error = destination.create(&name("a/b"), b"1").await.unwrap_err();
    assert!(
        matches!(
            error,
            DestinationError::Credentials { .. } | DestinationError::Denied { .. }
        ),
        "{error}"
    );
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains(&wrong) && !shown.contains("canary"),
        "{shown}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_container_that_is_not_there_is_no_empty_one() {
    let nowhere = at(&format!("nowhere-{}", uuid::Uuid::new_v4()), "/p", KEY);
    let no_place = DestinationError::NoPlace {
        place: nowhere.place(),
    };
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

fn at(container: &str, prefix: &str, credential: (&str, &str)) -> Arc<dyn Destination> {
    let environment = |variable: &str| (variable == credential.0).then(|| credential.1.to_owned());
    open_with(&url(container, prefix), Environment::new(&environment))
        .unwrap()
        .into()
}

fn url(container: &str, prefix: &str) -> DestinationUrl {
    let (endpoint, account) = (services::url(services::AZURE), PrivateAzure::ACCOUNT);
    let url =
        format!("az://{container}{prefix}?account={account}&endpoint={endpoint}&allow-http=true");
    url.parse().unwrap()
}
