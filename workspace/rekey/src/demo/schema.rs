//! A schema of the demo's own in a PostgreSQL database; what is there already is never touched.

use std::str::FromStr;

use anyhow::Context;
use rekey_domain::{PASSWORD_NOT_ENCODED, may_show_password};
use rekey_operations::OperationError;
use rekey_runtime::config::SecretUrl;
use rekey_sources::SourceError;
use rekey_store::is_postgres;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::exit::UsageError;

/// What it is called, in each database.
pub const SCHEMA: &str = "rekey_demo";
const DUPLICATE_SCHEMA: &str = "42P06";
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// A database, and the demo's schema in it.
pub struct Schema {
    url: SecretUrl,
    options: PgConnectOptions,
}

impl Schema {
    /// The schema in the database of this URL, which `flag` gave. Nothing is connected yet.
    pub fn at(url: &SecretUrl, flag: &str) -> Result<Self, UsageError> {
        let expected = || {
            UsageError(format!(
                "{flag}: expected such as postgres://rekey@db.clinic/rekey"
            ))
        };
        if may_show_password(url.expose_url()) {
            return Err(UsageError(format!("{flag} {PASSWORD_NOT_ENCODED}")));
        }
        let of_postgres = Some(url.expose_url()).filter(|url| is_postgres(url));
        let options = of_postgres.and_then(|text| PgConnectOptions::from_str(text).ok());
        let options = options.ok_or_else(expected)?.disable_statement_logging();
        let url = url.clone();
        Ok(Self { url, options })
    }

    /// Its database, for people.
    pub fn database(&self) -> String {
        let options = &self.options;
        let database = options.get_database().unwrap_or(options.get_username());
        let (host, port) = (options.get_host(), options.get_port());
        format!("PostgreSQL {database} at {host}:{port}")
    }

    /// The database's URL.
    pub fn url(&self) -> &SecretUrl {
        &self.url
    }

    /// How its database is connected to.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The URL of a store that lives in it and nowhere else.
    pub fn store_url(&self) -> SecretUrl {
        let url = self.url.expose_url();
        let and = if url.contains('?') { '&' } else { '?' };
        format!("{url}{and}options=-c%20search_path%3D{SCHEMA}").into()
    }

    /// Refuses a database where it is there.
    pub async fn refuse_if_there(&self) -> anyhow::Result<()> {
        if self.is_there().await? {
            return Err(self.is_there_already().into());
        }
        Ok(())
    }

    /// Whether it is there.
    pub async fn is_there(&self) -> anyhow::Result<bool> {
        // Says what is wrong with a database that cannot be worked with.
        rekey_sources::open(self.url.expose_url()).await?;
        let look = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)";
        let mut connection = self.connect().await?;
        let look = sqlx::query_scalar(look).bind(SCHEMA);
        let there = look.fetch_one(&mut connection).await;
        there.with_context(|| self.database())
    }

    /// Makes it; refused where it is there.
    pub async fn create(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let created = sqlx::query("CREATE SCHEMA rekey_demo").execute(&mut connection);
        let Err(error) = created.await else {
            return Ok(());
        };
        let code = error.as_database_error().and_then(|error| error.code());
        Err(match code.as_deref() {
            Some(DUPLICATE_SCHEMA) => self.is_there_already().into(),
            Some(INSUFFICIENT_PRIVILEGE) => self.may_not_create().into(),
            _ => anyhow::Error::new(error).context(self.database()),
        })
    }

    /// Removes it again if nothing is in it.
    pub async fn remove_empty(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let drop = sqlx::query("DROP SCHEMA rekey_demo RESTRICT").execute(&mut connection);
        drop.await.with_context(|| self.database())?;
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let connected = PgConnection::connect_with(&self.options).await;
        connected.with_context(|| self.database())
    }

    fn is_there_already(&self) -> OperationError {
        OperationError::Refused(format!(
            "schema {SCHEMA} is there already in {}, from another demo; nothing was changed. \
             DROP SCHEMA {SCHEMA} CASCADE there removes it, or name another database",
            self.database()
        ))
    }

    fn may_not_create(&self) -> SourceError {
        let (user, options) = (self.options.get_username(), &self.options);
        let database = options.get_database().unwrap_or(user);
        SourceError::NotAllowed {
            database: self.database(),
            relation: format!("schema {SCHEMA}"),
            what: "create",
            remedy: format!("GRANT CREATE ON DATABASE \"{database}\" TO \"{user}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_url_names_the_schema_whatever_else_it_says() {
        for (url, expected) in [
            (
                "postgres://db/x",
                "postgres://db/x?options=-c%20search_path%3Drekey_demo",
            ),
            (
                "postgresql://ana@db/x?sslmode=require",
                "postgresql://ana@db/x?sslmode=require&options=-c%20search_path%3Drekey_demo",
            ),
        ] {
            let schema = Schema::at(&url.to_owned().into(), "--database-url").unwrap();
            assert_eq!(schema.store_url().expose_url(), expected);
        }
    }

    #[test]
    fn what_is_no_url_of_postgresql_is_a_wrong_argument_and_not_shown() {
        for url in [
            "sqlite:///secret.db",
            "postgres://u:secret@db:port/x",
            "secret",
        ] {
            let error = Schema::at(&url.to_owned().into(), "--source-url")
                .err()
                .unwrap();
            assert!(error.0.starts_with("--source-url") && !error.0.contains("secret"));
        }
    }
}
