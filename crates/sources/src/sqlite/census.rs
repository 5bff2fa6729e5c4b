//! Counting the values of a column by the key their first bytes name.

use rekey_domain::{Found, KeyId, Range, TextEncoding};
use sqlx::{
    AssertSqlSafe, Connection, Row, SqliteConnection, TypeInfo, ValueRef, sqlite::SqliteRow,
};

use super::{catalogue::Table, faults::Located, leftovers, otherwise, ranges, sql};
use crate::{
    CensusColumn, Counted, CountedBy, PassToShow, SourceError, census::Counting, place::Place,
};

/// Rows counted by one statement, so that none runs long.
const RANGE_ROWS: u32 = 20_000;

/// The values of each column that are not NULL, by what they are.
///
/// In one read transaction, the caller's, so that all is of one moment: `INSERT OR REPLACE` gives a row
/// another rowid. In WAL mode that stops nobody. In the other journal modes no application can commit until it
/// ends, some seconds for a large table.
pub(super) async fn count(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[CensusColumn],
    pass: Option<&PassToShow>,
) -> Result<Vec<Vec<Counted>>, SourceError> {
    let mut counting = Counting::new(pass);
    count_ranges(connection, table, columns, &mut counting).await?;
    if let Some(shown) = counting.to_look_for() {
        leftovers::look(connection, table, columns, &shown.settled, &mut counting).await?;
    }
    if counting.seek() {
        leftovers::look(connection, table, columns, &[], &mut counting).await?;
    }
    Ok(counting.into_columns(columns.len()))
}

/// Checks that each column is the one that was noted. SQLite does not tell what became of a noted column: the caller
/// must look for its values.
pub(super) fn check_known(
    table: &Table,
    columns: &[CensusColumn],
    known: &[Option<String>],
) -> Result<(), SourceError> {
    for (column, before) in columns.iter().zip(known) {
        if before.is_some() && table.shape.identity(&column.name) != *before {
            return Err(SourceError::Replaced {
                relation: table.place.relation.clone(),
                column: column.name.clone(),
                what: "the schema has changed since".to_owned(),
            });
        }
    }
    Ok(())
}

/// Takes the write lock once: whoever held it before has committed or given up. SQLite has no other
/// open transaction that can still write.
pub(super) async fn fence(
    connection: &mut SqliteConnection,
    place: &Place,
) -> Result<String, SourceError> {
    let transaction = connection.begin_with("BEGIN IMMEDIATE").await.at(place)?;
    transaction.rollback().await.at(place)?;
    Ok("write lock".to_owned())
}

/// Counts range by range, up to the greatest rowid; in one statement if there are no ranges. A rowid out of order ends
/// a range too soon, and SQLite does not report it, so all rows are counted once more without rowids.
async fn count_ranges(
    connection: &mut SqliteConnection,
    table: &Table,
    columns: &[CensusColumn],
    counting: &mut Counting<'_>,
) -> Result<(), SourceError> {
    let selects: Result<Vec<_>, _> = columns.iter().map(|column| select(table, column)).collect();
    let selects = selects?;
    if !table.has_rowid() {
        return count_range(connection, table, &selects, None, counting).await;
    }
    let end = ranges::end(connection, table).await?;
    let (mut after, mut rows) = (None, 0);
    while let Some(end) = end {
        let range = ranges::next(connection, table, after, end, RANGE_ROWS).await?;
        let Some(range) = range else { break };
        count_range(connection, table, &selects, Some(range), counting).await?;
        rows += ranges::rows(connection, table, range).await?;
        after = Some(range.last);
    }
    let all = ranges::all_rows(connection, table).await?;
    if rows == all {
        return Ok(());
    }
    Err(SourceError::Damaged {
        database: table.place.database.to_string(),
        relation: table.place.relation.clone(),
        reason: format!("{all} rows are there, and {rows} are found by their rowids"),
        code: "see PRAGMA integrity_check".to_owned(),
    })
}

