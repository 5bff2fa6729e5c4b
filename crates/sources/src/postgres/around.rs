//! Reading a page around what the server cannot read: all of its other rows and values, and what the unreadable ones
//! are.

use sqlx::{PgConnection, postgres::PgRow};

use super::{
    catalogue::Table,
    connections::{self, Connections},
    damage::{Careful, Halves, Heap, is_damage},
    faults::Located,
    parts, read,
    rows::{self, Layout, stored_value},
    sql,
    tuple::TupleId,
};
use crate::{
    Damage, Page, ReadColumn, ReadQuery, SourceError, SourceRow, StoredValue, place::Place,
    start::Start, value::Seen,
};

/// Both statements must see the same row, whatever the application does between them.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The same as [`read::page`], in a transaction of its own that has begun.
pub(super) async fn page(
    connections: &Connections,
    connection: &mut PgConnection,
    table: &Table,
    query: &ReadQuery,
    after: Option<i64>,
    max_bytes: usize,
) -> Result<Page, SourceError> {
    let heap = heap(table, query)?;
    parts::lock(connection, &heap.only, &table.place, &heap.place).await?;
    let mut careful = Careful::begin(connection, &table.place).await?;
    let mut places = careful.places(&heap, query.range).await?;
    places.retain(|place| after.is_none_or(|after| place.cursor() > after));
    let mut halves = Halves::of(places);
    let (mut page, mut bytes) = (Page::default(), 0);
    while let Some(rows) = halves.next() {
        let (which, room) = (sql::of_rows(&rows), max_bytes.saturating_sub(bytes));
        let some = read::some(careful.connection(), table, query, &which, room).await;
        let some = match careful.recovered(some).await {
            Err(SourceError::Damaged { .. }) => match halves.split(rows) {
                Some(row) => alone(connections, table, query, row).await?,
                None => continue,
            },
            some => some?,
        };
        bytes += some.rows.iter().map(SourceRow::size).sum::<usize>();
        page.rows.extend(some.rows);
        let last = page.rows.last().and_then(|row| TupleId::of(&row.key));
        let full = last.filter(|_| bytes >= max_bytes);
        page.next = some.next.or(full.map(TupleId::cursor));
        if page.next.is_some() {
            break;
        }
    }
    Ok(page)
}

fn heap(table: &Table, query: &ReadQuery) -> Result<Heap, SourceError> {
    Ok(Heap {
        only: parts::only(table, &query.part)?,
        place: Place::new(&table.place.database, &query.part.name),
    })
}

/// Reads a row value by value after reading it whole failed. In a fresh session, as a failure that was temporary or
/// caused by the old session does not happen there.
async fn alone(
    connections: &Connections,
    table: &Table,
    query: &ReadQuery,
    place: TupleId,
) -> Result<Page, SourceError> {
    let mut session = connections.fresh().await?;
    let begun = sqlx::raw_sql(BEGIN).execute(&mut session).await;
    begun.at(&table.place)?;
    let mut row = Alone {
        careful: Careful::begin(&mut session, &table.place).await?,
        table,
        heap: heap(table, query)?,
        which: sql::of_rows(&[place]),
    };
    let row = row.read(query, place).await?;
    connections::end(session).await;
    Ok(Page {
        rows: row.into_iter().collect(),
        next: None,
    })
}

struct Alone<'a> {
    careful: Careful<'a>,
    table: &'a Table,
    heap: Heap,
    which: String,
}

impl Alone<'_> {
    /// None: it has nothing to move any more.
    async fn read(
        &mut self,
        query: &ReadQuery,
        place: TupleId,
    ) -> Result<Option<SourceRow>, SourceError> {
        let Some(mut row) = self.name_and_binds(query, place).await? else {
            return Ok(None);
        };
        for column in &query.columns {
            row.values.push(self.value(column).await?);
        }
        Ok(row.values.iter().any(Option::is_some).then_some(row))
    }

    async fn name_and_binds(
        &mut self,
        query: &ReadQuery,
        place: TupleId,
    ) -> Result<Option<SourceRow>, SourceError> {
        let without_values = ReadQuery {
            columns: Vec::new(),
            ..query.clone()
        };
        let mut wanted = vec!["pg_catalog.tidsend(t.ctid)".to_owned()];
        wanted.extend(rows::names_and_binds(self.table, query)?);
        match self.fetch(&wanted.join(", ")).await {
            Err(SourceError::Damaged { code, .. }) => Ok(Some(SourceRow {
                key: place.key(),
                name: None,
                binds: vec![None; query.bind_columns.len()],
                values: Vec::new(),
                binds_damaged: Some(code),
            })),
            rows => {
                let layout = Layout::of(self.table, &without_values);
                rows?.first().map(|row| layout.row(row)).transpose()
            }
        }
    }

    async fn value(&mut self, column: &ReadColumn) -> Result<Option<StoredValue>, SourceError> {
        let (name, encoding) = (&column.name, column.encoding);
        let value = format!("t.{}", self.table.protected(name, encoding)?);
        let moves = sql::moves(&value, encoding, &column.settled);
        match self
            .fetch(&format!("CASE WHEN {moves} THEN {value} END"))
            .await
        {
            Err(SourceError::Damaged { code, .. }) => {
                let seen = self.seen(&value, column).await?;
                let damage = Damage { code, seen };
                // As in every other row, what is settled by its form is left alone.
                let settled = damage
                    .key()
                    .is_some_and(|key| column.settled.contains(&key));
                Ok((!settled).then_some(StoredValue::Unreadable(damage)))
            }
            rows => {
                let read = rows?.first().map(|row| stored_value(row, 0)).transpose();
                Ok(read.at(&self.heap.place)?.flatten())
            }
        }
    }

    /// What a census sees of a value, by the same SQL.
    async fn seen(&mut self, value: &str, column: &ReadColumn) -> Result<Seen, SourceError> {
        let start = sql::start_of_ciphertext(value, column.encoding);
        match self.fetch(&start).await {
            Err(SourceError::Damaged { .. }) => Ok(Seen::Nothing),
            rows => {
                let read = rows?
                    .first()
                    .map(|row| rows::start(row, 0, column.encoding));
                let found: Option<Start> = read.transpose().at(&self.heap.place)?.flatten();
                Ok(found.map_or(Seen::NoCiphertext, Seen::Start))
            }
        }
    }

    /// Tries twice before a value counts as damaged.
    async fn fetch(&mut self, wanted: &str) -> Result<Vec<PgRow>, SourceError> {
        let sql = sql::rows_where(wanted, &self.heap.only, &self.which);
        let read = self.careful.fetch(sql.clone(), &self.heap).await;
        if !is_damage(&read) {
            return read;
        }
        self.careful.fetch(sql, &self.heap).await
    }
}
