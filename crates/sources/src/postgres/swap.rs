//! Updates made ready for SQL, and the statement that carries them out.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use rekey_domain::TextEncoding;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row, postgres::PgArguments, query::Query};

use super::{beside::Beside, catalogue::Table, time, tuple::TupleId};
use crate::{ColumnUpdate, Deadline, RowUpdate, SourceError, StoredValue, value::Fingerprint};

/// A row's update.
pub(super) struct RowSwap<'a> {
    /// Its index in what the caller gave.
    pub(super) index: usize,
    pub(super) update: &'a RowUpdate,
    pub(super) place: TupleId,
    columns: Vec<ColumnSwap<'a>>,
}

struct ColumnSwap<'a> {
    column: Arc<str>,
    old: Fingerprint<'a>,
    new: &'a StoredValue,
}

/// Columns of updates, each looked up in the table's shape once.
pub(super) struct Columns<'a> {
    table: &'a Table,
    known: Vec<(&'a str, TextEncoding, Arc<str>)>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(table: &'a Table) -> Self {
        let known = Vec::new();
        Self { table, known }
    }

    /// The column as an identifier.
    fn named(&mut self, column: &'a ColumnUpdate) -> Result<Arc<str>, SourceError> {
        let (name, encoding) = (&*column.name, column.encoding);
        let mut known = self.known.iter();
        if let Some((.., quoted)) = known.find(|known| (known.0, known.1) == (name, encoding)) {
            return Ok(quoted.clone());
        }
        let quoted: Arc<str> = self.table.protected(name, encoding)?.into();
        self.known.push((name, encoding, quoted.clone()));
        Ok(quoted)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Start,
    Bytes,
    Text,
}

impl<'a> RowSwap<'a> {
    /// # Errors
    /// [`SourceError::NotWritable`] for what cannot be compared or stored.
    pub(super) fn new(
        known: &mut Columns<'a>,
        index: usize,
        update: &'a RowUpdate,
    ) -> Result<Self, SourceError> {
        let table = known.table;
        let not_writable = |column: &ColumnUpdate| SourceError::NotWritable {
            relation: table.place.relation.clone(),
            column: column.name.to_string(),
            row: update.key,
        };
        let swap = |column: &'a ColumnUpdate| {
            table.shape_of(&column.name)?;
            let fits = column.old.fits(column.encoding) && column.new.fits(column.encoding);
            let old = column.old.fingerprint(column.encoding).filter(|_| fits);
            Ok(ColumnSwap {
                old: old.ok_or_else(|| not_writable(column))?,
                column: known.named(column)?,
                new: &column.new,
            })
        };
        let columns: Result<Vec<_>, SourceError> = update.columns.iter().map(swap).collect();
        let place = TupleId::of(&update.key);
        let place = place.ok_or_else(|| SourceError::NotWritable {
            relation: table.place.relation.clone(),
            column: "-".to_owned(),
            row: update.key,
        })?;
        Ok(Self {
            index,
            update,
            place,
            columns: columns?,
        })
    }

    pub(super) fn size(&self) -> usize {
        self.update.size()
    }

    /// Whether one statement can write both rows.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.form().eq(other.form())
    }

    /// Which columns a statement writes, and what of each it compares.
    fn form(&self) -> impl Iterator<Item = (&str, Compared)> {
        let compared = |swap: &ColumnSwap<'_>| match swap.old {
            Fingerprint::Start(_) => Compared::Start,
            Fingerprint::Bytes(_) => Compared::Bytes,
            Fingerprint::Text(_) => Compared::Text,
        };
        let columns = self.columns.iter();
        columns.map(move |swap| (&*swap.column, compared(swap)))
    }
}

/// Replaces a row's values if all of them are still there. Returns the rows that were written, and their new places.
/// All rows have the same form; `only_if` is a further condition for all.
pub(super) async fn swap<'a>(
    connection: &mut PgConnection,
    only: &str,
    rows: &[&'a RowSwap<'a>],
    deadline: Deadline,
    only_if: &str,
) -> Result<Vec<(&'a RowSwap<'a>, TupleId)>, sqlx::Error> {
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let form: Vec<_> = first.form().collect();
    let statement = statement(only, &form, only_if);
    let places = places(rows.iter().map(|row| row.place));
    let mut query = sqlx::query(AssertSqlSafe(statement)).bind(places);
    for (at, (_, compared)) in form.iter().enumerate() {
        query = bind(query, rows, at, *compared, Side::Old);
        query = bind(query, rows, at, *compared, Side::New);
    }
    let query = query.bind(time::seconds(deadline));
    let written = query.fetch_all(connection).await?;
    let written = written
        .iter()
        .map(|row| Ok((numbered(rows, row.try_get(0)?)?, TupleId::read(row, 1)?)));
    written.collect()
}

/// Which value of a swap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// What was read, as much of it as is compared.
    Old,
    /// What replaces it.
    New,
}

