//! PostgreSQL as a source: rows by their place in the heap, partition by partition.

mod aftermath;
mod around;
mod attempt;
mod beside;
mod candidates;
mod catalogue;
mod census;
mod changed;
mod columns;
mod connections;
mod damage;
mod effects;
mod faults;
mod fence;
mod flush;
mod grants;
mod identity;
mod inspect;
mod leftovers;
mod load;
mod locked;
mod locks;
mod measure;
mod names;
mod own_code;
mod parts;
mod pooler;
mod ranges;
mod read;
mod rights;
mod rows;
mod sample;
mod sql;
mod swap;
mod texts;
mod time;
mod together;
mod tuple;
mod watched;
mod who;
mod write;

use std::{num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use rekey_domain::{Limits, Load, Part, Range, Triggers};
use sqlx::{Connection, PgConnection, Postgres, pool::PoolConnection};

pub use self::grants::{GRANT_SUPPRESS, grant_of_lag, grants};
pub(crate) use self::identity::place_of;
use self::{catalogue::Table, connections::Connections, faults::Located};
use crate::{
    CensusColumn, Counted, Deadline, Inspect, Page, PartUpdates, PassToShow, ReadQuery, RowUpdate,
    Source, SourceError, SourceRow, TableRights, TableShape, WriteOutcome, WriteTarget,
    place::Place,
};

/// A PostgreSQL database of the user's.
pub(crate) struct PostgresSource {
    connections: Connections,
}

impl PostgresSource {
    /// Opens the database that `url` names; it must answer, and be new enough.
    pub(crate) async fn open(url: &str, connections: NonZeroU32) -> Result<Self, SourceError> {
        let connections = Connections::open(url, connections).await?;
        Ok(Self { connections })
    }

    /// Reads a page in a transaction of its own; with `around`, also around what the server cannot read, which takes
    /// longer.
    async fn page(
        &self,
        query: &ReadQuery,
        after: Option<i64>,
        max_bytes: usize,
        around: bool,
    ) -> Result<Page, SourceError> {
        let (mut connection, place) = self.begin(&query.relation).await?;
        let bounds = (after, max_bytes);
        let page = self
            .page_in(&mut connection, place, query, bounds, around)
            .await;
        let rows = page.iter().flat_map(|page| &page.rows);
        let bytes = rows.map(SourceRow::size).sum();
        connections::give_back(connection, query.trusts_code, bytes).await;
        page
    }

    async fn page_in(
        &self,
        connection: &mut PgConnection,
        place: Place,
        query: &ReadQuery,
        (after, max_bytes): (Option<i64>, usize),
        around: bool,
    ) -> Result<Page, SourceError> {
        let transaction = connection.begin_with("BEGIN READ ONLY").await;
        let mut transaction = transaction.at(&place)?;
        let table = Table::find(&mut transaction, place).await?;
        let page = if around {
            let (connections, inner) = (&self.connections, &mut *transaction);
            around::page(connections, inner, &table, query, after, max_bytes).await?
        } else {
            connections::by_place(&mut transaction, &table.place).await?;
            read::page(&mut transaction, &table, query, after, max_bytes).await?
        };
        // Reading locked the part against being written anew until here.
        parts::check(&mut transaction, &table, &query.part, query.trusts_code).await?;
        transaction.commit().await.at(&table.place)?;
        Ok(page)
    }

    async fn pages(
        &self,
        queries: &[ReadQuery],
        max_bytes: usize,
    ) -> Result<Vec<Option<Page>>, SourceError> {
        let Some(first) = queries.first() else {
            return Ok(Vec::new());
        };
        let (mut connection, place) = self.begin(&first.relation).await?;
        let transaction = connection.begin_with("BEGIN READ ONLY").await;
        let mut transaction = transaction.at(&place)?;
        let table = Table::find(&mut transaction, place).await?;
        connections::by_place(&mut transaction, &table.place).await?;
        let pages = read::parts(&mut transaction, &table, queries, max_bytes).await?;
        let parts: Vec<_> = queries.iter().map(|query| &query.part).collect();
        parts::check_all(&mut transaction, &table, &parts, first.trusts_code).await?;
        transaction.commit().await.at(&table.place)?;
        Ok(pages)
    }

    async fn begin(
        &self,
        relation: &str,
    ) -> Result<(PoolConnection<Postgres>, Place), SourceError> {
        let connection = self.connections.acquire().await?;
        let place = Place::new(self.connections.database(), relation);
        Ok((connection, place))
    }

    /// Tells a missing part from a missing table that the table's own code names.
    async fn told<T>(
        &self,
        relation: &str,
        done: Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let Err(SourceError::UndefinedTable { database, part }) = done else {
            return done;
        };
        let relation = relation.to_owned();
        let there = self.part_names(&relation).await.unwrap_or_default();
        Err(if there.contains(&part) {
            SourceError::OwnCode {
                database,
                relation: part,
            }
        } else {
            SourceError::PartChanged { relation, part }
        })
    }

    /// If a statement failed for no reason of ours, blames code of the table's owner, if there is any.
    async fn by_own_code(&self, relation: &str, error: SourceError) -> SourceError {
        let refused = async {
            let mut session = self.connections.fresh().await?;
            let place = Place::new(self.connections.database(), relation);
            let table = Table::find(&mut session, place).await?;
            let heaps = parts::find(&mut session, &table).await?;
            let heaps: Vec<_> = heaps.iter().map(parts::Heap::oid).collect();
            own_code::refuse(&mut session, &heaps, false, &table.place).await
        };
        match refused.await {
            Err(refused @ SourceError::RunsCode { .. }) => refused,
            _ => error,
        }
    }

    /// If a lock was not free, adds who holds it. If that cannot be found out, the error stays as it is.
    async fn named<T>(
        &self,
        relation: &str,
        done: Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        match done {
            Err(SourceError::Busy {
                database,
                waited_for,
                held_by: None,
            }) if waited_for.starts_with(faults::A_LOCK) => Err(SourceError::Busy {
                database,
                waited_for: format!("a lock on {relation}"),
                held_by: self.holders(relation).await.unwrap_or_default(),
            }),
            done => done,
        }
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn describe(&self, relation: &str) -> Result<TableShape, SourceError> {
        let (mut connection, place) = self.begin(relation).await?;
        let table = Table::find(&mut connection, place).await?;
        parts::refuse_row_security(&mut connection, &table).await?;
        effects::describe(&mut connection, table).await
    }

    async fn parts(&self, relation: &str) -> Result<Vec<Part>, SourceError> {
        // Planning relies on this list, so it is read in a session where no code of a table's owner has run.
        let mut connection = self.connections.fresh().await?;
        let place = Place::new(self.connections.database(), relation);
        census::refuse_standby(&mut connection, &place).await?;
        let table = Table::find(&mut connection, place).await?;
        let found = parts::find(&mut connection, &table).await?;
        let mut parts_found = Vec::with_capacity(found.len());
        for heap in found {
            let rows = heap.rows_per_block(&mut connection, &table.place).await;
            parts_found.push(heap.part(parts::or_usual(rows)?));
        }
        connections::end(connection).await;
        Ok(parts_found)
    }

    /// Arithmetic alone: no query a range.
    async fn next_range(
        &self,
        _relation: &str,
        part: &Part,
        after: Option<i64>,
        rows: u32,
    ) -> Result<Option<Range>, SourceError> {
        Ok(ranges::next(part, after, rows))
    }

    async fn read(
        &self,
        query: &ReadQuery,
        after: Option<i64>,
        max_bytes: usize,
    ) -> Result<Page, SourceError> {
        let page = self.page(query, after, max_bytes, false).await;
        let page = match damage::is_damage(&page) {
            true => self.page(query, after, max_bytes, true).await,
            false => page,
        };
        let page = match page {
            Err(error @ SourceError::Database { .. }) if !query.trusts_code => {
                Err(self.by_own_code(&query.relation, error).await)
            }
            page => page,
        };
        let page = self.told(&query.relation, page).await;
        self.named(&query.relation, page).await
    }

    async fn read_together(
        &self,
        queries: &[ReadQuery],
        max_bytes: usize,
    ) -> Result<Vec<Option<Page>>, SourceError> {
        // What runs while one part is planned may change how the next is read.
        if queries.iter().any(|query| query.trusts_code) {
            return Ok(vec![None; queries.len()]);
        }
        self.pages(queries, max_bytes).await
    }

    async fn check_rights(&self, needed: &TableRights) -> Result<(), SourceError> {
        let (mut connection, place) = self.begin(&needed.relation).await?;
        let table = Table::find(&mut connection, place).await?;
        rights::check(&mut connection, &table, needed).await
    }

    async fn deadline(&self, within: Duration) -> Result<Deadline, SourceError> {
        let (mut connection, _) = self.begin("-").await?;
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
        let (mut connection, place) = self.begin(&target.relation).await?;
        let table = Table::find(&mut connection, place).await?;
        let written =
            write::all(&mut connection, &table, target, updates, deadline, outcomes).await;
        let bytes = updates.iter().map(RowUpdate::size).sum();
        let ran_code = target.triggers == Triggers::Fire;
        connections::give_back(connection, ran_code, bytes).await;
        let written = self.told(&target.relation, written).await;
        self.named(&target.relation, written).await
    }

    async fn write_together(
        &self,
        parts: &[PartUpdates<'_>],
        deadline: Deadline,
        outcomes: &mut [Vec<WriteOutcome>],
    ) -> Result<Vec<bool>, SourceError> {
        let Some(first) = parts.first() else {
            return Ok(Vec::new());
        };
        let (mut connection, place) = self.begin(&first.target.relation).await?;
        let table = Table::find(&mut connection, place).await?;
        write::together(&mut connection, &table, parts, deadline, outcomes).await
    }

    async fn census(
        &self,
        relation: &str,
        columns: &[CensusColumn],
        pass: Option<&PassToShow>,
    ) -> Result<Vec<Vec<Counted>>, SourceError> {
        // A count must be right, so it takes a session where no triggers of the user's have run.
        let place = Place::new(self.connections.database(), relation);
        let counted = census::count(&self.connections, place, columns, pass).await;
        let counted = self.told(relation, counted).await;
        let counted = self.named(relation, counted).await?;
        // Nobody may rely on rows that a crash takes back.
        self.flush().await?;
        Ok(counted)
    }

    fn is_another(&self) -> bool {
        self.connections.is_another()
    }

    async fn takes_writes(&self) -> Result<(), SourceError> {
        let (mut connection, _) = self.begin("-").await?;
        let place = Place::database(self.connections.database());
        rights::takes_writes(&mut connection, &place).await
    }

    async fn holders(&self, relation: &str) -> Result<Option<String>, SourceError> {
        let (mut connection, place) = self.begin(relation).await?;
        let table = Table::find(&mut connection, place).await?;
        locks::holders(&mut connection, &table).await
    }

    async fn fence(&self) -> Result<String, SourceError> {
        // As for a count: in a session where nobody else's code can change the answer.
        let mut connection = self.connections.fresh().await?;
        let place = Place::database(self.connections.database());
        let fence = fence::take(&mut connection, &place).await;
        connections::end(connection).await;
        fence
    }

    async fn behind(&self, fence: &str) -> Result<(), SourceError> {
        let mut connection = self.connections.fresh().await?;
        let place = Place::database(self.connections.database());
        let behind = fence::check_all(&mut connection, fence, &place).await;
        connections::end(connection).await;
        behind
    }

    async fn flush(&self) -> Result<(), SourceError> {
        let (mut connection, place) = self.begin("-").await?;
        flush::flush(&mut connection, &place).await
    }

    async fn load(&self, relation: &str, limits: &Limits) -> Result<Load, SourceError> {
        let (mut connection, place) = self.begin(relation).await?;
        load::find(&mut connection, place, limits).await
    }
}
