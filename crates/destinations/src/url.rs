//! A destination as it is configured: a URL without secrets.

mod parameters;
mod refused;
mod service;

use std::{fmt, path::PathBuf, str::FromStr};

use parameters::take_parameters;
use refused::MAX_PREFIX;
pub use refused::NotADestinationUrl;
pub(crate) use service::{Objects, Service};

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

impl DestinationUrl {
    pub(crate) fn parsed(&self) -> &Parsed {
        &self.0
    }
}

/// What keeps the objects, for who grants rights there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper<'a> {
    /// A directory of the machine.
    Directory,
    /// A bucket of S3, and what is before each name there.
    S3 {
        /// The bucket.
        bucket: &'a str,
        /// Without a slash at its end; empty: none.
        prefix: &'a str,
    },
    /// A container of Azure.
    Azure {
        /// The container.
        container: &'a str,
        /// The account; none: the environment says it.
        account: Option<&'a str>,
    },
}

impl DestinationUrl {
    /// What keeps the objects.
    pub fn keeper(&self) -> Keeper<'_> {
        let at = match &self.0 {
            Parsed::Directory(_) => return Keeper::Directory,
            Parsed::Objects(at) => at,
        };
        match at.service {
            Service::S3 => Keeper::S3 {
                bucket: &at.container,
                prefix: &at.prefix,
            },
            Service::Azure => Keeper::Azure {
                container: &at.container,
                account: at.home.as_deref(),
            },
        }
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
