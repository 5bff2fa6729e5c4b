//! Whether a writer can erase, as S3 and Azure let it be seen.

use rekey_destinations::{DestinationError, Erasable};

use crate::endpoint::{Dialect, Endpoint, Reply, Request};

#[tokio::test]
async fn who_may_only_create_cannot_erase() {
    for dialect in Dialect::BOTH {
        let endpoint = Endpoint::start(|request, _| match changes(request) {
            true => Reply::Refused(403, "AccessDenied"),
            false => Reply::Done,
        })
        .await;
        let destination = endpoint.destination(dialect);
        for _ in 0..2 {
            assert_eq!(
                destination.erasable().await,
                Ok(Erasable::No),
                "{dialect:?}"
            );
        }
    }
}

#[tokio::test]
async fn who_may_delete_can_erase() {
    for dialect in Dialect::BOTH {
        let endpoint = Endpoint::start(|request, _| match request.is("PUT") && changes(request) {
            true => Reply::Refused(403, "AccessDenied"),
            false => Reply::Done,
        })
        .await;
        let destination = endpoint.destination(dialect);
        for _ in 0..2 {
            assert_eq!(destination.erasable().await, Ok(Erasable::Yes));
        }
    }
}

#[tokio::test]
async fn a_container_that_cannot_be_changed_cannot_be_erased() {
    let endpoint = Endpoint::start(|request, _| match changes(request) {
        true => Reply::Refused(409, "BlobImmutableDueToPolicy"),
        false => Reply::Done,
    })
    .await;
    let erasable = endpoint.destination(Dialect::Azure).erasable().await;
    assert_eq!(erasable, Ok(Erasable::No));
}

#[tokio::test]
async fn where_an_overwrite_makes_a_version_it_is_said() {
    for dialect in Dialect::BOTH {
        let endpoint = Endpoint::start(|request, _| match changes(request) {
            true => Reply::DoneAsVersion,
            false => Reply::Done,
        })
        .await;
        let erasable = endpoint.destination(dialect).erasable().await;
        assert_eq!(erasable, Ok(Erasable::Versioned), "{dialect:?}");
    }
}

#[tokio::test]
async fn what_failed_for_another_reason_is_no_proof() {
    for dialect in Dialect::BOTH {
        for (status, code) in [
            (503, "SlowDown"),
            (403, "InvalidAccessKeyId"),
            (403, "AuthenticationFailed"),
            (400, "Unknown"),
        ] {
            let endpoint = Endpoint::start(move |request, _| match changes(request) {
                true => Reply::Refused(status, code),
                false => Reply::Done,
            })
            .await;
            let error = endpoint.destination(dialect).erasable().await.unwrap_err();
            assert!(!matches!(error, DestinationError::Denied { .. }), "{error}");
        }
    }
}

/// Whether what stands there would be another afterwards.
fn changes(request: &Request) -> bool {
    match &*request.method {
        "PUT" => !request.create_only,
        method => method != "GET",
    }
}