async fn count_range(
    connection: &mut SqliteConnection,
    table: &Table,
    selects: &[String],
    range: Option<Range>,
    counting: &mut Counting<'_>,
) -> Result<(), SourceError> {
    for (at, select) in selects.iter().enumerate() {
        for (found, values) in groups(connection, table, select, range).await? {
            *counting.counts.entry((at, found)).or_default() += values;
        }
    }
    Ok(())
}

async fn groups(
    connection: &mut SqliteConnection,
    table: &Table,
    select: &str,
    range: Option<Range>,
) -> Result<Vec<(Found, u64)>, SourceError> {
    let mut query = sqlx::query(AssertSqlSafe(select));
    if let Some(range) = range {
        query = query.bind(range.first).bind(range.last);
    }
    let rows = query.fetch_all(connection).await.at(&table.place)?;
    let groups = rows.iter().map(group);
    groups.collect::<Result<_, sqlx::Error>>().at(&table.place)
}

/// Groups by prefix only what starts like ciphertext: a column full of plaintext is one group.
///
/// SQLite sorts what it groups, with all columns that the expressions speak of: whole values. `LIMIT`
/// keeps it from drawing the inner statement into the outer, so that only starts are sorted.
fn select(table: &Table, column: &CensusColumn) -> Result<String, SourceError> {
    let encoding = column.encoding;
    let (from, value) = (table.sql(), table.column(&column.name)?);
    let start = start_of_ciphertext(&value, encoding, column.by);
    let range = match table.has_rowid() {
        true => format!("{} BETWEEN ? AND ? AND", table.rowid()),
        false => String::new(),
    };
    Ok(format!(
        "SELECT start, count(*) FROM (SELECT {start} AS start \
         FROM {from} WHERE {range} {value} IS NOT NULL LIMIT -1) GROUP BY 1"
    ))
}

/// What tells a value's key, or that it is empty; NULL for what has not the form of ciphertext.
pub(super) fn start_of_ciphertext(value: &str, encoding: TextEncoding, by: CountedBy) -> String {
    let ours = match by {
        CountedBy::Form | CountedBy::AnyForm => sql::is_ciphertext(value, encoding),
        CountedBy::Start => sql::begins_as_ciphertext(value, encoding),
    };
    let other = match by {
        CountedBy::Form => "NULL".to_owned(),
        CountedBy::Start | CountedBy::AnyForm => otherwise::start(value, encoding),
    };
    let (empty, length) = (sql::is_empty(value), sql::prefix_length(encoding));
    let start = format!("substr({value}, 1, {length})");
    format!("CASE WHEN {empty} THEN '{EMPTY}' WHEN {ours} THEN {start} ELSE {other} END")
}

/// In place of a start: shorter than one.
const EMPTY: &str = "-";

pub(super) fn group(row: &SqliteRow) -> Result<(Found, u64), sqlx::Error> {
    let start = row.try_get_raw(0)?;
    let found = match start.type_info().name() {
        "BLOB" => of_bytes(row.try_get(0)?),
        _ => of_text(row)?,
    };
    let values: i64 = row.try_get(1)?;
    Ok((found, values.unsigned_abs()))
}

/// The key with this prefix; none if the prefix is too short.
fn of_bytes(start: Option<Vec<u8>>) -> Found {
    let start = <[u8; rekey_envelope::PREFIX_LEN]>::try_from(start.unwrap_or_default());
    start.map_or(Found::NotCiphertext, |[_, id @ ..]| {
        Found::Key(KeyId::new(u32::from_be_bytes(id)))
    })
}

/// Text that is not UTF-8 is no base64.
fn of_text(row: &SqliteRow) -> Result<Found, sqlx::Error> {
    let prefix = match row.try_get::<Option<String>, _>(0) {
        Err(sqlx::Error::ColumnDecode { .. }) => None,
        prefix => prefix?,
    };
    let prefix = prefix.as_deref();
    if prefix == Some(EMPTY) {
        return Ok(Found::Empty);
    }
    let key = prefix.and_then(otherwise::key);
    Ok(key.map_or(Found::NotCiphertext, Found::Key))
}
