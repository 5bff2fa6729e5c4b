//! What a service said, in the few words that we know. None of its own words goes any further.

use std::fmt;

use reqwest::StatusCode;

/// An answer that is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("status {status}, {code}")]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) code: Code,
}

/// More bytes than any answer to us has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes")]
pub(super) struct TooManyBytes;

/// Credentials could not be had from where they are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no credentials")]
pub(super) struct NoCredentials {
    /// Whether that place said so, and did not only fail.
    pub(super) refused: bool,
}

/// What a service's error code means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// There is no such bucket or container.
    NoPlace,
    /// It does not know the key, or the signature is none of it.
    Unknown,
    /// What was given has expired, or our clock is wrong.
    Expired,
    /// Another, or none.
    Other,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPlace => "no such place",
            Self::Unknown => "credentials that are not known",
            Self::Expired => "credentials that have expired",
            Self::Other => "for another reason",
        })
    }
}

impl Answered {
    /// S3 says its code in XML, Azure in a header, too.
    pub(super) fn new(status: StatusCode, header: Option<&str>, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let in_body = || {
            let (_, rest) = body.split_once("<Code>")?;
            Some(rest.split_once("</Code>")?.0)
        };
        let code = header.or_else(in_body).map_or(Code::Other, Code::of);
        Self {
            status: status.as_u16(),
            code,
        }
    }
}

impl Code {
    fn of(text: &str) -> Self {
        match text {
            "NoSuchBucket"
            | "ContainerNotFound"
            | "ContainerBeingDeleted"
            | "ContainerDisabled" => Self::NoPlace,
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "InvalidClientTokenId"
            | "AuthenticationFailed"
            | "InvalidAuthenticationInfo"
            | "NoAuthenticationInformation" => Self::Unknown,
            "ExpiredToken"
            | "ExpiredTokenException"
            | "TokenRefreshRequired"
            | "RequestTimeTooSkewed"
            | "RequestExpired" => Self::Expired,
            _ => Self::Other,
        }
    }
}
