//! What stands in columns, by a bounded number of rows from all over the table.

use rekey_domain::{Part, Range};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{catalogue::Table, census, faults, names::quote, parts, ranges, sql};
use crate::{
    CensusColumn, Sample, SourceError,
    census::{Counts, by_column},
    inspect::spread,
};

/// Of more partitions, as many from the first to the last are looked at.
const PARTS: usize = 16;
/// Places in a part, from its first block to its last.
const PLACES: i64 = 8;

/// Looks at about `rows` rows.
pub(super) async fn of(
    connection: &mut PgConnection,
    table: &Table,
    columns: &[CensusColumn],
    rows: u32,
) -> Result<Sample, SourceError> {
    let groups: Result<Vec<_>, SourceError> =
        columns.iter().map(|column| group(table, column)).collect();
    let groups = groups?;
    let heaps = parts::find(connection, table).await?;
    let (all, chosen) = (heaps.len(), evenly(heaps.len(), PARTS));
    let mut sample = Sample {
        rows: 0,
        whole: chosen.len() == all,
        counts: Vec::new(),
    };
    let mut counts = Counts::new();
    let rows_each = rows / u32::try_from(chosen.len().max(1)).unwrap_or(u32::MAX);
    for heap in heaps
        .into_iter()
        .enumerate()
        .filter_map(|(at, heap)| chosen.contains(&at).then_some(heap))
    {
        let (only, place) = (heap.only(), heap.place(&table.place));
        let rows_per_block = heap.rows_per_block(connection, &table.place).await?;
        let part = heap.part(rows_per_block);
        let Some(places) = places(&part, rows_each) else {
            continue;
        };
        sample.whole &= places.len() == 1;
        let in_part = |error| faults::of_part(&error, &table.place, &place);
        let counted = format!(
            "SELECT pg_catalog.count(*) FROM ({}) AS v",
            places
                .iter()
                .map(|range| sql::rows_in("t.ctid", &only, *range))
                .collect::<Vec<_>>()
                .join(" UNION ALL ")
        );
        let counted = sqlx::query_scalar(AssertSqlSafe(counted)).fetch_one(&mut *connection);
        let counted: i64 = counted.await.map_err(in_part)?;
        sample.rows += counted.unsigned_abs();
        let found = census::select(&only, &groups, &places);
        let found = sqlx::query(AssertSqlSafe(found)).persistent(false);
        for row in &found.fetch_all(&mut *connection).await.map_err(in_part)? {
            census::add(row, columns, &mut counts).map_err(in_part)?;
        }
    }
    sample.counts = by_column(counts, columns.len());
    Ok(sample)
}

/// Any column whose type fits, a generated one too: what PostgreSQL computes may be a copy of ours.
fn group(table: &Table, column: &CensusColumn) -> Result<String, SourceError> {
    let name = &table.shape_of(&column.name)?.name;
    let value = format!("t.{}", quote(name));
    Ok(sql::group(&value, column.encoding, column.by))
}

/// Where to look for about `rows` rows of a part; None where it has none.
fn places(part: &Part, rows: u32) -> Option<Vec<Range>> {
    let each = ranges::blocks(part, rows.div_ceil(u32::try_from(PLACES).unwrap_or(1)));
    Some(spread(0, part.end?, PLACES, each))
}

/// At most `most` of `all`, evenly from the first to the last.
fn evenly(all: usize, most: usize) -> Vec<usize> {
    if all <= most {
        return (0..all).collect();
    }
    (0..most).map(|at| at * (all - 1) / (most - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_partitions_the_first_the_last_and_some_between_are_chosen() {
        assert_eq!(evenly(0, 16), [0_usize; 0]);
        assert_eq!(evenly(3, 16), [0, 1, 2]);
        let chosen = evenly(1_000, 16);
        assert_eq!((chosen.len(), chosen[0], chosen[15]), (16, 0, 999));
    }
}
