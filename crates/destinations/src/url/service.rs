//! S3 and Azure, as URLs tell them apart.

use crate::name::is_part;

/// Where objects are kept by a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Objects {
    pub(crate) service: Service,
    /// The bucket or container.
    pub(crate) container: String,
    /// Before each name, without a slash at its end; empty: none.
    pub(crate) prefix: String,
    /// The region, or the account.
    pub(crate) home: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) allow_http: bool,
}

/// Who keeps objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    Azure,
}

impl Service {
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Azure => "az",
        }
    }

    /// The name of the parameter that says the region, or the account.
    pub(super) fn home(self) -> &'static str {
        match self {
            Self::S3 => "region",
            Self::Azure => "account",
        }
    }

    pub(super) fn parameters(self) -> &'static str {
        match self {
            Self::S3 => "region, endpoint and allow-http",
            Self::Azure => "account, endpoint and allow-http",
        }
    }

    pub(super) fn container(self) -> &'static str {
        match self {
            Self::S3 => "a bucket of 3 to 63 lower-case letters, digits, - and single dots",
            Self::Azure => "a container of 3 to 63 lower-case letters, digits and single hyphens",
        }
    }

    pub(super) fn is_container(self, text: &str) -> bool {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let ends = ends(text.chars().next()) && ends(text.chars().last());
        let own = match self {
            Self::S3 => !text.ends_with("--x-s3"),
            Self::Azure => !text.contains('.') && !text.contains("--"),
        };
        (3..=63).contains(&text.len()) && is_part(text) && ends && own
    }
}
