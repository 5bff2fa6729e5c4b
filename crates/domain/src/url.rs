//! Where in a URL the password ends.

/// What is wrong with a URL of which [`may_show_password`] says so, and what helps.
pub const PASSWORD_NOT_ENCODED: &str = "has an @ behind its host, as if its password ended too early: write / as %2F, ? as %3F, # as %23 and @ as %40 in user and password";

/// Whether a password may stand where nobody looks for one: a `/`, `?` or `#` in it ends the part that
/// holds it, and the rest would be shown as a path. Files of SQLite have no passwords.
pub fn may_show_password(url: &str) -> bool {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    if scheme == "sqlite" {
        return false;
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return rest.contains('@');
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[end..].contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_at_behind_the_host_may_be_the_end_of_a_password() {
        for url in [
            "postgres://u:12/hunter2@host/db",
            "postgres://u:12?hunter2@host/db",
            "postgres://u:12#hunter2@host/db",
            "postgres://u:p@ss/word@host/db",
            "postgres://host/db?user=ana@clinic",
            "postgres:ana:hunter2@host/db",
            "amqp://ana:a/b@mq/%2f",
            "ana:hunter2@host",
        ] {
            assert!(may_show_password(url), "{url}");
        }
        for url in [
            "postgres://u:12%2Fhunter2@host/db?sslmode=require",
            "postgres://u:hun@ter2@host/db",
            "postgres://host/db",
            "postgres:///db?host=/run",
            "amqps://ana:s3cret@mq",
            "sqlite:///var/lib/a@b:c.db",
            "sqlite:a@b.db",
            "local",
        ] {
            assert!(!may_show_password(url), "{url}");
        }
    }
}
