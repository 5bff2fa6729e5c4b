//! Logs on stderr, for people; `REKEY_LOG` says how much.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. `quiet` is the level where `REKEY_LOG` says nothing.
pub fn init(quiet: &str) {
    // What lapin calls an error it also answers us with, and we say it in our words if it is one. The
    // driver shows what it does not know of a URL, be it a misspelt password.
    let quiet = format!("{quiet},lapin=off,sqlx_postgres::options::parse=off");
    let filter = EnvFilter::try_from_env("REKEY_LOG").unwrap_or_else(|_| EnvFilter::new(quiet));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A second call, as in tests, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .try_init();
}
