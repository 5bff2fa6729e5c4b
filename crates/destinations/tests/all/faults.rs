//! Every fault of a service: what it means for us, whether it is asked again, and that a call ends in time.

use std::time::{Duration, Instant};

use rekey_destinations::{Created, DestinationError, LIMIT, ObjectName};
use tokio::net::TcpListener;

use crate::{
    endpoint::{CANARY, Dialect, Endpoint, Reply, Request, destination},
    suite::name,
};

const BYTES: &[u8] = b"whole";

#[tokio::test]
async fn a_conflict_is_tried_again_after_a_look() {
    for dialect in Dialect::BOTH {
        for status in [409, 412] {
            let endpoint = Endpoint::start(move |request, before| match before {
                0 => Reply::Refused(status, "ConditionalRequestConflict"),
                _ => only_create(request),
            })
            .await;
            let made = endpoint.destination(dialect).create(&object(), BYTES).await;
            assert_eq!(made, Ok(Created::Created), "{dialect:?} {status}");
            assert_eq!(endpoint.requests(), 4, "written, looked, written, looked");
        }
    }
}

#[tokio::test]
async fn a_conflict_that_stays_may_be_asked_again() {
    for dialect in Dialect::BOTH {
        let endpoint = Endpoint::start(|request, _| match request.is("PUT") {
            true => Reply::Refused(409, "OperationAborted"),
            false => Reply::Done,
        })
        .await;
        let error = fails(&endpoint, dialect).await;
        assert!(
            matches!(error, DestinationError::OutOfReach { .. }),
            "{error}"
        );
        assert!(error.is_retryable() && endpoint.requests() == 6);
    }
}

#[tokio::test]
async fn what_exists_already_is_success_exactly_if_the_bytes_are_equal() {
    for dialect in Dialect::BOTH {
        for status in [409, 412, 304, 403] {
            let endpoint = Endpoint::start(move |request, _| match request.is("PUT") {
                true => Reply::Refused(status, "BlobAlreadyExists"),
                false => Reply::Done,
            })
            .await;
            endpoint.keep("a/b", BYTES);
            let there = endpoint.destination(dialect).create(&object(), BYTES).await;
            assert_eq!(there, Ok(Created::AlreadyThere), "{dialect:?} {status}");
            endpoint.keep("a/b", b"other");
            let error = fails(&endpoint, dialect).await;
            assert!(
                matches!(error, DestinationError::OtherBytes { .. }),
                "{error}"
            );
            assert!(!error.is_retryable() && endpoint.requests() == 4);
        }
    }
}

