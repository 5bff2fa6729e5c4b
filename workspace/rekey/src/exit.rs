//! How the program ends: what each exit code means.

use std::fmt;

use rekey_broker::BrokerError;
use rekey_client::{ClientError, LeaseError};
use rekey_domain::{BindError, ColumnNameError, NameError};
use rekey_kms::KmsError;
use rekey_operations::OperationError;
use rekey_runtime::config::ConfigErrors;
use rekey_sources::SourceError;
use rekey_store::StoreError;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// It works, and a person is needed.
    PersonNeeded = 3,
    /// A safety rule refused it.
    Refused = 4,
    /// The store, a source or the KMS is out of reach or busy; the same again may succeed.
    OutOfReach = 5,
}

/// The command line asks for what cannot be.
#[derive(Debug)]
pub struct UsageError(pub String);

/// What was waited for did not come in time.
#[derive(Debug)]
pub struct NotInTime(pub String);

impl std::error::Error for UsageError {}
impl std::error::Error for NotInTime {}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NotInTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the store as such failed, which its error does not name.
pub fn is_of_the_store(error: &anyhow::Error) -> bool {
    use StoreError::{Database, Denied, DiskFull, OutOfReach};
    let is_as_such =
        |inner: &StoreError| matches!(inner, OutOfReach(_) | DiskFull | Denied(_) | Database(_));
    let of_store = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref() {
        Some(OperationError::Store(inner)) => Some(is_as_such(inner)),
        _ => cause.downcast_ref().map(is_as_such),
    };
    error.chain().find_map(of_store).unwrap_or(false)
}

/// The exit code for an error: that of the first cause that says one.
pub fn of_error(error: &anyhow::Error) -> Exit {
    error.chain().find_map(of_cause).unwrap_or(Exit::Failed)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(error) = cause.downcast_ref() {
        return Some(of_operation(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(of_store(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(of_client(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(of_source(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(of_kms(error));
    }
    if cause.is::<NotInTime>() {
        return Some(Exit::OutOfReach);
    }
    let usage = cause.is::<ConfigErrors>()
        || cause.is::<UsageError>()
        || cause.is::<NameError>()
        || cause.is::<ColumnNameError>()
        || cause.is::<BindError>();
    usage.then_some(Exit::Usage)
}

fn of_operation(error: &OperationError) -> Exit {
    match error {
        OperationError::Store(error) => of_store(error),
        OperationError::Kms(error) => of_kms(error),
        OperationError::Source(error) => of_source(error),
        OperationError::Client(error) => of_client(error),
        OperationError::Broker(error) => of_broker(error),
        OperationError::NotYet(_) => Exit::OutOfReach,
        OperationError::Destination(error) if error.is_retryable() => Exit::OutOfReach,
        OperationError::Destination(_) => Exit::Failed,
        OperationError::NotAllowed { .. }
        | OperationError::Refused(_)
        | OperationError::SignsOnly(_) => Exit::Refused,
        OperationError::NotASigningKey(_) | OperationError::Certificate(_) => Exit::Failed,
        OperationError::Unsaid { .. } | OperationError::NoMaterial { .. } => Exit::PersonNeeded,
        OperationError::Configuration { .. } => Exit::Usage,
    }
}

fn of_broker(error: &BrokerError) -> Exit {
    match error {
        BrokerError::Options { .. } => Exit::Usage,
        error => retry_or_failed(error.is_retryable()),
    }
}

fn of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Refused(_)
        | StoreError::Locked { .. }
        | StoreError::OtherName { .. }
        | StoreError::OpenSchema { .. }
        | StoreError::Denied(_) => Exit::Refused,
        StoreError::Unknown { .. }
        | StoreError::Schema { .. }
        | StoreError::Pooled { .. }
        | StoreError::Url
        | StoreError::UrlSays(_) => Exit::Usage,
        error => retry_or_failed(error.is_retryable()),
    }
}

fn of_kms(error: &KmsError) -> Exit {
    match error {
        KmsError::Configuration { .. } => Exit::Usage,
        error => retry_or_failed(error.is_retryable()),
    }
}

fn of_client(error: &ClientError) -> Exit {
    match error {
        ClientError::Lease(LeaseError::Unknown { .. }) | ClientError::Bind(_) => Exit::Usage,
        ClientError::Lease(
            LeaseError::Refused { .. }
            | LeaseError::Exhausted { .. }
            | LeaseError::NoPrimary { .. },
        )
        | ClientError::SignsOnly(_) => Exit::Refused,
        error => retry_or_failed(error.is_retryable()),
    }
}

fn of_source(error: &SourceError) -> Exit {
    match error {
        SourceError::NoSuchTable { .. }
        | SourceError::NoSuchColumn { .. }
        | SourceError::NotATable { .. }
        | SourceError::NoRowId { .. }
        | SourceError::CannotBind { .. }
        | SourceError::OtherName { .. }
        | SourceError::Pooled { .. }
        | SourceError::UnknownScheme { .. }
        | SourceError::BadUrl { .. } => Exit::Usage,
        error => retry_or_failed(error.is_retryable()),
    }
}

fn retry_or_failed(is_retryable: bool) -> Exit {
    if is_retryable {
        Exit::OutOfReach
    } else {
        Exit::Failed
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn exit_of(error: impl Into<anyhow::Error>) -> Exit {
        of_error(&error.into())
    }

    #[test]
    fn each_error_has_its_code() {
        let unknown = || StoreError::Unknown {
            what: "keyring x".to_owned(),
            known: Vec::new(),
        };
        assert_eq!(
            exit_of(OperationError::Refused(String::new())),
            Exit::Refused
        );
        assert_eq!(exit_of(OperationError::Store(unknown())), Exit::Usage);
        assert_eq!(exit_of(unknown()), Exit::Usage);
        assert_eq!(exit_of(StoreError::DiskFull), Exit::OutOfReach);
        assert_eq!(
            exit_of(KmsError::Throttled { provider: "local" }),
            Exit::OutOfReach
        );
        assert_eq!(
            exit_of(ConfigErrors {
                problems: Vec::new()
            }),
            Exit::Usage
        );
        assert_eq!(exit_of(UsageError(String::new())), Exit::Usage);
        assert_eq!(exit_of(anyhow::anyhow!("something else")), Exit::Failed);
    }

    #[test]
    fn context_does_not_hide_the_code() {
        let error = Err::<(), _>(StoreError::DiskFull)
            .context("cannot rotate")
            .unwrap_err();
        assert_eq!(of_error(&error), Exit::OutOfReach);
    }
}
