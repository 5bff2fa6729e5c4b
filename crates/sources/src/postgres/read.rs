//! Reading a page of rows that still have to be moved.

use futures::TryStreamExt;
use rekey_domain::Range;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{
    catalogue::Table,
    faults::{self, Located},
    parts,
    rows::{self, BYTES_READ},
    sql,
    tuple::TupleId,
};
use crate::{Page, ReadQuery, SourceError, place::Place};

/// Reads rows until their values reach `max_bytes`.
pub(super) async fn page(
    connection: &mut PgConnection,
    table: &Table,
    query: &ReadQuery,
    after: Option<i64>,
    max_bytes: usize,
) -> Result<Page, SourceError> {
    let Some(place) = condition(query.range, after) else {
        return Ok(Page::default());
    };
    some(connection, table, query, &place, max_bytes).await
}

/// The same of the rows of a part that a condition is true of.
pub(super) async fn some(
    connection: &mut PgConnection,
    table: &Table,
    query: &ReadQuery,
    which: &str,
    max_bytes: usize,
) -> Result<Page, SourceError> {
    let max_bytes = max_bytes.clamp(1, MOST_BYTES as usize);
    let statement = select(table, query, which, max_bytes)?;
    let part = Place::new(&table.place.database, &query.part.name);
    let (mut page, mut bytes) = (Page::default(), 0_i64);
    // Not kept prepared, as each range makes another statement.
    let read = sqlx::query(AssertSqlSafe(statement)).persistent(false);
    let mut read = read.fetch(connection);
    // Row by row: nothing is held twice.
    let layout = rows::Layout::of(table, query);
    let failed = |error: sqlx::Error| faults::of_part(&error, &table.place, &part);
    while let Some(row) = read.try_next().await.map_err(failed)? {
        page.rows.push(layout.row(&row)?);
        bytes = row.try_get(BYTES_READ).at(&part)?;
    }
    // The database ended the page by its own count of bytes, so that count shows whether the page was full.
    if usize::try_from(bytes).is_ok_and(|bytes| bytes >= max_bytes) {
        let last = page.rows.last().and_then(|row| TupleId::of(&row.key));
        page.next = last.map(TupleId::cursor);
    }
    Ok(page)
}

/// Which of several parts a row is of, and whether its values are too long to be read beside others.
const PART: &str = "of_part";
const WIDE: &str = "is_wide";
/// Bytes of a row's values beyond which they lie apart from it, as a rule.
const NARROW: i32 = 2_000;

/// The same for several parts of a few blocks each, in one statement. For each part returns everything that is to be
/// read, or nothing if the part must be read alone.
pub(super) async fn parts(
    connection: &mut PgConnection,
    table: &Table,
    queries: &[ReadQuery],
    max_bytes: usize,
) -> Result<Vec<Option<Page>>, SourceError> {
    let mut all = Vec::new();
    for (at, query) in queries.iter().enumerate() {
        if let Some(place) = condition(query.range, None) {
            all.push(select_narrow(table, query, &place, at)?);
        }
    }
    let mut pages: Vec<Option<Page>> = queries.iter().map(|_| Some(Page::default())).collect();
    if all.is_empty() {
        return Ok(pages);
    }
    let all = sqlx::query(AssertSqlSafe(all.join(" UNION ALL "))).persistent(false);
    let mut read = all.fetch(connection);
    let mut bytes = 0;
    while let Some(row) = read.try_next().await.at(&table.place)? {
        let at: i32 = row.try_get(PART).at(&table.place)?;
        let at = at.unsigned_abs() as usize;
        let is_wide: bool = row.try_get(WIDE).at(&table.place)?;
        let row = rows::Layout::of(table, &queries[at]).row(&row)?;
        bytes += row.size();
        match &mut pages[at] {
            page if is_wide || bytes > max_bytes => *page = None,
            Some(page) => page.rows.push(row),
            None => {}
        }
    }
    for page in pages.iter_mut().flatten() {
        page.rows.sort_by_key(|row| row.key.place());
    }
    Ok(pages)
}

