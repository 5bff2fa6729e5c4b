//! A destination as it is configured: a URL without secrets.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::name::is_part;

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
const MAX_PREFIX: usize = 500;

/// Where a destination is: `file:///var/lib/rekey/backups`, `s3://bucket/prefix` or `az://container/prefix`.
///
/// S3 takes `region`, Azure `account`; both take `endpoint`, for emulators and private endpoints, and `allow-http=true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationUrl(Parsed);

/// What a URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed {
    Directory(PathBuf),
    Objects(Objects),
}

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
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Azure => "az",
        }
    }

    /// The name of the parameter that says the region, or the account.
    fn home(self) -> &'static str {
        match self {
            Self::S3 => "region",
            Self::Azure => "account",
        }
    }

    fn parameters(self) -> &'static str {
        match self {
            Self::S3 => "region, endpoint and allow-http",
            Self::Azure => "account, endpoint and allow-http",
        }
    }

    fn container(self) -> &'static str {
        match self {
            Self::S3 => "a bucket of 3 to 63 lower-case letters, digits, - and single dots",
            Self::Azure => "a container of 3 to 63 lower-case letters, digits and single hyphens",
        }
    }

    fn is_container(self, text: &str) -> bool {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let ends = ends(text.chars().next()) && ends(text.chars().last());
        let own = match self {
            Self::S3 => !text.ends_with("--x-s3"),
            Self::Azure => !text.contains('.') && !text.contains("--"),
        };
        (3..=63).contains(&text.len()) && is_part(text) && ends && own
    }
}

impl DestinationUrl {
    pub(crate) fn parsed(&self) -> &Parsed {
        &self.0
    }
}

impl FromStr for DestinationUrl {
    type Err = NotADestinationUrl;

    fn from_str(text: &str) -> Result<Self, NotADestinationUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(NotADestinationUrl::Scheme)?;
        match scheme {
            "file" => directory(rest).map(Parsed::Directory).map(Self),
            "s3" => objects(Service::S3, rest).map(Self),
            "az" => objects(Service::Azure, rest).map(Self),
            _ => Err(NotADestinationUrl::Scheme),
        }
    }
}

/// Without parameters: they help nobody who reads it.
impl fmt::Display for DestinationUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Parsed::Directory(path) => write!(f, "file://{}", path.display()),
            Parsed::Objects(at) => {
                let slash = if at.prefix.is_empty() { "" } else { "/" };
                let scheme = at.service.scheme();
                write!(f, "{scheme}://{}{slash}{}", at.container, at.prefix)
            }
        }
    }
}

fn directory(path: &str) -> Result<PathBuf, NotADestinationUrl> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let allowed = |c: char| !c.is_control() && !"%?#".contains(c);
    let parts = path.strip_prefix('/').ok_or(NotADestinationUrl::Path)?;
    let whole = parts
        .split('/')
        .all(|part| !["", ".", ".."].contains(&part));
    if whole && path.chars().all(allowed) {
        return Ok(path.into());
    }
    Err(NotADestinationUrl::Path)
}

fn objects(service: Service, rest: &str) -> Result<Parsed, NotADestinationUrl> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (container, prefix) = path.split_once('/').unwrap_or((path, ""));
    if container.contains('@') {
        return Err(NotADestinationUrl::Credentials);
    }
    if !service.is_container(container) {
        let (scheme, expected) = (service.scheme(), service.container());
        return Err(NotADestinationUrl::Container { scheme, expected });
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() && !is_prefix(prefix) {
        return Err(NotADestinationUrl::Prefix);
    }
    let mut at = Objects {
        service,
        container: container.to_owned(),
        prefix: prefix.to_owned(),
        home: None,
        endpoint: None,
        allow_http: false,
    };
    take_parameters(&mut at, query)?;
    let in_clear = at.endpoint.iter().any(|to| to.starts_with("http://"));
    if in_clear && !at.allow_http {
        return Err(NotADestinationUrl::InClear);
    }
    Ok(Parsed::Objects(at))
}

fn is_prefix(prefix: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_part = |part: &str| {
        let pieces = part.split('.').all(|piece| !piece.is_empty());
        pieces && part.chars().all(allowed)
    };
    prefix.len() <= MAX_PREFIX && prefix.split('/').all(is_part)
}

fn take_parameters(at: &mut Objects, query: &str) -> Result<(), NotADestinationUrl> {
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let twice = seen.contains(&name);
        seen.push(name);
        match name {
            _ if twice => return Err(unknown(at.service, name)),
            "endpoint" => at.endpoint = Some(endpoint(value)?),
            "allow-http" => at.allow_http = allowed(value)?,
            _ if name == at.service.home() => at.home = Some(home(at.service, value)?),
            _ => return Err(unknown(at.service, name)),
        }
    }
    Ok(())
}

