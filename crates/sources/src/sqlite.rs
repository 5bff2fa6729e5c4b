//! SQLite as a source: rows by rowid, one short write transaction at a time.

mod affinity;
mod catalogue;
mod census;
mod connections;
mod faults;
mod ranges;
mod read;
mod sql;
mod time;
mod triggers;
mod turns;
mod write;

use std::time::Duration;

use async_trait::async_trait;
use rekey_domain::{Found, Range, TextEncoding};
use sqlx::{Sqlite, pool::PoolConnection};

use self::{catalogue::Table, connections::Connections, faults::Place, turns::Turns};
use crate::{Deadline, Page, ReadQuery, RowUpdate, Source, SourceError, TableShape, WriteOutcome};

/// A SQLite file of the user's.
pub(crate) struct SqliteSource {
    connections: Connections,
    turns: Turns,
}

impl SqliteSource {
    /// Opens the file that `url` names; it must exist and be a database.
    pub(crate) async fn open(url: &str) -> Result<Self, SourceError> {
        let connections = Connections::open(url).await?;
        Ok(Self {
            connections,
            turns: Turns::default(),
        })
    }

    /// A connection, and the table as the catalogue has it now: it is asked at each call, as the
    /// application may change its schema at any time.
    async fn table(&self, relation: &str) -> Result<(PoolConnection<Sqlite>, Table), SourceError> {
        let mut connection = self.connections.acquire().await?;
        let place = Place::new(self.connections.database(), relation);
        let table = Table::find(&mut connection, place).await?;
        Ok((connection, table))
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn describe(&self, relation: &str) -> Result<TableShape, SourceError> {
        let (mut connection, table) = self.table(relation).await?;
        let update_triggers = triggers::of_updates(&mut connection, &table).await?;
        Ok(TableShape {
            update_triggers,
            ..table.shape
        })
    }

    async fn next_range(
        &self,
        relation: &str,
        after: Option<i64>,
        rows: u32,
    ) -> Result<Option<Range>, SourceError> {
        let (mut connection, table) = self.table(relation).await?;
        ranges::next(&mut connection, &table, after, rows).await
    }

    async fn read(
        &self,
        query: &ReadQuery,
        after: Option<i64>,
        max_bytes: usize,
    ) -> Result<Page, SourceError> {
        let (mut connection, table) = self.table(&query.relation).await?;
        read::page(&mut connection, &table, query, after, max_bytes).await
    }

    async fn deadline(&self, within: Duration) -> Result<Deadline, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let place = Place::database(self.connections.database());
        time::deadline(&mut connection, within, &place).await
    }

    async fn write(
        &self,
        relation: &str,
        updates: &[RowUpdate],
        deadline: Deadline,
    ) -> Result<Vec<WriteOutcome>, SourceError> {
        let (mut connection, table) = self.table(relation).await?;
        write::all(&mut connection, &table, &self.turns, updates, deadline).await
    }

    async fn census(
        &self,
        relation: &str,
        column: &str,
        encoding: TextEncoding,
        range: Range,
    ) -> Result<Vec<(Found, u64)>, SourceError> {
        let (mut connection, table) = self.table(relation).await?;
        census::count(&mut connection, &table, column, encoding, range).await
    }
}
