//! What stands in a row beside the values that an update writes, and must stand there afterwards.

use sqlx::PgConnection;

use super::{catalogue::Table, faults::Located, names::quote};
use crate::{SourceError, WriteTarget, place::Place};

/// Columns that an update leaves alone; what it sets off must, too.
#[derive(Default)]
pub(super) struct Beside {
    /// The columns that values are bound to, as identifiers.
    binds: Vec<String>,
    /// The protected columns, as identifiers.
    protected: Vec<String>,
    /// Values are compared by their size, as one of them cannot be read.
    pub(super) by_size: bool,
}

impl Beside {
    /// What a heap has of the columns to leave alone; `only` names it.
    ///
    /// # Errors
    /// [`SourceError::NoSuchColumn`]: under which name a column stands now, nobody knows.
    pub(super) async fn of(
        connection: &mut PgConnection,
        only: &str,
        (table, target): (&Table, &WriteTarget),
        place: &Place,
    ) -> Result<Self, SourceError> {
        for name in target.protected_columns.iter().chain(&target.bind_columns) {
            table.shape_of(name)?;
        }
        let sql = "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a \
            WHERE a.attrelid OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.regclass::pg_catalog.oid \
            AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped";
        let there = sqlx::query_scalar(sql).bind(only.trim_start_matches("ONLY "));
        let there: Vec<String> = there.fetch_all(connection).await.at(place)?;
        let named = |columns: &[String]| {
            let named = columns.iter().filter(|name| there.contains(name));
            named.map(|name| quote(name)).collect::<Vec<_>>()
        };
        let mut protected = named(&target.protected_columns);
        protected.extend(named(&target.other_columns));
        protected.sort_unstable();
        protected.dedup();
        Ok(Self {
            binds: named(&target.bind_columns),
            protected,
            by_size: false,
        })
    }

    /// How many bytes of a row `t` are looked at beside what is written.
    pub(super) fn size_sql(&self, written: &[&str]) -> Option<String> {
        let sizes = self.left(written).map(|column| {
            format!("coalesce(pg_catalog.pg_column_size(t.{column}), 0)::pg_catalog.int8")
        });
        let sizes: Vec<_> = sizes.collect();
        (!sizes.is_empty()).then(|| sizes.join(" OPERATOR(pg_catalog.+) "))
    }

    fn left<'a>(&'a self, written: &'a [&str]) -> impl Iterator<Item = &'a String> {
        let left = self.protected.iter();
        left.filter(|column| !written.contains(&column.as_str()))
    }

    /// What stands in these columns of a row `t`, as SQL gives it: one text, of bounded length for each protected column.
    /// Those that are `written` are compared by themselves.
    pub(super) fn sql(&self, written: &[&str]) -> String {
        let binds = self.binds.iter().map(|column| {
            format!("pg_catalog.quote_nullable(CASE WHEN t.{column} IS NOT NULL THEN pg_catalog.format('%s', t.{column}) END)")
        });
        let values = self.left(written).map(|column| {
            let seen = match self.by_size {
                true => format!("pg_catalog.pg_column_size(t.{column})"),
                false => format!("pg_catalog.hashtextextended(pg_catalog.format('%s', t.{column}) COLLATE pg_catalog.\"C\", 0)"),
            };
            format!("pg_catalog.quote_nullable(CASE WHEN t.{column} IS NOT NULL THEN {seen}::pg_catalog.text END)")
        });
        let nothing = std::iter::once("''::pg_catalog.text".to_owned());
        let all: Vec<_> = nothing.chain(binds).chain(values).collect();
        all.join(" OPERATOR(pg_catalog.||) ',' OPERATOR(pg_catalog.||) ")
    }
}
