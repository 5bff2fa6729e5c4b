//! A service that means ill: answers without end, names that lead elsewhere, redirects.

use std::time::{Duration, Instant};

use rekey_destinations::{DestinationError, MAX_LEN, Page};

use crate::{
    endpoint::{CANARY, Dialect, Endpoint, Reply, Request},
    suite::name,
};

#[tokio::test]
async fn an_answer_of_a_gigabyte_is_not_read() {
    for dialect in Dialect::BOTH {
        for reply in [|| Reply::Long(1 << 30), || Reply::Endless] {
            let endpoint = Endpoint::start(move |_, _| reply()).await;
            let destination = endpoint.destination(dialect);
            let too_long = DestinationError::TooLong {
                place: destination.place(),
                limit: MAX_LEN,
            };
            let asked = Instant::now();
            assert_eq!(destination.read(&name("a/b")).await, Err(too_long.clone()));
            let listed = destination.list(&"a".parse().unwrap(), None).await;
            assert_eq!(listed, Err(too_long.clone()));
            assert_eq!(destination.create(&name("a/b"), b"1").await, Err(too_long));
            assert!(
                asked.elapsed() < Duration::from_secs(15),
                "{:?}",
                asked.elapsed()
            );
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Endpoint::start(|_, _| Reply::Done).await;
    for dialect in Dialect::BOTH {
        let to = format!("{}/bucket/p/a/b", elsewhere.url);
        let endpoint = Endpoint::start(move |_, _| Reply::Elsewhere(to.clone())).await;
        let refused = endpoint.destination(dialect).read(&name("a/b")).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, DestinationError::Refused { status: 307, .. }),
            "{refused}"
        );
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn names_that_are_none_of_ours_are_left_out() {
    let keys = ["p/a/B", "p/a/%2e%2e", "p/a/b c", "p/a/one", "p/a/two"];
    for dialect in Dialect::BOTH {
        let page = listed(dialect, &keys, "").await;
        let names = ["a/one", "a/two"].map(name).to_vec();
        assert_eq!(page, Ok(Page { names, more: false }), "{dialect:?}");
    }
}

#[tokio::test]
async fn names_of_other_prefixes_and_folders_are_left_out() {
    let keys = ["a/x", "other/a/x", "p", "p/a", "p/ab/x", "p/b/x", "px/a/x"];
    for dialect in Dialect::BOTH {
        let page = listed(dialect, &keys, "").await;
        assert_eq!(
            page,
            Ok(Page {
                names: Vec::new(),
                more: false
            })
        );
    }
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_told() {
    for dialect in Dialect::BOTH {
        for key in ["p/a//b", "p/a/../b", "p/a/./b"] {
            is_answer(listed(dialect, &[key], "").await);
        }
    }
}

#[tokio::test]
async fn a_list_in_no_order_or_without_end_is_told() {
    for dialect in Dialect::BOTH {
        is_answer(listed(dialect, &["p/a/2", "p/a/1"], "").await);
        is_answer(listed(dialect, &["p/a/1"], "again").await);
    }
}

#[tokio::test]
async fn a_list_that_is_none_is_told() {
    for dialect in Dialect::BOTH {
        for body in [
            "",
            "<",
            "{}",
            "<html><body>hello</body></html>",
            "<ListBucketResult><Contents/></ListBucketResult>",
        ] {
            let endpoint = Endpoint::start(move |_, _| Reply::Body(body.to_owned())).await;
            let listed = endpoint
                .destination(dialect)
                .list(&"a".parse().unwrap(), None)
                .await;
            let nothing = Ok(Page {
                names: Vec::new(),
                more: false,
            });
            assert!(
                listed == nothing || matches!(listed, Err(DestinationError::Answer { .. })),
                "{body}: {listed:?}"
            );
        }
    }
}

async fn listed(dialect: Dialect, keys: &[&str], next: &str) -> Result<Page, DestinationError> {
    let body = match dialect {
        Dialect::S3 => {
            let keys: String = keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-11-01T00:00:00Z</LastModified></Contents>")).collect();
            format!(
                "<ListBucketResult>{keys}{}</ListBucketResult>",
                token("NextContinuationToken", next)
            )
        }
        Dialect::Azure => {
            let keys: String = keys.iter().map(|key| format!("<Blob><Name>{key}</Name><Properties><Last-Modified>Sun, 01 Nov 2026 00:00:00 GMT</Last-Modified><Content-Length>1</Content-Length><Content-Type>x</Content-Type><Etag>1</Etag></Properties></Blob>")).collect();
            format!(
                "<EnumerationResults><Blobs>{keys}</Blobs>{}</EnumerationResults>",
                token("NextMarker", next)
            )
        }
    };
    let endpoint = Endpoint::start(move |request: &Request, _| {
        assert!(request.lists(), "{}", request.path);
        Reply::Body(body.clone())
    })
    .await;
    let listed = endpoint
        .destination(dialect)
        .list(&"a".parse().unwrap(), None)
        .await;
    let shown = format!("{listed:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    listed
}

fn token(name: &str, next: &str) -> String {
    match next {
        "" => String::new(),
        next => format!("<{name}>{next}</{name}>"),
    }
}

fn is_answer(listed: Result<Page, DestinationError>) {
    let error = listed.unwrap_err();
    assert!(matches!(error, DestinationError::Answer { .. }), "{error}");
    assert!(!error.is_retryable());
}
