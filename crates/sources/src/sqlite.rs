//! SQLite as a source: rows by rowid, one short write transaction at a time.

mod affinity;
mod aftermath;
mod candidates;
mod catalogue;
mod census;
mod connections;
mod faults;
mod file;
mod flush;
mod form;
mod indexes;
mod inspect;
mod leftovers;
mod measure;
mod otherwise;
mod pragma;
mod ranges;
mod read;
mod rights;
mod sample;
mod sql;
mod swap;
mod texts;
mod time;
mod triggers;
mod turns;
mod watched;
mod write;

use std::time::Duration;

use async_trait::async_trait;
use rekey_domain::{Limits, Load, Part, Range, Triggers};
use sqlx::{Connection, Sqlite, SqliteConnection, Transaction, pool::PoolConnection};

use self::{catalogue::Table, connections::Connections, faults::Located, turns::Turns};
use crate::{
    CensusColumn, Counted, Deadline, Page, PassToShow, ReadQuery, RowUpdate, Source, SourceError,
    TableRights, TableShape, WriteOutcome, WriteTarget, census::check_parts, place::Place,
};

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

    /// A read transaction, and the table as this transaction sees it: a name that now means the rowid may be a column's
    /// in the next statement.
    async fn reading<'a>(
        &self,
        connection: &'a mut SqliteConnection,
        relation: &str,
    ) -> Result<(Transaction<'a, Sqlite>, Table), SourceError> {
        let place = Place::new(self.connections.database(), relation);
        let mut transaction = connection.begin().await.at(&place)?;
        let table = Table::find(&mut transaction, place).await?;
        Ok((transaction, table))
    }

    /// The same for a count that shows nothing of a pass: of whatever has rows.
    async fn looking_at<'a>(
        &self,
        connection: &'a mut SqliteConnection,
        relation: &str,
    ) -> Result<(Transaction<'a, Sqlite>, Table), SourceError> {
        let place = Place::new(self.connections.database(), relation);
        let mut transaction = connection.begin().await.at(&place)?;
        let table = Table::find_to_look_at(&mut transaction, place).await?;
        Ok((transaction, table))
    }
}

/// The file that a URL names; None if it cannot be read.
pub(crate) fn place_of(url: &str) -> Option<String> {
    connections::file_of(url).map(|file| file.display().to_string())
}

#[async_trait]
impl Source for SqliteSource {
    async fn describe(&self, relation: &str) -> Result<TableShape, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let (mut transaction, table) = self.reading(&mut connection, relation).await?;
        let update_triggers = triggers::of_updates(&mut transaction, &table).await?;
        let foreign_keys = triggers::foreign_keys(&mut transaction, &table).await?;
        Ok(TableShape {
            foreign_keys,
            update_triggers,
            ..table.shape
        })
    }

    async fn parts(&self, relation: &str) -> Result<Vec<Part>, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let (mut transaction, table) = self.reading(&mut connection, relation).await?;
        let end = ranges::end(&mut transaction, &table).await?;
        Ok(vec![Part {
            id: table.part,
            end,
            rows_per_block: 1,
        }])
    }

    async fn next_range(
        &self,
        relation: &str,
        part: &Part,
        after: Option<i64>,
        rows: u32,
    ) -> Result<Option<Range>, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let (mut transaction, table) = self.reading(&mut connection, relation).await?;
        let Some(end) = part.end else {
            return Ok(None);
        };
        ranges::next(&mut transaction, &table, after, end, rows).await
    }

    async fn read(
        &self,
        query: &ReadQuery,
        after: Option<i64>,
        max_bytes: usize,
    ) -> Result<Page, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let (mut transaction, table) = self.reading(&mut connection, &query.relation).await?;
        read::page(&mut transaction, &table, query, after, max_bytes).await
    }

    async fn check_rights(&self, needed: &TableRights) -> Result<(), SourceError> {
        let (mut connection, table) = self.table(&needed.relation).await?;
        rights::check(&mut connection, &table, needed).await
    }

    async fn deadline(&self, within: Duration) -> Result<Deadline, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let place = Place::database(self.connections.database());
        time::deadline(&mut connection, within, &place).await
    }

    async fn write_into(
        &self,
        target: &WriteTarget,
        updates: &[RowUpdate],
        deadline: Deadline,
        outcomes: &mut [WriteOutcome],
    ) -> Result<(), SourceError> {
        let (mut connection, Table { place, .. }) = self.table(&target.relation).await?;
        if target.triggers == Triggers::Suppress {
            return Err(SourceError::NotAllowed {
                database: place.database.to_string(),
                relation: target.relation.clone(),
                what: "suppress the triggers of",
                remedy: "SQLite cannot; say on_update = { triggers = \"fire\" } if that is right"
                    .to_owned(),
            });
        }
        write::all(
            &mut connection,
            &place,
            target,
            &self.turns,
            updates,
            deadline,
            outcomes,
        )
        .await
    }

    async fn census(
        &self,
        relation: &str,
        columns: &[CensusColumn],
        pass: Option<&PassToShow>,
    ) -> Result<Vec<Vec<Counted>>, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let (mut transaction, table) = match pass {
            Some(_) => self.reading(&mut connection, relation).await?,
            None => self.looking_at(&mut connection, relation).await?,
        };
        if let Some(pass) = pass {
            census::check_known(&table, columns, &pass.known)?;
            let has_rows = ranges::end(&mut transaction, &table).await?.is_some();
            check_parts(relation, &[(table.part.clone(), has_rows)], pass)?;
        }
        let counted = census::count(&mut transaction, &table, columns, pass).await?;
        transaction.commit().await.at(&table.place)?;
        // Nobody may rely on rows that a loss of power takes back.
        self.flush().await?;
        Ok(counted)
    }

    /// Locks are the operating system's: SQLite does not know whose they are.
    async fn holders(&self, _relation: &str) -> Result<Option<String>, SourceError> {
        Ok(None)
    }

    async fn fence(&self) -> Result<String, SourceError> {
        let mut connection = self.connections.acquire().await?;
        let place = Place::database(self.connections.database());
        census::fence(&mut connection, &place).await
    }

    /// Who writes has the write lock, which the mark had: nothing is open at it.
    async fn behind(&self, _fence: &str) -> Result<(), SourceError> {
        Ok(())
    }

    async fn flush(&self) -> Result<(), SourceError> {
        flush::wal(self.connections.path(), self.connections.database()).await
    }

    /// A file has no standbys, and a row that is updated leaves no dead one.
    async fn load(&self, _relation: &str, _limits: &Limits) -> Result<Load, SourceError> {
        Ok(Load::default())
    }
}
