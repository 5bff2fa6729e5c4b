//! Whose credentials are taken, and what is said where there are none.

use rekey_destinations::{Created, DestinationError, Environment, open_with};

use crate::{
    endpoint::{CANARY, Endpoint, Reply},
    suite::name,
};

const ROLE: &str = "{\"AccessKeyId\": \"A\", \"SecretAccessKey\": \"S\", \"Token\": \"T\", \"Expiration\": \"2099-01-01T00:00:00Z\"}";

#[tokio::test]
async fn a_role_of_a_container_is_taken() {
    let giving = Endpoint::start(|_, _| Reply::Body(ROLE.to_owned())).await;
    let made = create_with(&giving.url).await;
    assert_eq!(made, Ok(Created::Created));
    assert_eq!(giving.requests(), 1);
}

#[tokio::test]
async fn credentials_that_are_refused_are_told_as_such() {
    let giving = Endpoint::start(|_, _| Reply::Refused(403, "AccessDenied")).await;
    let error = create_with(&giving.url).await.unwrap_err();
    assert!(
        matches!(error, DestinationError::Credentials { .. }),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn where_credentials_cannot_be_had_it_is_not_the_service_that_is_blamed() {
    for reply in [
        || Reply::Reset,
        || Reply::Refused(500, CANARY),
        || Reply::Noise,
    ] {
        let giving = Endpoint::start(move |_, _| reply()).await;
        let error = create_with(&giving.url).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        let shown = error.to_string();
        assert!(shown.contains("credentials cannot be had"), "{shown}");
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

#[test]
fn half_of_a_key_is_no_key() {
    for half in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        let environment = |variable: &str| (variable == half).then(|| CANARY.to_owned());
        let url = "s3://bucket?region=r".parse().unwrap();
        let error = open_with(&url, Environment::new(&environment))
            .err()
            .unwrap();
        assert!(
            matches!(error, DestinationError::Configuration { .. }),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains(CANARY));
    }
}

#[test]
fn a_key_of_azure_that_is_none_is_told_and_not_shown() {
    let environment =
        |variable: &str| (variable == "AZURE_STORAGE_KEY").then(|| format!("{CANARY}!"));
    let url = "az://container?account=clinic".parse().unwrap();
    let error = open_with(&url, Environment::new(&environment))
        .err()
        .unwrap();
    assert!(
        matches!(error, DestinationError::Configuration { .. }),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains(CANARY));
}

#[tokio::test]
async fn no_variable_turns_create_only_off() {
    let endpoint = Endpoint::start(|request, _| {
        assert!(!request.is("PUT") || request.create_only);
        Reply::Done
    })
    .await;
    let environment = |variable: &str| match variable {
        "AWS_CONDITIONAL_PUT" => Some("disabled".to_owned()),
        "AWS_ENDPOINT_URL" | "AWS_ENDPOINT" => Some("http://127.0.0.1:1".to_owned()),
        "AWS_SKIP_SIGNATURE" | "AWS_S3_EXPRESS" => Some("true".to_owned()),
        _ => Some("r".to_owned())
            .filter(|_| ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].contains(&variable)),
    };
    let url = format!(
        "s3://bucket/p?region=r&endpoint={}&allow-http=true",
        endpoint.url
    );
    let destination = open_with(&url.parse().unwrap(), Environment::new(&environment)).unwrap();
    let made = destination.create(&name("a/b"), b"1").await;
    assert_eq!(made, Ok(Created::Created));
}

/// Makes an object as who has a role that is given out there.
async fn create_with(giving: &str) -> Result<Created, DestinationError> {
    let endpoint = Endpoint::start(|_, _| Reply::Done).await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "token").unwrap();
    let environment = |variable: &str| match variable {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI" => Some(format!("{giving}/role")),
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" => token.path().to_str().map(str::to_owned),
        _ => None,
    };
    let url = format!(
        "s3://bucket/p?region=r&endpoint={}&allow-http=true",
        endpoint.url
    );
    let destination = open_with(&url.parse().unwrap(), Environment::new(&environment)).unwrap();
    destination.create(&name("a/b"), b"1").await
}
