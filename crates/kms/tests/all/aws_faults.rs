//! Every fault of AWS KMS: what it means for us, whether it is asked again, and that nothing secret
//! comes out of it.

use std::time::{Duration, Instant};

use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future,
};
use rekey_kms::{AwsKms, Kms, KmsError, WrappedKey};
use tokio::net::TcpListener;

use crate::{
    aws::sdk_config,
    endpoint::{Endpoint, Reply},
    suite::context,
};

const ALIAS: &str = "alias/phi";
const OURS: &str = "arn:aws:kms:us-east-1:111122223333:key/ours";
const EARLIER: &str = "arn:aws:kms:us-east-1:111122223333:key/earlier";
const THEIRS: &str = "arn:aws:kms:us-east-1:999988887777:key/theirs";
/// Stands in messages of the service and in our credentials; must not stand in any error.
const CANARY: &str = "canary7f3a";
/// What one operation may take, by its limit of ten seconds.
const LIMIT: Duration = Duration::from_secs(12);

#[tokio::test]
async fn throttled_it_is_asked_again_and_goes_on() {
    let endpoint = Endpoint::start(|operation, before| match before {
        0 | 1 => exception(400, "ThrottlingException", CANARY),
        _ => success(operation),
    })
    .await;
    kms(&endpoint).generate_data_key(&context()).await.unwrap();
    assert_eq!(endpoint.requests(), 3);
}

#[tokio::test]
async fn what_passes_is_asked_three_times_and_may_be_asked_again() {
    let out_of_reach = |error: &KmsError| matches!(error, KmsError::OutOfReach { .. });
    let throttled = |error: &KmsError| matches!(error, KmsError::Throttled { .. });
    for (status, code) in [
        (400, "ThrottlingException"),
        (400, "LimitExceededException"),
        (400, "RequestLimitExceeded"),
    ] {
        let (error, requests) = fails(move || exception(status, code, CANARY)).await;
        assert!(throttled(&error) && error.is_retryable(), "{code}: {error}");
        assert_eq!(requests, 3, "{code}");
    }
    for (status, code) in [
        (500, "KMSInternalException"),
        (500, "KeyUnavailableException"),
        (503, "DependencyTimeoutException"),
        (500, "InternalFailure"),
        (503, "ServiceUnavailable"),
    ] {
        let (error, requests) = fails(move || exception(status, code, CANARY)).await;
        assert!(
            out_of_reach(&error) && error.is_retryable(),
            "{code}: {error}"
        );
        assert_eq!(requests, 3, "{code}");
    }
    let (error, requests) = fails(|| Reply::Json(503, format!("<html>{CANARY}"))).await;
    assert!(out_of_reach(&error) && requests == 3, "{error}");
    let (error, requests) = fails(|| Reply::Reset).await;
    assert!(out_of_reach(&error) && requests > 1, "{error}");
}

