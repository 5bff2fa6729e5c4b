//! What a URL of a database may say: where its password ends, and how a file of SQLite is opened.

/// What is wrong with a URL of which [`may_show_password`] says so, and what helps.
pub const PASSWORD_NOT_ENCODED: &str = "has an @ behind its host, as if its password ended too early: write / as %2F, ? as %3F, # as %23 and @ as %40 in user and password";

/// What is wrong with a pooler that gives a session another connection of the server each time, and what helps.
pub const SHARED_SESSIONS: &str = "a pooler is in between that gives each transaction or statement any of its connections, and Rekey's sessions have settings and locks of their own; connect to the server itself, or have the pooler give each client one of its own for as long as it stays (pgbouncer: pool_mode = session)";

/// What the URL of a RabbitMQ node may say behind its `?`.
pub const BROKER_PARAMETERS: [&str; 6] = [
    "heartbeat",
    "cacertfile",
    "auth_mechanism",
    "channel_max",
    "frame_max",
    "connection_timeout",
];

/// Whether a password may be in a part of the URL that is shown: a `/`, `?` or `#` in the password ends its part early,
/// and the rest looks like a path. SQLite files have no passwords.
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

/// What is wrong with the parameters of a SQLite database's URL; `modes` are the allowed ones. Other parameters would
/// make us see less of the file than the application, or lock it in another way.
pub fn sqlite_parameter_problem(url: &str, modes: &[&str]) -> Option<&'static str> {
    let (_, query) = url.split_once('?')?;
    let mut said = query.split('&').filter(|said| !said.is_empty());
    said.find_map(|said| match said.split_once('=').unwrap_or((said, "")) {
        ("mode", mode) if modes.contains(&mode) => None,
        ("mode", _) => Some(
            "has a mode that is none for it; expected mode=rw, which it is without, mode=ro for a source that is only read, or mode=rwc for a store",
        ),
        ("immutable", _) => Some(
            "says immutable: what was written last is in a file beside it, which would not be read; leave that out",
        ),
        ("vfs" | "nolock" | "cache", _) => Some(
            "says vfs, nolock or cache: every program has to lock the file alike, and wait for the others; leave that out",
        ),
        _ => Some("has an unknown parameter; expected none but mode"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_as_the_application_opens_it() {
        let problem = |parameters: &str| {
            let url = format!("sqlite:///srv/clinic.db{parameters}");
            sqlite_parameter_problem(&url, &["rw", "ro"])
        };
        for allowed in ["", "?", "?mode=rw", "?mode=ro&", "?mode=ro&mode=rw"] {
            assert_eq!(problem(allowed), None, "{allowed}");
        }
        for (refused, because) in [
            ("?immutable=1", "immutable"),
            ("?mode=ro&immutable=0", "immutable"),
            ("?%69mmutable=1", "unknown"),
            ("?immutable", "immutable"),
            ("?vfs=unix-none", "lock"),
            ("?nolock=1", "lock"),
            ("?cache=shared", "lock"),
            ("?mode=memory", "mode"),
            ("?mode=rwc", "mode"),
            ("?mode=rw?immutable=1", "mode"),
            ("?Mode=rw", "unknown"),
        ] {
            let problem = problem(refused).unwrap_or_default();
            assert!(problem.contains(because), "{refused}: {problem}");
        }
    }

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
