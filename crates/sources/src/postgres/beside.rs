//! What stands in a row beside the values that an update writes, and must stand there afterwards.

use super::{catalogue::Table, names::quote};
use crate::WriteTarget;

/// Columns that an update leaves alone; what it sets off must, too.
#[derive(Default)]
pub(super) struct Beside {
    /// The columns that values are bound to, as identifiers.
    binds: Vec<String>,
    /// The protected columns, as identifiers.
    protected: Vec<String>,
}

impl Beside {
    /// A column that is not there any more holds nothing that could be lost.
    pub(super) fn of(table: &Table, target: &WriteTarget) -> Self {
        let named = |columns: &[String]| {
            let there = columns.iter().filter(|name| table.shape_of(name).is_ok());
            there.map(|name| quote(name)).collect()
        };
        Self {
            binds: named(&target.bind_columns),
            protected: named(&target.protected_columns),
        }
    }

    /// What stands in these columns of a row `t`, as SQL gives it: one text, of bounded length for each protected column.
    /// Those that are `written` are compared by themselves.
    pub(super) fn sql(&self, written: &[&str]) -> String {
        let binds = self.binds.iter().map(|column| {
            format!("pg_catalog.quote_nullable(CASE WHEN t.{column} IS NOT NULL THEN pg_catalog.format('%s', t.{column}) END)")
        });
        let left = self.protected.iter();
        let left = left.filter(|column| !written.contains(&column.as_str()));
        let values = left.map(|column| {
            format!("pg_catalog.quote_nullable(CASE WHEN t.{column} IS NOT NULL THEN \
                pg_catalog.hashtextextended(pg_catalog.format('%s', t.{column}) COLLATE pg_catalog.\"C\", 0)::pg_catalog.text END)")
        });
        let nothing = std::iter::once("''::pg_catalog.text".to_owned());
        let all: Vec<_> = nothing.chain(binds).chain(values).collect();
        all.join(" OPERATOR(pg_catalog.||) ',' OPERATOR(pg_catalog.||) ")
    }
}