/// Rows of one of several parts, in any order; of those that are wide only that they are there.
fn select_narrow(
    table: &Table,
    query: &ReadQuery,
    place: &str,
    at: usize,
) -> Result<String, SourceError> {
    let from = parts::only(table, &query.part)?;
    let mut wanted = vec!["pg_catalog.tidsend(t.ctid)".to_owned()];
    wanted.extend(rows::names_and_binds(table, query)?);
    let (mut unsettled, mut sizes) = (vec!["false".to_owned()], vec!["0".to_owned()]);
    let mut values = Vec::new();
    for column in &query.columns {
        let value = format!("t.{}", table.protected(&column.name, column.encoding)?);
        let moves = sql::moves(&value, column.encoding, &column.settled);
        sizes.push(format!("coalesce(pg_catalog.octet_length({value}), 0)"));
        unsettled.push(moves.clone());
        values.push((value, moves));
    }
    let sizes = sizes.join(" OPERATOR(pg_catalog.+) ");
    let is_wide = format!("({sizes} OPERATOR(pg_catalog.>) {NARROW})");
    for (value, moves) in values {
        wanted.push(format!(
            "CASE WHEN {moves} AND NOT {is_wide} THEN {value} END"
        ));
    }
    wanted.push(format!("{at}::pg_catalog.int4 AS {PART}"));
    wanted.push(format!("{is_wide} AS {WIDE}"));
    let (wanted, unsettled) = (wanted.join(", "), unsettled.join(" OR "));
    Ok(format!(
        "SELECT {wanted} FROM {from} AS t WHERE {place} AND ({unsettled})"
    ))
}

/// The blocks of the range, from behind `after`; None if there is no such place.
fn condition(range: Range, after: Option<i64>) -> Option<String> {
    let first = TupleId {
        block: u32::try_from(range.first.max(0)).ok()?,
        offset: 0,
    };
    let after = after.map_or(Some(first), TupleId::from_cursor)?.max(first);
    let behind = TupleId {
        block: u32::try_from(range.last.checked_add(1)?).unwrap_or(u32::MAX),
        offset: 0,
    };
    let (after, behind) = (after.sql(), behind.sql());
    Some(format!(
        "t.ctid OPERATOR(pg_catalog.>) {after} AND t.ctid OPERATOR(pg_catalog.<) {behind}"
    ))
}

/// The most that one value adds to the running sum of a page: the sum stays in cheap integers, and
/// a value that large ends its page anyway.
const MOST_BYTES: i32 = 1 << 24;

/// Two steps in one statement, both in the order of places. An index would give another order, and a page that ends by
/// bytes would then leave unread rows behind it. The inner step knows the lengths of values without fetching them, so
/// the outer one fetches only those for which the page has room.
fn select(
    table: &Table,
    query: &ReadQuery,
    place: &str,
    max_bytes: usize,
) -> Result<String, SourceError> {
    let from = parts::only(table, &query.part)?;
    let mut inside = vec!["t.ctid AS r".to_owned()];
    let mut outside = vec!["pg_catalog.tidsend(r)".to_owned()];
    for (at, wanted) in rows::names_and_binds(table, query)?.iter().enumerate() {
        inside.push(format!("{wanted} AS w{at}"));
        outside.push(format!("w{at}"));
    }
    let (mut unsettled, mut sizes) = (vec!["false".to_owned()], vec!["0".to_owned()]);
    // A row of a single column is there because that value moves.
    let single = query.columns.len() == 1;
    for (at, column) in query.columns.iter().enumerate() {
        let value = format!("t.{}", table.protected(&column.name, column.encoding)?);
        let moves = sql::moves(&value, column.encoding, &column.settled);
        let size = format!("least(pg_catalog.octet_length({value}), {MOST_BYTES})");
        inside.push(format!("{value} AS v{at}"));
        if single {
            outside.push(format!("v{at}"));
            sizes.push(size);
        } else {
            inside.push(format!("{moves} AS m{at}"));
            outside.push(format!("CASE WHEN m{at} THEN v{at} END"));
            sizes.push(format!("CASE WHEN {moves} THEN {size} ELSE 0 END"));
        }
        unsettled.push(moves);
    }
    outside.push(BYTES_READ.to_owned());
    let (inside, outside) = (inside.join(", "), outside.join(", "));
    let (unsettled, size) = (
        unsettled.join(" OR "),
        sizes.join(" OPERATOR(pg_catalog.+) "),
    );
    Ok(format!(
        "SELECT {outside} FROM (SELECT {inside}, {size} AS size, \
         pg_catalog.sum({size}) OVER (ORDER BY t.ctid ROWS UNBOUNDED PRECEDING) AS {BYTES_READ} \
         FROM {from} AS t WHERE {place} AND ({unsettled})) AS page \
         WHERE {BYTES_READ} OPERATOR(pg_catalog.-) size OPERATOR(pg_catalog.<) {max_bytes} ORDER BY r"
    ))
}
