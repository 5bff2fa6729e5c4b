//! What an answer of AWS KMS means for us. Of its text nothing is shown but ARNs and known codes.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::{
    config::http::HttpResponse,
    error::{ConnectorError, ProvideErrorMetadata, SdkError},
};
use rekey_domain::KeyId;

use super::arn;
use crate::KmsError;

/// What [`MasterKeyInfo`](crate::MasterKeyInfo) and errors call it.
pub(super) const PROVIDER: &str = "aws";

/// What went wrong with a request about `master_key` as it is configured, and about the data key
/// `key_id` where a wrapped key was sent.
pub(super) fn of_sdk<E: ProvideErrorMetadata>(
    error: &SdkError<E>,
    master_key: &str,
    key_id: Option<KeyId>,
) -> KmsError {
    match error {
        SdkError::ServiceError(service) => {
            of_service(service.err(), service.raw(), master_key, key_id)
        }
        SdkError::TimeoutError(_) => out_of_reach("no answer in time"),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(failed) => of_dispatch(failed),
            None => out_of_reach("the request could not be sent"),
        },
        SdkError::ResponseError(_) => malformed(),
        _ => KmsError::Refused {
            provider: PROVIDER,
            reason: "no request could be made; check region and endpoint_url".to_owned(),
        },
    }
}

/// An answer that is cut, or is not one of this service.
pub(super) fn malformed() -> KmsError {
    out_of_reach("its answer was cut or malformed")
}

fn out_of_reach(reason: impl Into<String>) -> KmsError {
    KmsError::OutOfReach {
        provider: PROVIDER,
        reason: reason.into(),
    }
}

fn of_dispatch(failure: &ConnectorError) -> KmsError {
    match in_chain::<CredentialsError>(failure.source()) {
        Some(error) => of_credentials(error),
        None if failure.is_timeout() => out_of_reach("no connection or answer in time"),
        None if failure.is_user() => KmsError::Refused {
            provider: PROVIDER,
            reason: "no request could be sent; check endpoint_url".to_owned(),
        },
        None => out_of_reach("the connection failed or was cut"),
    }
}

/// The first error of a chain that is a `T`.
fn in_chain<'a, T: Error + 'static>(first: Option<&'a (dyn Error + 'static)>) -> Option<&'a T> {
    let mut next = first;
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Missing or wrong credentials take a person. A provider of credentials that is out of reach comes back.
fn of_credentials(error: &CredentialsError) -> KmsError {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => credentials("it has no credentials"),
        CredentialsError::InvalidConfiguration(_) => {
            credentials("the configuration of its credentials is wrong")
        }
        _ => out_of_reach("no credentials were obtained from their provider"),
    }
}

fn credentials(reason: &'static str) -> KmsError {
    KmsError::Credentials {
        provider: PROVIDER,
        reason,
    }
}

fn of_service(
    error: &impl ProvideErrorMetadata,
    response: &HttpResponse,
    configured: &str,
    key_id: Option<KeyId>,
) -> KmsError {
    let message = error.message().unwrap_or_default();
    // A wrapped key may be under an earlier master key: where the service names one, it is that one.
    let master_key = arn::named_in(message).unwrap_or(configured).to_owned();
    let status = response.status().as_u16();
    match error.code().unwrap_or_default() {
        "ThrottlingException"
        | "Throttling"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => KmsError::Throttled { provider: PROVIDER },
        "KMSInternalException" => out_of_reach("it has an internal error"),
        "DependencyTimeoutException" => out_of_reach("something it depends on has no time"),
        "KeyUnavailableException" => out_of_reach("the master key is unavailable for now"),
        "AccessDeniedException" => KmsError::AccessDenied { master_key },
        "DisabledException" => KmsError::Disabled { master_key },
        "KMSInvalidStateException" => of_state(message, master_key),
        "NotFoundException" => KmsError::UnknownMasterKey {
            provider: PROVIDER,
            master_key,
        },
        "InvalidCiphertextException" | "IncorrectKeyException" => of_wrapped(key_id),
        "ExpiredTokenException" | "ExpiredToken" => credentials("its credentials have expired"),
        "RequestExpired" => credentials("its requests are out of date: check the clock"),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired" => credentials("its credentials are not valid"),
        _ if status == 429 => KmsError::Throttled { provider: PROVIDER },
        _ if status >= 500 => out_of_reach(format!("it answered with HTTP status {status}")),
        _ if (200..300).contains(&status) => malformed(),
        code => KmsError::Refused {
            provider: PROVIDER,
            reason: refusal(code, status),
        },
    }
}

/// There is one exception for every state that is neither enabled nor disabled; its message says which.
fn of_state(message: &str, master_key: String) -> KmsError {
    if message.to_ascii_lowercase().contains("deletion") {
        return KmsError::PendingDeletion { master_key };
    }
    KmsError::NotUsable {
        provider: PROVIDER,
        master_key,
    }
}

fn of_wrapped(key_id: Option<KeyId>) -> KmsError {
    match key_id {
        Some(key_id) => KmsError::WrongContext { key_id },
        None => malformed(),
    }
}

/// Known refusals in our words; for an unknown code only the status is shown.
fn refusal(code: &str, status: u16) -> String {
    match code {
        "InvalidKeyUsageException" => {
            "the master key is not for encryption; expected a symmetric key to encrypt and decrypt"
                .to_owned()
        }
        "InvalidArnException" | "ValidationException" => {
            "a name or value is not valid; check master_key in [kms]".to_owned()
        }
        "InvalidAliasNameException" => "the alias has no valid name".to_owned(),
        "AlreadyExistsException" => "the alias exists already".to_owned(),
        "TagException" | "MalformedPolicyDocumentException" | "UnsupportedOperationException" => {
            "its account does not allow a master key such as ours".to_owned()
        }
        _ => format!("it answered with HTTP status {status} and a code that is not known"),
    }
}
