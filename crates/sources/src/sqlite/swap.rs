//! A swap replaces a value that is still there; SQL says what must be there, and what is put there.

use sqlx::{Sqlite, query::Query, sqlite::SqliteArguments};

use super::catalogue::Table;
use crate::{ColumnUpdate, RowUpdate, SourceError, StoredValue, value::Fingerprint};

/// One column of an update, made ready for SQL.
pub(super) struct Swap<'a> {
    pub(super) column: String,
    pub(super) old: Fingerprint<'a>,
    pub(super) new: Fingerprint<'a>,
}

/// What identifies all of a value.
fn whole(value: &StoredValue) -> Option<Fingerprint<'_>> {
    match value {
        StoredValue::Bytes(bytes) => Some(Fingerprint::Bytes(bytes)),
        StoredValue::Text(text) => Some(Fingerprint::Text(text)),
        StoredValue::Other | StoredValue::Unreadable(_) => None,
    }
}

pub(super) fn swaps<'a>(
    table: &Table,
    update: &'a RowUpdate,
) -> Result<Vec<Swap<'a>>, SourceError> {
    let swap = |column: &'a ColumnUpdate| {
        let old = column.old.fingerprint(column.encoding);
        let new = whole(&column.new).filter(|_| column.new.fits(column.encoding));
        let (old, new) = old.zip(new).ok_or_else(|| SourceError::NotWritable {
            relation: table.place.relation.clone(),
            column: column.name.to_string(),
            row: update.key,
        })?;
        let column = table.bare_column(&column.name)?;
        Ok(Swap { column, old, new })
    };
    update.columns.iter().map(swap).collect()
}

impl Swap<'_> {
    /// A condition with one parameter, [`bind`]: the column holds this.
    pub(super) fn holds(&self, value: Fingerprint<'_>) -> String {
        let column = &self.column;
        match value {
            Fingerprint::Start(start) => format!(
                "typeof(t.{column}) = 'blob' AND substr(t.{column}, 1, {}) = ?",
                start.len()
            ),
            Fingerprint::Bytes(_) => format!("typeof(t.{column}) = 'blob' AND t.{column} = ?"),
            Fingerprint::Text(_) => {
                format!("typeof(t.{column}) = 'text' AND t.{column} COLLATE BINARY = ?")
            }
        }
    }
}

pub(super) type Statement<'a> = Query<'a, Sqlite, SqliteArguments>;

pub(super) fn bind<'a>(statement: Statement<'a>, value: Fingerprint<'a>) -> Statement<'a> {
    match value {
        Fingerprint::Start(bytes) | Fingerprint::Bytes(bytes) => statement.bind(bytes),
        Fingerprint::Text(text) => statement.bind(text),
    }
}