/// The indices of rows that hold these values at these places as our transaction sees them, each with what stands
/// beside them. Not prepared by name, as code that ran in this session could have exchanged the statement.
pub(super) async fn held<'a>(
    connection: &mut PgConnection,
    only: &str,
    rows: &[(&'a RowSwap<'a>, TupleId)],
    side: Side,
    beside: &Beside,
) -> Result<HashMap<usize, String>, sqlx::Error> {
    let Some((first, _)) = rows.first() else {
        return Ok(HashMap::new());
    };
    let form: Vec<_> = first.form().collect();
    let statement = held_statement(only, &form, side, beside);
    let swaps: Vec<_> = rows.iter().map(|(row, _)| *row).collect();
    let places = places(rows.iter().map(|(_, place)| *place));
    let mut query = sqlx::query(AssertSqlSafe(statement)).bind(places);
    for (at, (_, compared)) in form.iter().enumerate() {
        query = bind(query, &swaps, at, *compared, side);
    }
    let held = query.persistent(false).fetch_all(connection).await?;
    let held = held
        .iter()
        .map(|row| Ok((numbered(&swaps, row.try_get(0)?)?.index, row.try_get(1)?)));
    held.collect()
}

/// How many bytes stand beside what each row is to hold; none where nothing does. All rows have the same form.
pub(super) async fn sizes_beside(
    connection: &mut PgConnection,
    only: &str,
    rows: &[&RowSwap<'_>],
    beside: &Beside,
) -> Result<Option<HashMap<usize, u64>>, sqlx::Error> {
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let written: Vec<_> = first.form().map(|(column, _)| column).collect();
    let Some(size) = beside.size_sql(&written) else {
        return Ok(None);
    };
    let statement = format!(
        "SELECT u.i, {size} FROM {PLACES} WITH ORDINALITY AS u (r, i) \
         JOIN {only} AS t ON t.ctid OPERATOR(pg_catalog.=) u.r"
    );
    let places = places(rows.iter().map(|row| row.place));
    let sizes = sqlx::query(AssertSqlSafe(statement))
        .persistent(false)
        .bind(places);
    let sizes = sizes.fetch_all(connection).await?;
    let sizes = sizes.iter().map(|row| {
        let bytes: i64 = row.try_get(1)?;
        Ok((numbered(rows, row.try_get(0)?)?.index, bytes.unsigned_abs()))
    });
    sizes.collect::<Result<_, sqlx::Error>>().map(Some)
}

/// PostgreSQL counts from 1.
fn numbered<'a>(rows: &[&'a RowSwap<'a>], number: i64) -> Result<&'a RowSwap<'a>, sqlx::Error> {
    let at = usize::try_from(number - 1).ok();
    let row = at.and_then(|at| rows.get(at)).copied();
    row.ok_or_else(|| sqlx::Error::Protocol("no row of ours".to_owned()))
}

/// Locks the rows that are still there and gives them; those that somebody else has locked are waited for
/// or skipped.
pub(super) async fn lock<'a>(
    connection: &mut PgConnection,
    only: &str,
    rows: &[&'a RowSwap<'a>],
    skip_locked: bool,
) -> Result<Vec<&'a RowSwap<'a>>, sqlx::Error> {
    let skip = if skip_locked { "SKIP LOCKED" } else { "" };
    let statement = format!(
        "SELECT u.i FROM {PLACES} WITH ORDINALITY AS u (r, i) \
         JOIN {only} AS t ON t.ctid OPERATOR(pg_catalog.=) u.r FOR NO KEY UPDATE OF t {skip}"
    );
    let places = places(rows.iter().map(|row| row.place));
    let locked = sqlx::query_scalar(AssertSqlSafe(statement)).bind(places);
    let locked = locked.fetch_all(connection).await?.into_iter();
    locked.map(|number| numbered(rows, number)).collect()
}

/// The rows' places, by the literal that [`places`] writes.
const PLACES: &str = "pg_catalog.unnest($1::pg_catalog.text::pg_catalog.tid[])";

/// The rows' places as a literal of an array.
fn places(rows: impl Iterator<Item = TupleId>) -> String {
    let mut places = String::with_capacity(rows.size_hint().0 * 16);
    for place in rows {
        let open = if places.is_empty() { '{' } else { ',' };
        write!(places, "{open}\"{place}\"").expect("writing to a String does not fail");
    }
    places.push('}');
    places
}

/// Every name is qualified: during the update the application's search path is set, for its triggers.
fn statement(only: &str, form: &[(&str, Compared)], only_if: &str) -> String {
    let (mut sets, mut arrays) = (Vec::new(), vec![PLACES.to_owned()]);
    let mut names = vec!["r".to_owned()];
    let mut conditions = vec!["t.ctid OPERATOR(pg_catalog.=) u.r".to_owned()];
    for (at, (column, compared)) in form.iter().enumerate() {
        arrays.extend([array(2 * at + 2, *compared), array(2 * at + 3, *compared)]);
        names.extend([format!("o{at}"), format!("n{at}")]);
        sets.push(format!("{column} = u.n{at}"));
        conditions.push(holds(column, *compared, Side::Old, &format!("u.o{at}")));
    }
    let (sets, arrays) = (sets.join(", "), arrays.join(", "));
    let (names, conditions) = (names.join(", "), conditions.join(" AND "));
    let before = time::before(2 * form.len() + 2);
    format!(
        "UPDATE {only} AS t SET {sets} \
         FROM ROWS FROM ({arrays}) WITH ORDINALITY AS u ({names}, i) \
         WHERE {conditions} AND {before} AND {only_if} RETURNING u.i, pg_catalog.tidsend(t.ctid)"
    )
}

