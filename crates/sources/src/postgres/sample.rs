//! What stands in columns, by a bounded number of rows from all over the table.

use rekey_domain::{Part, Range};
use sqlx::{PgConnection, Row};

use super::{
    catalogue::Table,
    census,
    damage::{Careful, Heap, is_damage},
    faults::Located,
    names::quote,
    parts, ranges, sql,
};
use crate::{
    CensusColumn, Sample, SourceError,
    census::{Counts, by_column},
    inspect::spread,
};

/// Of more partitions, as many from the first to the last are looked at.
const PARTS: usize = 16;
/// Spread in a part, from its first block to its last.
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
    let mut careful = Careful::begin(connection, &table.place).await?;
    let looked = places_of(&mut careful, table, heaps, rows).await?;
    let (mut looked_at, mut counts) = (0, Counts::new());
    for (heap, places) in &looked.heaps {
        looked_at += count_rows(&mut careful, heap, places).await?;
        add(&mut careful, heap, places, &groups, columns, &mut counts).await?;
    }
    Ok(Sample {
        rows: looked_at,
        whole: looked.whole,
        counts: by_column(counts, columns.len()),
    })
}

/// Ranges all over a table, to look at some of its rows.
pub(super) struct Spread {
    pub(super) heaps: Vec<(Heap, Vec<Range>)>,
    /// Whether these are all rows.
    pub(super) whole: bool,
}

/// Spread of about `rows` rows, all in all.
pub(super) async fn places_of(
    careful: &mut Careful<'_>,
    table: &Table,
    heaps: Vec<parts::Heap>,
    rows: u32,
) -> Result<Spread, SourceError> {
    let chosen = evenly(heaps.len(), PARTS);
    let mut found = Spread {
        whole: chosen.len() == heaps.len(),
        heaps: Vec::new(),
    };
    let rows_each = rows / u32::try_from(chosen.len().max(1)).unwrap_or(u32::MAX);
    for (at, heap) in heaps.into_iter().enumerate() {
        if !chosen.contains(&at) {
            continue;
        }
        let per_block = heap.rows_per_block(careful.connection(), &table.place);
        let per_block = per_block.await;
        let part = heap.part(parts::or_usual(careful.recovered(per_block).await)?);
        if let Some(places) = places(&part, rows_each) {
            found.whole &= places.len() == 1;
            found.heaps.push((heap.to_read(&table.place), places));
        }
    }
    Ok(found)
}

pub(super) async fn count_rows(
    careful: &mut Careful<'_>,
    heap: &Heap,
    places: &[Range],
) -> Result<u64, SourceError> {
    let rows = places.iter();
    let rows = rows.map(|range| sql::rows_in("t.ctid", &heap.only, *range));
    let rows = rows.collect::<Vec<_>>().join(" UNION ALL ");
    let counted = format!("SELECT pg_catalog.count(*) FROM ({rows}) AS v");
    let counted = careful.fetch(counted, heap).await?;
    let counted: i64 = counted[0].try_get(0).at(&heap.place)?;
    Ok(counted.unsigned_abs())
}

/// All places at once, around what cannot be read one by one.
async fn add(
    careful: &mut Careful<'_>,
    heap: &Heap,
    places: &[Range],
    groups: &[String],
    columns: &[CensusColumn],
    counts: &mut Counts,
) -> Result<(), SourceError> {
    let which = places.iter();
    let which: Vec<_> = which
        .map(|range| (heap.only.clone(), sql::of_blocks(*range)))
        .collect();
    let found = careful.fetch(census::select(groups, &which), heap).await;
    if !is_damage(&found) {
        for row in &found? {
            census::add(row, columns, counts).at(&heap.place)?;
        }
        return Ok(());
    }
    for range in places {
        census::count_range(careful, heap, *range, groups, columns, counts).await?;
    }
    Ok(())
}

/// Any column of a fitting type, generated ones too: PostgreSQL may compute a copy of one of ours.
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
