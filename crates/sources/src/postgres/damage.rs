//! Finding what the server cannot read: a statement that fails is tried on half of its rows, until a single row fails.

use rekey_domain::Range;
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgRow};

use super::{
    connections,
    faults::{self, Located},
    sql,
    tuple::TupleId,
};
use crate::{SourceError, place::Place};

/// Where a transaction goes back to when a statement failed. What was locked before stays locked.
const SAVEPOINT: &str = "SAVEPOINT whole";
const GO_BACK: &str = "ROLLBACK TO SAVEPOINT whole";

/// A heap, as statements and errors name it.
pub(super) struct Heap {
    pub(super) only: String,
    pub(super) place: Place,
}

/// A transaction that goes on after damage was met.
pub(super) struct Careful<'a> {
    connection: &'a mut PgConnection,
    table: &'a Place,
}

/// Rows of a range, as a statement gave them.
pub(super) enum Piece {
    /// Of as many rows as it could read.
    Rows(Vec<PgRow>),
    /// A row that it failed on alone, and more than once.
    Alone(TupleId),
}

impl<'a> Careful<'a> {
    /// Goes on in a transaction that has its locks.
    pub(super) async fn begin(
        connection: &'a mut PgConnection,
        table: &'a Place,
    ) -> Result<Self, SourceError> {
        let begun = sqlx::raw_sql(SAVEPOINT).execute(&mut *connection).await;
        begun.at(table)?;
        Ok(Self { connection, table })
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection
    }

    /// Runs a statement, after resetting the session.
    pub(super) async fn fetch(
        &mut self,
        sql: String,
        heap: &Heap,
    ) -> Result<Vec<PgRow>, SourceError> {
        connections::steady_by_place(self.connection, &heap.place).await?;
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        let rows = rows.fetch_all(&mut *self.connection).await;
        let in_part = |error| faults::of_part(&error, self.table, &heap.place);
        self.recovered(rows.map_err(in_part)).await
    }

    /// The same of several heaps; none where it failed, for whatever reason: each of them has to be asked alone.
    pub(super) async fn fetch_or_go_back(
        &mut self,
        sql: String,
    ) -> Result<Option<Vec<PgRow>>, SourceError> {
        connections::steady_by_place(self.connection, self.table).await?;
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        if let Ok(rows) = rows.fetch_all(&mut *self.connection).await {
            return Ok(Some(rows));
        }
        let back = sqlx::raw_sql(GO_BACK).execute(&mut *self.connection).await;
        back.at(self.table)?;
        Ok(None)
    }

    /// After damage, brings the transaction back to where it was when this began.
    pub(super) async fn recovered<T>(
        &mut self,
        done: Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        if is_damage(&done) {
            let back = sqlx::raw_sql(GO_BACK).execute(&mut *self.connection).await;
            back.at(self.table)?;
        }
        done
    }

    /// What `select` returns for the rows of a range, whose condition it takes: in one piece, or in several around
    /// damage.
    pub(super) async fn pieces(
        &mut self,
        heap: &Heap,
        range: Range,
        select: impl Fn(&str) -> String,
    ) -> Result<Vec<Piece>, SourceError> {
        let whole = self.fetch(select(&sql::of_blocks(range)), heap).await;
        if !is_damage(&whole) {
            return Ok(vec![Piece::Rows(whole?)]);
        }
        let mut pieces = Vec::new();
        let mut halves = Halves::of(self.places(heap, range).await?);
        while let Some(rows) = halves.next() {
            let some = self.fetch(select(&sql::of_rows(&rows)), heap).await;
            if is_damage(&some) {
                pieces.extend(halves.split(rows).map(Piece::Alone));
            } else {
                pieces.push(Piece::Rows(some?));
            }
        }
        Ok(pieces)
    }

    /// The rows of some blocks, in their order. No value is read, so only a damaged block can fail here.
    ///
    /// # Errors
    /// [`SourceError::Damaged`] names the first block that cannot be read, as nobody knows its rows.
    pub(super) async fn places(
        &mut self,
        heap: &Heap,
        range: Range,
    ) -> Result<Vec<TupleId>, SourceError> {
        match self.places_now(heap, range).await {
            Err(SourceError::Damaged { code, .. }) => self.places_or_block(heap, range, code).await,
            places => places,
        }
    }

    async fn places_or_block(
        &mut self,
        heap: &Heap,
        range: Range,
        code: String,
    ) -> Result<Vec<TupleId>, SourceError> {
        let mut all = Vec::new();
        for block in range.first..=range.last {
            let one = Range {
                first: block,
                last: block,
            };
            let places = self.places_now(heap, one).await;
            if is_damage(&places) {
                return Err(SourceError::Damaged {
                    database: heap.place.database.to_string(),
                    relation: heap.place.relation.clone(),
                    reason: format!("block {block} cannot be read, and nobody knows its rows"),
                    code,
                });
            }
            all.extend(places?);
        }
        Ok(all)
    }

    async fn places_now(&mut self, heap: &Heap, range: Range) -> Result<Vec<TupleId>, SourceError> {
        let sql = sql::rows_where(
            "pg_catalog.tidsend(t.ctid)",
            &heap.only,
            &sql::of_blocks(range),
        );
        let rows = self.fetch(sql, heap).await?;
        let places = rows.iter().map(|row| TupleId::read(row, 0));
        let mut places = places.collect::<Result<Vec<_>, _>>().at(&heap.place)?;
        places.sort_unstable();
        Ok(places)
    }
}

/// Whether the server could not read what it stored; an outage is none.
pub(super) fn is_damage<T>(done: &Result<T, SourceError>) -> bool {
    matches!(done, Err(SourceError::Damaged { .. }))
}

/// Rows that are still to be read, from first to last.
pub(super) struct Halves(Vec<Vec<TupleId>>);

impl Halves {
    /// All at once, as nothing of them failed yet.
    pub(super) fn of(rows: Vec<TupleId>) -> Self {
        Self(vec![rows])
    }

    /// The next to be read together; never none.
    pub(super) fn next(&mut self) -> Option<Vec<TupleId>> {
        self.0.pop().filter(|rows| !rows.is_empty())
    }

    /// Splits rows that could not be read together into halves; a single row is given back.
    pub(super) fn split(&mut self, mut failed: Vec<TupleId>) -> Option<TupleId> {
        if let [row] = failed[..] {
            return Some(row);
        }
        let behind = failed.split_off(failed.len() / 2);
        self.0.extend([behind, failed]);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(offset: u16) -> TupleId {
        TupleId { block: 7, offset }
    }

    #[test]
    fn halving_finds_each_row_that_fails_and_reads_all_others_in_order() {
        for damaged in [&[][..], &[1], &[300], &[4, 5, 299]] {
            let mut halves = Halves::of((1..=300).map(row).collect());
            let (mut read, mut alone, mut tries) = (Vec::new(), Vec::new(), 0);
            while let Some(rows) = halves.next() {
                tries += 1;
                if rows.iter().any(|row| damaged.contains(&row.offset)) {
                    alone.extend(halves.split(rows).map(|row| row.offset));
                } else {
                    read.extend(rows.iter().map(|row| row.offset));
                }
            }
            assert_eq!(alone, damaged);
            let others = (1..=300).filter(|offset| !damaged.contains(offset));
            assert_eq!(read, others.collect::<Vec<_>>());
            assert!(tries <= 1 + damaged.len() * 20, "{tries}");
        }
        assert!(Halves::of(Vec::new()).next().is_none());
    }
}
