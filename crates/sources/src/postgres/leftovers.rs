//! Values below the target, one by one, in the census's own view: is each one that the pass had to leave?

use rekey_domain::{Found, KeyId, PartId, TextEncoding};
use sqlx::{AssertSqlSafe, PgConnection, Row, ValueRef, postgres::PgRow};

use super::{
    catalogue::Table,
    census::Locked,
    connections,
    faults::{self, Located},
    rows::text,
    sql,
    tuple::TupleId,
};
use crate::{CensusColumn, SourceError, ValueId, census::Counting, identity::Start};

/// What is read of each row to know its values.
pub(super) struct Leftovers<'a> {
    table: &'a Table,
    encodings: Vec<TextEncoding>,
    /// Of each column: NULL where it is settled or NULL, '' where it is no ciphertext, else its start.
    starts: Vec<String>,
    unsettled: String,
}

impl<'a> Leftovers<'a> {
    pub(super) fn new(
        table: &'a Table,
        columns: &[CensusColumn],
        settled: &[KeyId],
    ) -> Result<Self, SourceError> {
        let (mut starts, mut unsettled) = (Vec::new(), vec!["false".to_owned()]);
        for column in columns {
            let value = format!("t.{}", table.protected(&column.name, column.encoding)?);
            let moves = sql::moves(&value, column.encoding, settled);
            let start = sql::start_of_ciphertext(&value, column.encoding);
            starts.push(format!("CASE WHEN {moves} THEN {start} END"));
            unsettled.push(moves);
        }
        Ok(Self {
            table,
            encodings: columns.iter().map(|column| column.encoding).collect(),
            starts,
            unsettled: unsettled.join(" OR "),
        })
    }

    /// Looks until the first straggler.
    pub(super) async fn look(
        &self,
        connection: &mut PgConnection,
        heaps: &[Locked],
        counting: &mut Counting<'_>,
    ) -> Result<(), SourceError> {
        for Locked { heap, ranges } in heaps {
            let (part, only) = (heap.id(), heap.only());
            let place = heap.place(&self.table.place);
            let wanted = format!("pg_catalog.tidsend(t.ctid), {}", self.starts.join(", "));
            for range in ranges {
                connections::steady(connection, &place).await?;
                let sql = sql::rows_in(&wanted, &only, *range);
                let sql = format!("{sql} AND ({})", self.unsettled);
                let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false);
                let rows = rows.fetch_all(&mut *connection).await;
                let in_part = |error| faults::of_part(&error, &self.table.place, &place);
                for row in &rows.map_err(in_part)? {
                    if !self.look_at(row, part, counting).at(&place)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn look_at(
        &self,
        row: &PgRow,
        part: &PartId,
        counting: &mut Counting<'_>,
    ) -> Result<bool, sqlx::Error> {
        let key = TupleId::read(row, 0)?.key();
        for (column, encoding) in self.encodings.iter().enumerate() {
            if row.try_get_raw(column + 1)?.is_null() {
                continue;
            }
            let start = start(row, column + 1, *encoding)?;
            let found = start
                .as_ref()
                .map_or(Found::NotCiphertext, |start| Found::Key(start.key()));
            if !counting.look(column, found, &ValueId::new(part, key, start.as_ref())) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn start(row: &PgRow, at: usize, encoding: TextEncoding) -> Result<Option<Start>, sqlx::Error> {
    Ok(match encoding {
        TextEncoding::Binary => Start::of_bytes(row.try_get(at)?),
        TextEncoding::Base64 => text(row, at)?.and_then(Start::of_text),
    })
}
