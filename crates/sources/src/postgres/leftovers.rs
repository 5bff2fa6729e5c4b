//! Values below the target, one by one, in the census's own view: is each one that the pass had to leave?

use rekey_domain::{Found, KeyId, PartId, Range, TextEncoding};
use sqlx::{Row, ValueRef, postgres::PgRow};

use super::{
    catalogue::Table,
    damage::{Careful, Heap, Piece},
    faults::Located,
    rows, sql,
    together::{Locked, together},
    tuple::TupleId,
};
use crate::{CensusColumn, SourceError, ValueId, census::Counting, value::Seen};

/// Which of several heaps a row is of.
const AT: &str = "of_heap";

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
        careful: &mut Careful<'_>,
        (heaps, most): (&[Locked], usize),
        counting: &mut Counting<'_>,
    ) -> Result<(), SourceError> {
        for some in together(heaps, most) {
            if !self.look_in_some(careful, some, counting).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// All heaps in one statement; one by one where that fails. False: there is a straggler.
    async fn look_in_some(
        &self,
        careful: &mut Careful<'_>,
        heaps: &[Locked],
        counting: &mut Counting<'_>,
    ) -> Result<bool, SourceError> {
        if heaps.len() > 1
            && let Some(rows) = self.together(careful, heaps).await?
        {
            for row in &rows {
                let at: i32 = row.try_get(AT).at(&self.table.place)?;
                let part = heaps[at.unsigned_abs() as usize].heap.id();
                if !self.look_at(row, part, counting).at(&self.table.place)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for locked in heaps {
            for range in &locked.ranges {
                if !self.look_in(careful, locked, *range, counting).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn together(
        &self,
        careful: &mut Careful<'_>,
        heaps: &[Locked],
    ) -> Result<Option<Vec<PgRow>>, SourceError> {
        let mut all = Vec::new();
        for (at, Locked { heap, ranges }) in heaps.iter().enumerate() {
            let wanted = format!(
                "pg_catalog.tidsend(t.ctid), {}, {at}::pg_catalog.int4 AS {AT}",
                self.starts.join(", ")
            );
            all.extend(ranges.iter().map(|range| {
                let which = format!("{} AND ({})", sql::of_blocks(*range), self.unsettled);
                sql::rows_where(&wanted, &heap.only(), &which)
            }));
        }
        if all.is_empty() {
            return Ok(Some(Vec::new()));
        }
        careful.fetch_or_go_back(all.join(" UNION ALL ")).await
    }

    /// False: there is a straggler.
    async fn look_in(
        &self,
        careful: &mut Careful<'_>,
        locked: &Locked,
        range: Range,
        counting: &mut Counting<'_>,
    ) -> Result<bool, SourceError> {
        let (part, heap) = (locked.heap.id(), locked.heap.to_read(&self.table.place));
        let wanted = format!("pg_catalog.tidsend(t.ctid), {}", self.starts.join(", "));
        let select = |which: &str| {
            let which = format!("{which} AND ({})", self.unsettled);
            sql::rows_where(&wanted, &heap.only, &which)
        };
        for piece in careful.pieces(&heap, range, select).await? {
            match piece {
                Piece::Rows(rows) => {
                    for row in &rows {
                        if !self.look_at(row, part, counting).at(&heap.place)? {
                            return Ok(false);
                        }
                    }
                }
                Piece::Alone(row) => {
                    if !self
                        .look_at_values(careful, &heap, row, part, counting)
                        .await?
                    {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// The values of a row that cannot be read at once.
    async fn look_at_values(
        &self,
        careful: &mut Careful<'_>,
        heap: &Heap,
        place: TupleId,
        part: &PartId,
        counting: &mut Counting<'_>,
    ) -> Result<bool, SourceError> {
        let which = sql::of_rows(&[place]);
        for (column, start) in self.starts.iter().enumerate() {
            let sql = sql::rows_where(start, &heap.only, &which);
            let seen = match careful.fetch(sql, heap).await {
                Err(SourceError::Damaged { .. }) => Some(Seen::Nothing),
                rows => match rows?.first() {
                    Some(row) => self.seen(row, 0, column).at(&heap.place)?,
                    None => None,
                },
            };
            if !look(seen, part, place, column, counting) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// None: there is no value, or it is settled.
    fn seen(&self, row: &PgRow, at: usize, column: usize) -> Result<Option<Seen>, sqlx::Error> {
        if row.try_get_raw(at)?.is_null() {
            return Ok(None);
        }
        let start = rows::start(row, at, self.encodings[column])?;
        Ok(Some(start.map_or(Seen::NoCiphertext, Seen::Start)))
    }

    fn look_at(
        &self,
        row: &PgRow,
        part: &PartId,
        counting: &mut Counting<'_>,
    ) -> Result<bool, sqlx::Error> {
        let place = TupleId::read(row, 0)?;
        for column in 0..self.encodings.len() {
            let seen = self.seen(row, column + 1, column)?;
            if !look(seen, part, place, column, counting) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn look(
    seen: Option<Seen>,
    part: &PartId,
    place: TupleId,
    column: usize,
    counting: &mut Counting<'_>,
) -> bool {
    let Some(seen) = seen else {
        return true;
    };
    let found = match &seen {
        Seen::Start(start) => Found::Key(start.key()),
        Seen::NoCiphertext => Found::NotCiphertext,
        Seen::Nothing => Found::Unreadable,
    };
    counting.look(column, found, &ValueId::seen(part, place.key(), &seen))
}
