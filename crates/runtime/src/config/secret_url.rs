//! A URL that may hold a password: shown without it, and read anew from its file.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use rekey_domain::{PASSWORD_NOT_ENCODED, io_words, may_show_password};
use secrecy::{ExposeSecret, SecretString};

/// URLs are short; what is longer is not one.
const FILE_LIMIT: u64 = 4_096;

/// A URL of a service. `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct SecretUrl {
    url: SecretString,
    /// Where it was read; what stands there now may be another.
    file: Option<PathBuf>,
}

impl SecretUrl {
    /// The whole URL, to connect with.
    pub fn expose_url(&self) -> &str {
        self.url.expose_secret()
    }

    /// The URL that stands in a file.
    ///
    /// # Errors
    /// What is wrong with the file, without a word of what stands in it.
    pub fn in_file(file: &Path) -> Result<Self, String> {
        let mut text = String::new();
        let read =
            File::open(file).and_then(|open| open.take(FILE_LIMIT + 1).read_to_string(&mut text));
        match read {
            Err(error) => Err(format!(
                "{file:?} cannot be read: {}; expected a file with the URL in it",
                io_words(&error)
            )),
            Ok(length) if length as u64 > FILE_LIMIT => Err(format!(
                "{file:?} has more than {FILE_LIMIT} bytes; expected a file with only the URL in it"
            )),
            Ok(_) if text.trim().is_empty() => Err(format!(
                "{file:?} is empty; expected a file with the URL in it"
            )),
            Ok(_) if may_show_password(text.trim()) => {
                Err(format!("the URL in {file:?} {PASSWORD_NOT_ENCODED}"))
            }
            Ok(_) => Ok(Self {
                url: text.trim().into(),
                file: Some(file.to_owned()),
            }),
        }
    }

    /// The URL as it is now: where it stands in a file, what stands there. The file is small.
    ///
    /// # Errors
    /// As [`SecretUrl::in_file`].
    pub fn now(&self) -> Result<Self, String> {
        match &self.file {
            Some(file) => Self::in_file(file),
            None => Ok(self.clone()),
        }
    }

    /// The URL without its passwords, to store and to show.
    pub fn without_password(&self) -> String {
        let url = self.expose_url();
        if may_show_password(url) {
            let (scheme, _) = url.split_once(':').unwrap_or_default();
            return format!("{scheme}:…");
        }
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let kept: Vec<&str> = query.split('&').filter(|it| !is_secret(it)).collect();
        match kept.join("&").as_str() {
            "" => without_userinfo_password(place),
            kept => format!("{}?{kept}", without_userinfo_password(place)),
        }
    }

    /// The same, without its user either: who reaches the place differs.
    pub fn without_login(&self) -> String {
        let url = self.without_password();
        let Some((scheme, rest)) = url
            .split_once("://")
            .filter(|_| url.starts_with("postgres"))
        else {
            return url;
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let kept = query.split('&').filter(|it| !it.starts_with("user="));
        match kept.collect::<Vec<_>>().join("&").as_str() {
            "" => format!("{scheme}://{host}{path}"),
            kept => format!("{scheme}://{host}{path}?{kept}"),
        }
    }

    /// Whether it holds one.
    pub fn has_password(&self) -> bool {
        self.without_password() != self.expose_url()
    }
}

/// Whether a parameter of a query is a password.
fn is_secret(parameter: &str) -> bool {
    let (name, _) = parameter.split_once('=').unwrap_or((parameter, ""));
    name.to_ascii_lowercase().contains("password")
}

fn without_userinfo_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((user, host)) = authority.rsplit_once('@') else {
        return url.to_owned();
    };
    let user = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}@{host}{path}")
}

impl From<String> for SecretUrl {
    fn from(url: String) -> Self {
        Self {
            url: url.into(),
            file: None,
        }
    }
}

impl PartialEq for SecretUrl {
    fn eq(&self, other: &Self) -> bool {
        self.expose_url() == other.expose_url()
    }
}

impl Eq for SecretUrl {}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({})", self.without_password())
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_password())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_in_a_file_is_what_stands_there_now() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("url");
        std::fs::write(&file, "postgres://ana:old@db/x\n").unwrap();
        let url = SecretUrl::in_file(&file).unwrap();
        std::fs::write(&file, "postgres://ana:new@db/x\n").unwrap();
        assert_eq!(url.expose_url(), "postgres://ana:old@db/x");
        assert_eq!(url.now().unwrap().expose_url(), "postgres://ana:new@db/x");
        std::fs::write(&file, " \n").unwrap();
        assert!(url.now().unwrap_err().contains("is empty"));
        std::fs::write(&file, "postgres://ana:12/hunter2@db/x").unwrap();
        let error = url.now().unwrap_err();
        assert!(
            error.contains("%2F") && !error.contains("hunter2"),
            "{error}"
        );
        std::fs::remove_file(&file).unwrap();
        assert!(url.now().unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn without_a_login_two_who_reach_one_place_say_the_same() {
        for url in [
            "postgres://ana:secret@db/x?sslmode=require",
            "postgres://rekey_operator@db/x?sslmode=require",
            "postgres://db/x?user=ana&sslmode=require",
        ] {
            let without = SecretUrl::from(url.to_owned()).without_login();
            assert_eq!(without, "postgres://db/x?sslmode=require");
        }
        let file = "sqlite:///var/lib/ana@clinic/store.db?mode=rw";
        assert_eq!(SecretUrl::from(file.to_owned()).without_login(), file);
    }

    #[test]
    fn a_password_is_neither_shown_nor_stored() {
        for (url, shown) in [
            (
                "postgres://ana:hunter2@db:5432/x?sslmode=require",
                "postgres://ana@db:5432/x?sslmode=require",
            ),
            ("amqps://ana:hun@ter2@mq/%2f", "amqps://ana@mq/%2f"),
            ("postgres://db/x", "postgres://db/x"),
            (
                "postgres://ana@db/x?password=hunter2",
                "postgres://ana@db/x",
            ),
            (
                "postgres:///x?host=/run&password=hunter2&user=ana",
                "postgres:///x?host=/run&user=ana",
            ),
            ("sqlite:///var/lib/a@b:c.db", "sqlite:///var/lib/a@b:c.db"),
            ("sqlite:clinic.db", "sqlite:clinic.db"),
            (
                "postgres://db/x?user=ana&password=hunter2&sslmode=require",
                "postgres://db/x?user=ana&sslmode=require",
            ),
            ("postgres://db/x?password=hunter2", "postgres://db/x"),
            ("postgres://ana:12/hunter2@db/x", "postgres:…"),
            ("postgres://ana:12?hunter2@db/x", "postgres:…"),
            ("postgres:ana:hunter2@db/x", "postgres:…"),
            ("amqp://ana:12#hunter2@mq/%2f", "amqp:…"),
            ("ana@db hunter2", ":…"),
        ] {
            let secret = SecretUrl::from(url.to_owned());
            assert_eq!(secret.without_password(), shown);
            assert_eq!(secret.expose_url(), url);
            assert_eq!(secret.has_password(), url != shown);
            assert!(!format!("{secret:?} {secret}").contains("ter2"));
        }
    }
}