/// Names the parameter, if it can be a name at all.
fn unknown(service: Service, name: &str) -> NotADestinationUrl {
    let is_name = name.len() <= 30
        && name
            .chars()
            .all(|c| c.is_ascii_alphabetic() || "-_".contains(c));
    let found = if is_name { name } else { "…" };
    NotADestinationUrl::Parameter {
        known: service.parameters(),
        found: found.to_owned(),
    }
}

fn allowed(value: &str) -> Result<bool, NotADestinationUrl> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(NotADestinationUrl::Value {
            name: "allow-http",
            expected: "true or false",
        }),
    }
}

fn home(service: Service, value: &str) -> Result<String, NotADestinationUrl> {
    if !value.is_empty() && is_part(value) && !value.contains('.') {
        return Ok(value.to_owned());
    }
    let expected = match service {
        Service::S3 => "a region, such as eu-west-3",
        Service::Azure => "a storage account, of lower-case letters and digits",
    };
    let name = service.home();
    Err(NotADestinationUrl::Value { name, expected })
}

/// `https://host:port/path`, and nothing that would hide something.
fn endpoint(value: &str) -> Result<String, NotADestinationUrl> {
    let value = value.strip_suffix('/').unwrap_or(value);
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| value.strip_prefix(scheme));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/[]".contains(c);
    let whole = |text: &str| {
        let mut parts = text.split('/');
        text.chars().all(allowed) && parts.all(|part| !["", ".", ".."].contains(&part))
    };
    if value.contains('@') {
        return Err(NotADestinationUrl::Credentials);
    }
    if rest.is_some_and(whole) {
        return Ok(value.to_owned());
    }
    Err(NotADestinationUrl::Value {
        name: "endpoint",
        expected: "https://HOST, with a port and a path where there are any, and nothing else",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_parameters() {
        for (text, shown) in [
            (
                "file:///var/lib/rekey/backups",
                "file:///var/lib/rekey/backups",
            ),
            ("file:///mnt/My Backups/", "file:///mnt/My Backups"),
            ("s3://bucket", "s3://bucket"),
            ("s3://my.bucket/a/b_C/", "s3://my.bucket/a/b_C"),
            ("s3://bucket/p?region=eu-west-3", "s3://bucket/p"),
            ("az://container/p?account=clinic", "az://container/p"),
            (
                "s3://bucket?endpoint=http://127.0.0.1:5000&allow-http=true",
                "s3://bucket",
            ),
            ("az://abc?endpoint=https://h/acc&account=acc", "az://abc"),
        ] {
            let url = text.parse::<DestinationUrl>();
            assert_eq!(
                url.map(|url| url.to_string()),
                Ok(shown.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn whatever_else_it_is_it_is_refused_and_not_shown() {
        let secret = "hunter2";
        for text in [
            "",
            "hunter2",
            "/hunter2",
            "gs://hunter2",
            "FILE:///a",
            "S3://bucket",
            "http://hunter2",
            "file://hunter2",
            "file://localhost/hunter2",
            "file:///",
            "file:////a",
            "file:///a/../b",
            "file:///a//b",
            "file:///a/./b",
            "file:///a%2fb",
            "file:///a?b=hunter2",
            "file:///a#b",
            "file:///a\nb",
            "s3://",
            "s3://ab",
            "s3://Bucket",
            "s3://bu..cket",
            "s3://-bucket",
            "s3://../a",
            "s3://bucket--x-s3",
            "s3://AKIA:hunter2@bucket/p",
            "s3://bucket/../p",
            "s3://bucket//p",
            "s3://bucket/p%20",
            "s3://bucket/p#f",
            "s3://bucket?secret_access_key=hunter2",
            "s3://bucket?account=x",
            "s3://bucket?region=a&region=b",
            "s3://bucket?region=",
            "s3://bucket?region=EU",
            "s3://bucket?hunter2",
            "s3://bucket?x-hunter2=1",
            "s3://bucket?endpoint=http://h",
            "s3://bucket?endpoint=http://h&allow-http=false",
            "s3://bucket?endpoint=https://u:hunter2@h",
            "s3://bucket?endpoint=ftp://h",
            "s3://bucket?endpoint=https://",
            "s3://bucket?endpoint=https://h?sig=hunter2",
            "s3://bucket?endpoint=https://h/../x",
            "s3://bucket?allow-http",
            "az://con.tainer",
            "az://con--tainer",
            "az://container?sig=hunter2",
            "az://container?region=x",
            "az://user@container",
            "az://container?account=A.b",
        ] {
            let refused = text.parse::<DestinationUrl>().expect_err(text);
            let shown = format!("{refused} {refused:?}");
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
