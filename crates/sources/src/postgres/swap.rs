//! Updates made ready for SQL, and the statement that carries them out.

use std::{fmt::Write, sync::Arc};

use rekey_domain::TextEncoding;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, postgres::PgArguments, query::QueryScalar};

use super::{catalogue::Table, time, tuple::TupleId};
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

/// Replaces the values of each row where all of them are still there; gives the numbers of those
/// rows, counted from 1. The rows are of one form.
pub(super) async fn swap(
    connection: &mut PgConnection,
    only: &str,
    rows: &[&RowSwap<'_>],
    deadline: Deadline,
) -> Result<Vec<i64>, sqlx::Error> {
    let Some(first) = rows.first() else {
        return Ok(Vec::new());
    };
    let form: Vec<_> = first.form().collect();
    let statement = statement(only, &form);
    let mut query = sqlx::query_scalar(AssertSqlSafe(statement)).bind(places(rows));
    for (at, (_, compared)) in form.iter().enumerate() {
        query = bind(query, rows, at, *compared);
    }
    let query = query.bind(time::seconds(deadline));
    query.fetch_all(connection).await
}

/// Locks those rows that nobody else has locked; gives their numbers, counted from 1.
pub(super) async fn lock(
    connection: &mut PgConnection,
    only: &str,
    rows: &[&RowSwap<'_>],
) -> Result<Vec<i64>, sqlx::Error> {
    let statement = format!(
        "SELECT u.i FROM {PLACES} WITH ORDINALITY AS u (r, i) \
         JOIN {only} AS t ON t.ctid OPERATOR(pg_catalog.=) u.r FOR NO KEY UPDATE OF t SKIP LOCKED"
    );
    let locked = sqlx::query_scalar(AssertSqlSafe(statement)).bind(places(rows));
    locked.fetch_all(connection).await
}

/// The rows' places, by the literal that [`places`] writes.
const PLACES: &str = "pg_catalog.unnest($1::pg_catalog.text::pg_catalog.tid[])";

/// The rows' places as a literal of an array.
fn places(rows: &[&RowSwap<'_>]) -> String {
    let mut places = String::with_capacity(rows.len() * 16);
    for row in rows {
        let open = if places.is_empty() { '{' } else { ',' };
        write!(places, "{open}\"{}\"", row.place).expect("writing to a String does not fail");
    }
    places.push('}');
    places
}

/// Every name is qualified: as the statement runs the path of the application holds, for its triggers.
fn statement(only: &str, form: &[(&str, Compared)]) -> String {
    let (mut sets, mut arrays) = (Vec::new(), vec![PLACES.to_owned()]);
    let mut names = vec!["r".to_owned()];
    let mut conditions = vec!["t.ctid OPERATOR(pg_catalog.=) u.r".to_owned()];
    for (at, (column, compared)) in form.iter().enumerate() {
        let kind = if *compared == Compared::Text {
            "text"
        } else {
            "bytea"
        };
        let array = |parameter| format!("pg_catalog.unnest(${parameter}::pg_catalog.{kind}[])");
        arrays.extend([array(2 * at + 2), array(2 * at + 3)]);
        names.extend([format!("o{at}"), format!("n{at}")]);
        sets.push(format!("{column} = u.n{at}"));
        conditions.push(still_there(column, *compared, at));
    }
    let (sets, arrays) = (sets.join(", "), arrays.join(", "));
    let (names, conditions) = (names.join(", "), conditions.join(" AND "));
    let before = time::before(2 * form.len() + 2);
    format!(
        "UPDATE {only} AS t SET {sets} \
         FROM ROWS FROM ({arrays}) WITH ORDINALITY AS u ({names}, i) \
         WHERE {conditions} AND {before} RETURNING u.i"
    )
}

fn still_there(column: &str, compared: Compared, at: usize) -> String {
    let start = rekey_envelope::FINGERPRINT_LEN;
    let stored = match compared {
        Compared::Start => {
            format!("pg_catalog.substr(t.{column}::pg_catalog.bytea, 1, {start})")
        }
        Compared::Bytes => format!("t.{column}::pg_catalog.bytea"),
        Compared::Text => format!("t.{column}::pg_catalog.text COLLATE pg_catalog.\"C\""),
    };
    format!("{stored} OPERATOR(pg_catalog.=) u.o{at}")
}

type Statement<'q> = QueryScalar<'q, Postgres, i64, PgArguments>;

/// Binds what is compared and what is written of one column, row by row.
fn bind<'q>(
    query: Statement<'q>,
    rows: &[&'q RowSwap<'q>],
    at: usize,
    compared: Compared,
) -> Statement<'q> {
    if compared == Compared::Text {
        let old: Vec<&str> = rows.iter().map(|row| text(row.columns[at].old)).collect();
        let new: Vec<&str> = rows
            .iter()
            .map(|row| new_text(row.columns[at].new))
            .collect();
        return query.bind(old).bind(new);
    }
    let old: Vec<&[u8]> = rows.iter().map(|row| bytes(row.columns[at].old)).collect();
    let new: Vec<&[u8]> = rows
        .iter()
        .map(|row| new_bytes(row.columns[at].new))
        .collect();
    query.bind(old).bind(new)
}

fn text(old: Fingerprint<'_>) -> &str {
    match old {
        Fingerprint::Text(text) => text,
        Fingerprint::Start(_) | Fingerprint::Bytes(_) => unreachable!("rows of one form"),
    }
}

fn bytes(old: Fingerprint<'_>) -> &[u8] {
    match old {
        Fingerprint::Start(bytes) | Fingerprint::Bytes(bytes) => bytes,
        Fingerprint::Text(_) => unreachable!("rows of one form"),
    }
}

fn new_text(new: &StoredValue) -> &str {
    match new {
        StoredValue::Text(text) => text,
        _ => unreachable!("`RowSwap::new` lets only values through that fit"),
    }
}

fn new_bytes(new: &StoredValue) -> &[u8] {
    match new {
        StoredValue::Bytes(bytes) => bytes,
        _ => unreachable!("`RowSwap::new` lets only values through that fit"),
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
            statement("ONLY \"p\"", &form),
            "UPDATE ONLY \"p\" AS t SET \"ssn\" = u.n0, \"notes\" = u.n1 \
             FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text::pg_catalog.tid[]), \
             pg_catalog.unnest($2::pg_catalog.bytea[]), pg_catalog.unnest($3::pg_catalog.bytea[]), \
             pg_catalog.unnest($4::pg_catalog.text[]), pg_catalog.unnest($5::pg_catalog.text[])) \
             WITH ORDINALITY AS u (r, o0, n0, o1, n1, i) \
             WHERE t.ctid OPERATOR(pg_catalog.=) u.r \
             AND pg_catalog.substr(t.\"ssn\"::pg_catalog.bytea, 1, 21) OPERATOR(pg_catalog.=) u.o0 \
             AND t.\"notes\"::pg_catalog.text COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) u.o1 \
             AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) \
             pg_catalog.to_timestamp($6::pg_catalog.float8) RETURNING u.i"
        );
    }
}