fn held_statement(only: &str, form: &[(&str, Compared)], side: Side, beside: &Beside) -> String {
    let (mut arrays, mut names) = (vec![PLACES.to_owned()], vec!["r".to_owned()]);
    let mut conditions = vec!["t.ctid OPERATOR(pg_catalog.=) u.r".to_owned()];
    for (at, (column, compared)) in form.iter().enumerate() {
        arrays.push(array(at + 2, *compared));
        names.push(format!("v{at}"));
        conditions.push(holds(column, *compared, side, &format!("u.v{at}")));
    }
    let (arrays, names) = (arrays.join(", "), names.join(", "));
    let conditions = conditions.join(" AND ");
    let written: Vec<_> = form.iter().map(|(column, _)| *column).collect();
    let beside = beside.sql(&written);
    format!(
        "SELECT u.i, {beside} FROM ROWS FROM ({arrays}) WITH ORDINALITY AS u ({names}, i) \
         JOIN {only} AS t ON {conditions}"
    )
}

fn array(parameter: usize, compared: Compared) -> String {
    let kind = match compared {
        Compared::Text => "text",
        Compared::Start | Compared::Bytes => "bytea",
    };
    format!("pg_catalog.unnest(${parameter}::pg_catalog.{kind}[])")
}

/// A condition: the column holds `value`. Old ciphertext is compared by its start, which no other shares; what was
/// written is compared as a whole.
fn holds(column: &str, compared: Compared, side: Side, value: &str) -> String {
    let start = rekey_envelope::FINGERPRINT_LEN;
    let stored = match (compared, side) {
        (Compared::Text, _) => {
            format!("t.{column}::pg_catalog.text COLLATE pg_catalog.\"C\"")
        }
        (Compared::Start, Side::Old) => {
            format!("pg_catalog.substr(t.{column}::pg_catalog.bytea, 1, {start})")
        }
        (Compared::Start | Compared::Bytes, _) => format!("t.{column}::pg_catalog.bytea"),
    };
    format!("{stored} OPERATOR(pg_catalog.=) {value}")
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Binds one column's values, row by row.
fn bind<'q>(
    query: Statement<'q>,
    rows: &[&'q RowSwap<'q>],
    at: usize,
    compared: Compared,
    side: Side,
) -> Statement<'q> {
    let columns = rows.iter().map(|row| &row.columns[at]);
    if compared == Compared::Text {
        let texts: Vec<&str> = columns.map(|column| column.text(side)).collect();
        return query.bind(texts);
    }
    let bytes: Vec<&[u8]> = columns.map(|column| column.bytes(side)).collect();
    query.bind(bytes)
}

impl ColumnSwap<'_> {
    fn text(&self, side: Side) -> &str {
        match (side, self.old, self.new) {
            (Side::Old, Fingerprint::Text(text), _) => text,
            (Side::New, _, StoredValue::Text(text)) => text,
            _ => unreachable!(
                "`RowSwap::new` lets only values through that fit, and rows are of one form"
            ),
        }
    }

    fn bytes(&self, side: Side) -> &[u8] {
        match (side, self.old, self.new) {
            (Side::Old, Fingerprint::Start(bytes) | Fingerprint::Bytes(bytes), _) => bytes,
            (Side::New, _, StoredValue::Bytes(bytes)) => bytes,
            _ => unreachable!(
                "`RowSwap::new` lets only values through that fit, and rows are of one form"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::names::quote;

    #[test]
    fn one_statement_writes_all_columns_of_a_row_where_all_are_still_there() {
        let (ssn, notes) = (quote("ssn"), quote("notes"));
        let form = [
            (ssn.as_str(), Compared::Start),
            (notes.as_str(), Compared::Text),
        ];
        assert_eq!(
            statement("ONLY \"p\"", &form, "true"),
            "UPDATE ONLY \"p\" AS t SET \"ssn\" = u.n0, \"notes\" = u.n1 \
             FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text::pg_catalog.tid[]), \
             pg_catalog.unnest($2::pg_catalog.bytea[]), pg_catalog.unnest($3::pg_catalog.bytea[]), \
             pg_catalog.unnest($4::pg_catalog.text[]), pg_catalog.unnest($5::pg_catalog.text[])) \
             WITH ORDINALITY AS u (r, o0, n0, o1, n1, i) \
             WHERE t.ctid OPERATOR(pg_catalog.=) u.r \
             AND pg_catalog.substr(t.\"ssn\"::pg_catalog.bytea, 1, 21) OPERATOR(pg_catalog.=) u.o0 \
             AND t.\"notes\"::pg_catalog.text COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) u.o1 \
             AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) \
             pg_catalog.to_timestamp($6::pg_catalog.float8) AND true \
             RETURNING u.i, pg_catalog.tidsend(t.ctid)"
        );
    }
}