#[tokio::test]
async fn an_answer_that_is_cut_or_malformed_is_out_of_reach() {
    for reply in [
        || Reply::Cut,
        || Reply::Json(200, format!("{{\"Plaintext\": \"{CANARY}")),
        || Reply::Json(200, "{}".to_owned()),
        || Reply::Json(200, generated(&"A".repeat(40))),
    ] {
        let (error, _) = fails(reply).await;
        let out_of_reach = matches!(error, KmsError::OutOfReach { .. });
        assert!(out_of_reach && error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn one_that_hangs_is_given_up_in_time() {
    let started = Instant::now();
    let (error, requests) = fails(|| Reply::Hang).await;
    assert!(matches!(error, KmsError::OutOfReach { .. }), "{error}");
    assert!(error.is_retryable());
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    assert!(requests > 1);
}

#[tokio::test]
async fn nobody_there_is_out_of_reach() {
    let endpoint = Endpoint::start(|_, _| Reply::Reset).await;
    let kms = kms(&endpoint);
    drop(endpoint);
    let error = kms.generate_data_key(&context()).await.err().unwrap();
    assert!(matches!(error, KmsError::OutOfReach { .. }), "{error}");
}

/// Over https the SDK's own TLS is set up, whatever provider the process has or lacks.
#[tokio::test]
async fn an_endpoint_that_does_not_speak_tls_is_out_of_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let closing = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let sdk = sdk_config(&url, CANARY, CANARY);
    let kms = AwsKms::with_sdk_config(&sdk, ALIAS.parse().unwrap());
    let error = kms.generate_data_key(&context()).await.err().unwrap();
    assert!(matches!(error, KmsError::OutOfReach { .. }), "{error}");
    closing.abort();
}

#[tokio::test]
async fn what_takes_a_person_is_asked_once_and_says_what_helps() {
    let master_key = || EARLIER.to_owned();
    for (code, expected) in [
        (
            "AccessDeniedException",
            KmsError::AccessDenied {
                master_key: master_key(),
            },
        ),
        (
            "DisabledException",
            KmsError::Disabled {
                master_key: master_key(),
            },
        ),
        (
            "NotFoundException",
            KmsError::UnknownMasterKey {
                provider: "aws",
                master_key: master_key(),
            },
        ),
        (
            "InvalidCiphertextException",
            KmsError::WrongContext {
                key_id: context().key_id,
            },
        ),
        (
            "IncorrectKeyException",
            KmsError::WrongContext {
                key_id: context().key_id,
            },
        ),
    ] {
        let message = format!("{CANARY} {EARLIER} is what it is {CANARY}.");
        let (error, requests) = fails(move || exception(400, code, &message)).await;
        assert_eq!(error, expected, "{code}");
        assert!(!error.is_retryable(), "{code}");
        assert_eq!(requests, 1, "{code}");
    }
}

#[tokio::test]
async fn a_state_that_serves_nothing_is_told_by_its_message() {
    let invalid = |state: &str| {
        let message = format!("{EARLIER} is {state}.");
        fails(move || exception(400, "KMSInvalidStateException", &message))
    };
    let master_key = EARLIER.to_owned();
    let (error, requests) = invalid("pending deletion").await;
    assert_eq!(error, KmsError::PendingDeletion { master_key });
    assert!(!error.is_retryable() && requests == 1);
    let (error, _) = invalid("pending import").await;
    let not_usable = matches!(error, KmsError::NotUsable { .. });
    assert!(not_usable && !error.is_retryable(), "{error}");
}

#[tokio::test]
async fn credentials_that_are_not_taken_are_named_as_such() {
    for code in [
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
    ] {
        let (error, requests) = fails(move || exception(400, code, CANARY)).await;
        let credentials = matches!(error, KmsError::Credentials { .. });
        assert!(credentials && !error.is_retryable(), "{code}: {error}");
        assert_eq!(requests, 1, "{code}");
    }
}

#[tokio::test]
async fn a_code_that_is_not_known_is_refused_without_being_quoted() {
    for code in ["ValidationException", "InvalidKeyUsageException", CANARY] {
        let (error, _) = fails(move || exception(400, code, CANARY)).await;
        let refused = matches!(error, KmsError::Refused { .. });
        assert!(refused && !error.is_retryable(), "{code}: {error}");
    }
}

#[tokio::test]
async fn without_credentials_it_says_so() {
    let endpoint = Endpoint::start(|operation, _| success(operation)).await;
    let sdk = sdk_config(&endpoint.url, "", "").into_builder();
    let none = SharedCredentialsProvider::new(NoCredentials);
    let sdk = sdk.credentials_provider(none).build();
    let kms = AwsKms::with_sdk_config(&sdk, ALIAS.parse().unwrap());
    let error = kms.generate_data_key(&context()).await.err().unwrap();
    let credentials = matches!(error, KmsError::Credentials { .. });
    assert!(credentials && !error.is_retryable(), "{error}");
    assert_eq!(endpoint.requests(), 0);
}

#[tokio::test]
async fn a_wrapped_key_of_another_account_is_refused_although_it_opens() {
    let endpoint = Endpoint::start(|operation, _| match operation {
        "Decrypt" => Reply::Json(200, opened(THEIRS)),
        "ReEncrypt" => Reply::Json(200, rewrapped(THEIRS)),
        other => success(other),
    })
    .await;
    let kms = kms(&endpoint);
    let wrapped = WrappedKey::from(vec![1; 100]);
    let expected = KmsError::ForeignMasterKey {
        key_id: context().key_id,
        found: THEIRS.to_owned(),
        expected: "arn:aws:kms:us-east-1:111122223333".to_owned(),
    };
    assert!(!expected.is_retryable());
    for refused in [
        kms.decrypt(&wrapped, &context()).await.err(),
        kms.wrapped_by(&wrapped, &context()).await.err(),
        kms.rewrap(&wrapped, &context(), OURS).await.err(),
    ] {
        assert_eq!(refused.as_ref(), Some(&expected));
    }
}

#[tokio::test]
async fn a_wrapped_key_under_an_earlier_master_key_opens_and_the_account_is_asked_for_once() {
    let endpoint = Endpoint::start(|operation, _| match operation {
        "Decrypt" => Reply::Json(200, opened(EARLIER)),
        other => success(other),
    })
    .await;
    let kms = kms(&endpoint);
    for _ in 0..3 {
        let wrapped = WrappedKey::from(vec![1; 100]);
        kms.decrypt(&wrapped, &context()).await.unwrap();
    }
    assert_eq!(endpoint.requests(), 4, "one description, three openings");
}

/// Asks for what sends both a master key and a wrapped key, of an endpoint that always replies so.
async fn fails(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (KmsError, usize) {
    let endpoint = Endpoint::start(move |_, _| reply()).await;
    let wrapped = WrappedKey::from(vec![1; 100]);
    let error = kms(&endpoint).decrypt(&wrapped, &context()).await;
    let error = error.err().unwrap();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    (error, endpoint.requests())
}

fn kms(endpoint: &Endpoint) -> AwsKms {
    let secret = format!("secret-{CANARY}");
    let sdk = sdk_config(&endpoint.url, CANARY, &secret);
    AwsKms::with_sdk_config(&sdk, ALIAS.parse().unwrap())
}

fn exception(status: u16, code: &str, message: &str) -> Reply {
    let body = format!("{{\"__type\": \"{code}\", \"message\": \"{message}\"}}");
    Reply::Json(status, body)
}

fn success(operation: &str) -> Reply {
    let body = match operation {
        "DescribeKey" => {
            format!(
                "{{\"KeyMetadata\": {{\"KeyId\": \"ours\", \"Arn\": \"{OURS}\", \"KeyState\": \"Enabled\"}}}}"
            )
        }
        "Decrypt" => opened(OURS),
        _ => generated(&format!("{}=", "A".repeat(43))),
    };
    Reply::Json(200, body)
}

fn generated(plaintext: &str) -> String {
    format!(
        "{{\"KeyId\": \"{OURS}\", \"CiphertextBlob\": \"AQID\", \"Plaintext\": \"{plaintext}\"}}"
    )
}

fn opened(master_key: &str) -> String {
    format!(
        "{{\"KeyId\": \"{master_key}\", \"Plaintext\": \"{}=\"}}",
        "A".repeat(43)
    )
}

fn rewrapped(source: &str) -> String {
    format!(
        "{{\"KeyId\": \"{OURS}\", \"SourceKeyId\": \"{source}\", \"CiphertextBlob\": \"AQID\"}}"
    )
}

/// As where no environment, profile or machine has any.
#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let none = CredentialsError::not_loaded(CANARY);
        future::ProvideCredentials::ready(Err(none))
    }
}