#[tokio::test]
async fn what_passes_by_itself_is_asked_three_times() {
    for dialect in Dialect::BOTH {
        for (status, busy) in [
            (503, true),
            (429, true),
            (500, false),
            (502, false),
            (408, false),
        ] {
            let endpoint = Endpoint::start(move |request, before| match before {
                0..4 => Reply::Refused(status, "SlowDown"),
                _ => only_create(request),
            })
            .await;
            let made = endpoint.destination(dialect).create(&object(), BYTES).await;
            assert_eq!(made, Ok(Created::Created), "{dialect:?} {status}");
            let endpoint = Endpoint::start(move |_, _| Reply::Refused(status, "SlowDown")).await;
            let error = fails(&endpoint, dialect).await;
            assert_eq!(
                matches!(error, DestinationError::Busy { .. }),
                busy,
                "{error}"
            );
            assert!(error.is_retryable() && endpoint.requests() == 6, "{error}");
            let read = endpoint.destination(dialect).read(&object()).await;
            assert!(read.unwrap_err().is_retryable() && endpoint.requests() == 9);
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_write_is_found_by_a_look() {
    for dialect in Dialect::BOTH {
        let endpoint = Endpoint::start(|request, _| match request.is("PUT") {
            true => Reply::DoneAndLost,
            false => Reply::Done,
        })
        .await;
        let made = endpoint.destination(dialect).create(&object(), BYTES).await;
        assert_eq!(made, Ok(Created::AlreadyThere), "{dialect:?}");
        assert_eq!(endpoint.requests(), 2);
    }
}

#[tokio::test]
async fn a_look_that_fails_after_an_acknowledged_write_is_made_again() {
    for dialect in Dialect::BOTH {
        let endpoint = Endpoint::start(|request, before| match (request.is("GET"), before) {
            (true, 1) => Reply::Reset,
            (true, 3) => Reply::Cut,
            _ => Reply::Done,
        })
        .await;
        let made = endpoint.destination(dialect).create(&object(), BYTES).await;
        assert_eq!(made, Ok(Created::Created), "{dialect:?}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_and_is_not_there_or_damaged_is_no_success() {
    for dialect in Dialect::BOTH {
        let endpoint = Endpoint::start(|request, _| match request.is("PUT") {
            true => Reply::Pretended,
            false => Reply::Done,
        })
        .await;
        let error = fails(&endpoint, dialect).await;
        assert!(
            matches!(error, DestinationError::OutOfReach { .. }),
            "{error}"
        );
        endpoint.keep("a/b", b"whol");
        let error = fails(&endpoint, dialect).await;
        assert!(
            matches!(error, DestinationError::OtherBytes { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_service_that_hangs_after_the_write_costs_an_attempt() {
    for_both(async |dialect| {
        let endpoint = Endpoint::start(|request, _| match request.is("PUT") {
            true => Reply::DoneAndHanging,
            false => Reply::Done,
        })
        .await;
        let asked = Instant::now();
        let made = endpoint.destination(dialect).create(&object(), BYTES).await;
        assert_eq!(made, Ok(Created::AlreadyThere), "{dialect:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(15),
            "{:?}",
            asked.elapsed()
        );
    })
    .await;
}

#[tokio::test]
async fn whatever_hangs_every_call_ends_in_time() {
    for_both(async |dialect| {
        let endpoint = Endpoint::start(|_, _| Reply::Hang).await;
        let destination = endpoint.destination(dialect);
        let (name, folder) = (object(), "a".parse().unwrap());
        let asked = Instant::now();
        let (made, read, listed, erasable) = tokio::join!(
            destination.create(&name, BYTES),
            destination.read(&name),
            destination.list(&folder, None),
            destination.erasable(),
        );
        assert!(
            asked.elapsed() < LIMIT + Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        let errors = [made.err(), read.err(), listed.err(), erasable.err()];
        for error in errors.map(Option::unwrap) {
            let slow = matches!(
                error,
                DestinationError::TooSlow { .. } | DestinationError::OutOfReach { .. }
            );
            assert!(slow && error.is_retryable(), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn where_nobody_listens_it_is_out_of_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for dialect in Dialect::BOTH {
        let error = destination(&url, dialect)
            .read(&object())
            .await
            .unwrap_err();
        assert!(
            matches!(error, DestinationError::OutOfReach { .. }),
            "{error}"
        );
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_out_of_reach() {
    for dialect in Dialect::BOTH {
        for reply in [|| Reply::Reset, || Reply::Cut, || Reply::Noise] {
            let endpoint = Endpoint::start(move |_, _| reply()).await;
            let error = fails(&endpoint, dialect).await;
            assert!(
                matches!(error, DestinationError::OutOfReach { .. }),
                "{error}"
            );
            assert_eq!(endpoint.requests(), 6, "{error}");
        }
    }
}

#[tokio::test]
async fn what_a_person_must_see_to_is_asked_once() {
    let expected = [
        (403, "AccessDenied", "Denied"),
        (403, "AuthorizationPermissionMismatch", "Denied"),
        (403, "InvalidAccessKeyId", "Credentials"),
        (403, "SignatureDoesNotMatch", "Credentials"),
        (403, "AuthenticationFailed", "Credentials"),
        (400, "ExpiredToken", "Credentials"),
        (401, CANARY, "Credentials"),
        (404, "NoSuchBucket", "NoPlace"),
        (400, CANARY, "Refused"),
        (301, "PermanentRedirect", "Refused"),
    ];
    for dialect in Dialect::BOTH {
        for (status, code, variant) in expected {
            let endpoint = Endpoint::start(move |_, _| Reply::Refused(status, code)).await;
            let error = fails(&endpoint, dialect).await;
            assert!(format!("{error:?}").starts_with(variant), "{code}: {error}");
            assert!(!error.is_retryable());
            assert_eq!(endpoint.requests(), 2, "{code}: written, and looked");
        }
    }
}

/// Of a service that makes objects only where nothing stands.
fn only_create(request: &Request) -> Reply {
    assert!(!request.is("PUT") || request.create_only);
    Reply::Done
}

fn object() -> ObjectName {
    name("a/b")
}

/// What `create` fails with, which shows no word of the service and no credential.
async fn fails(endpoint: &Endpoint, dialect: Dialect) -> DestinationError {
    let error = endpoint
        .destination(dialect)
        .create(&object(), BYTES)
        .await
        .unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    error
}

/// Side by side, as they wait.
async fn for_both(test: impl AsyncFn(Dialect)) {
    tokio::join!(test(Dialect::S3), test(Dialect::Azure));
}
