//! Why a text is no destination.

/// A text that names no destination. Never shows it, as somebody may have put credentials there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotADestinationUrl {
    /// It begins otherwise.
    #[error("expected file:///…, s3://… or az://…, found another beginning")]
    Scheme,
    /// It holds a user or a password.
    #[error(
        "found a user or a password; expected none in it: credentials come from the environment (AWS_…, AZURE_…)"
    )]
    Credentials,
    /// The path of a directory is none that can be meant one way only.
    #[error(
        "expected file:// and an absolute path, such as file:///var/lib/rekey/backups, without //, . and .. as parts, and without %, ?, # and control characters"
    )]
    Path,
    /// The bucket or container is none.
    #[error("expected {expected} behind {scheme}://, found something else")]
    Container {
        /// Of which scheme.
        scheme: &'static str,
        /// What is expected.
        expected: &'static str,
    },
    /// What follows the bucket or container cannot be before names.
    #[error(
        "expected a prefix of letters, digits, -, _ and single dots, in parts with a slash between them, and at most {MAX_PREFIX} bytes"
    )]
    Prefix,
    /// A parameter that is not known, or comes twice.
    #[error("expected each of {known} at most once behind ?, found {found:?}")]
    Parameter {
        /// Those that there are.
        known: &'static str,
        /// Its name only.
        found: String,
    },
    /// A parameter says something that it cannot.
    #[error("{name}: expected {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What is expected.
        expected: &'static str,
    },
    /// Without TLS, and not said to be meant.
    #[error(
        "the endpoint is http: everything would travel in clear; where that is meant, as for an emulator, say allow-http=true"
    )]
    InClear,
}

/// The most bytes before names. A key of S3 and of Azure has at most 1024.
pub(super) const MAX_PREFIX: usize = 500;
