//! The identities of databases, tables and columns, whatever they are called and however they are reached.

use std::str::FromStr;

use sqlx::{
    PgConnection,
    postgres::{PgConnectOptions, types::Oid},
};

use super::{
    catalogue::Table,
    faults::{self, Located},
};
use crate::{CensusColumn, SourceError, place::Place};

/// A standby and a pooler have those of their primary; a copy by `pg_dump` has others.
const DATABASE: &str = "\
    SELECT s.system_identifier::pg_catalog.text || '/' || d.oid::pg_catalog.text \
    FROM pg_catalog.pg_control_system() AS s, pg_catalog.pg_database AS d \
    WHERE d.datname = pg_catalog.current_database()";
/// Its number at its server, which anyone may ask for.
const NUMBER: &str = "\
    SELECT d.oid::pg_catalog.text FROM pg_catalog.pg_database AS d \
    WHERE d.datname = pg_catalog.current_database()";
/// No two servers started at the same microsecond, and anyone may ask.
const INSTANCE: &str = "\
    SELECT pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())::pg_catalog.text \
        || '/' || d.oid::pg_catalog.text \
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()";
const TABLE: &str = "\
    SELECT pg_catalog.quote_ident(n.nspname::pg_catalog.text) || '.' || pg_catalog.quote_ident(c.relname::pg_catalog.text) \
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE c.oid = $1 AND c.relkind IN ('r', 'p')";

/// What the database is known by; None where our role may not ask.
pub(super) async fn of_database(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<Option<String>, SourceError> {
    let found = sqlx::query_scalar(DATABASE).fetch_one(connection);
    match found.await {
        Err(error) if faults::is_forbidden(&error) => Ok(None),
        found => found.at(place).map(Some),
    }
}

/// What a session's database is known by, as far as our role may ask.
pub(super) async fn of_session(connection: &mut PgConnection) -> sqlx::Result<String> {
    match sqlx::query_scalar(DATABASE)
        .fetch_one(&mut *connection)
        .await
    {
        Err(error) if faults::is_forbidden(&error) => {
            sqlx::query_scalar(NUMBER).fetch_one(connection).await
        }
        found => found,
    }
}

/// What tells the database from every other that can be reached now.
pub(super) async fn of_instance(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<String, SourceError> {
    let found = sqlx::query_scalar(INSTANCE).fetch_one(connection);
    found.await.at(place)
}

/// What the table of this number is called now, as SQL.
pub(super) async fn name_of(
    connection: &mut PgConnection,
    oid: i64,
    place: &Place,
) -> Result<Option<String>, SourceError> {
    let Ok(oid) = u32::try_from(oid) else {
        return Ok(None);
    };
    let found = sqlx::query_scalar(TABLE).bind(Oid(oid));
    found.fetch_optional(connection).await.at(place)
}

const COLUMN: &str = "\
    SELECT pg_catalog.quote_ident(n.nspname::pg_catalog.text) || '.' || pg_catalog.quote_ident(c.relname::pg_catalog.text) \
        , a.attname::pg_catalog.text \
    FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE a.attrelid = $1 AND a.attnum = $2 AND NOT a.attisdropped";

/// Checks that each column is the one that was noted.
///
/// # Errors
/// [`SourceError::Replaced`] says what became of the noted column. If it was dropped, its values may be elsewhere now.
pub(super) async fn check(
    connection: &mut PgConnection,
    table: &Table,
    columns: &[CensusColumn],
    known: &[Option<String>],
) -> Result<(), SourceError> {
    for (column, before) in columns.iter().zip(known) {
        let Some(before) = before else { continue };
        if table.shape.identity(&column.name).as_ref() == Some(before) {
            continue;
        }
        let now = column_of(connection, before, &table.place).await?;
        return Err(SourceError::Replaced {
            relation: table.place.relation.clone(),
            column: column.name.clone(),
            what: match now {
                Some((relation, now)) => format!("that is {relation}.{now} now"),
                None => "that was dropped".to_owned(),
            },
        });
    }
    Ok(())
}

/// What the column of this identity is called now; None where it was dropped.
pub(super) async fn column_of(
    connection: &mut PgConnection,
    identity: &str,
    place: &Place,
) -> Result<Option<(String, String)>, SourceError> {
    let numbers = identity.split_once('.');
    let numbers = numbers.and_then(|(table, column)| {
        Some((table.parse::<u32>().ok()?, column.parse::<i16>().ok()?))
    });
    let Some((table, column)) = numbers else {
        return Ok(None);
    };
    let found = sqlx::query_as(COLUMN).bind(Oid(table)).bind(column);
    found.fetch_optional(connection).await.at(place)
}

/// Where a URL leads, whoever comes and however; None if it cannot be read.
pub(crate) fn place_of(url: &str) -> Option<String> {
    let options = PgConnectOptions::from_str(url).ok()?;
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or(options.get_username());
    Some(format!("{host}:{}/{database}", options.get_port()))
}
