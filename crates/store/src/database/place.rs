//! The store's URL names its place.

use std::{path::PathBuf, str::FromStr};

use sea_orm::sqlx::{postgres::PgConnectOptions, sqlite::SqliteConnectOptions};

/// Where the store is, for people: no password is shown.
pub(crate) fn place(url: &str) -> String {
    let postgres = is_postgres(url).then(|| PgConnectOptions::from_str(url));
    let Some(Ok(options)) = postgres else {
        let file = sqlite_file(url);
        // A relative one is another file elsewhere.
        let file = std::path::absolute(&file).unwrap_or(file);
        return format!("SQLite {}", file.display());
    };
    let database = options.get_database().unwrap_or(options.get_username());
    let (host, port) = (options.get_host(), options.get_port());
    format!("PostgreSQL {database} at {host}:{port}")
}

/// Whether the URL names a PostgreSQL database.
pub fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The file that a SQLite URL names.
pub fn sqlite_file(url: &str) -> PathBuf {
    // As SQLite reads it: a name may be written in more ways than one.
    let read = SqliteConnectOptions::from_str(url);
    read.map_or_else(
        |_| PathBuf::from(url),
        |file| file.get_filename().to_owned(),
    )
}
