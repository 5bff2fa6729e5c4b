//! A URL that may hold a password: shown without it.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A URL of a service. `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct SecretUrl(SecretString);

impl SecretUrl {
    /// The whole URL, to connect with.
    pub fn expose_url(&self) -> &str {
        self.0.expose_secret()
    }

    /// The URL without its passwords, to store and to show.
    pub fn without_password(&self) -> String {
        let url = self.expose_url();
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let kept: Vec<&str> = query.split('&').filter(|it| !is_secret(it)).collect();
        match kept.join("&").as_str() {
            "" => without_userinfo_password(place),
            query => format!("{}?{query}", without_userinfo_password(place)),
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
        Self(url.into())
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
        ] {
            let secret = SecretUrl::from(url.to_owned());
            assert_eq!(secret.without_password(), shown);
            assert_eq!(secret.expose_url(), url);
            assert_eq!(secret.has_password(), url != shown);
            assert!(!format!("{secret:?} {secret}").contains("ter2"));
        }
    }
}
