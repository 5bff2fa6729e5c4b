//! What no column shows alone: rows that two tables of the file would move, values bound to what moves.

use rekey_store::{
    Unit,
    columns::{self, Protected},
};

use super::Resolved;
use crate::OperationError;

/// A column that is declared twice would be moved by two plans and bound to two ids: a table under two
/// names, or a partition or a table that inherits beside the table whose rows it holds too.
pub(super) fn refuse_twice(resolved: &[Resolved<'_>]) -> Result<(), OperationError> {
    for (at, later) in resolved.iter().enumerate() {
        let mut earlier = resolved[..at].iter();
        let Some(first) = earlier.find(|first| first.is_same_column(later)) else {
            continue;
        };
        return Err(wrong(
            later.name(),
            format!(
                "it is {} too: both hold values of the same rows; declare it once, at the table that holds all of them",
                first.name()
            ),
        ));
    }
    Ok(())
}

/// A value that is bound to a protected column opens no more once that one has moved. Asked of the
/// store: a column that the file no longer names is protected all the same.
pub(super) async fn refuse_moving_binds(
    unit: &Unit,
    resolved: &[Resolved<'_>],
) -> Result<(), OperationError> {
    let protected = columns::all(unit.db()).await?;
    for one in resolved {
        let of_table: Vec<_> = protected
            .iter()
            .filter(|column| one.is_at(column))
            .collect();
        for column in &of_table {
            let mut binds = column.spec.bind_columns.iter();
            let moves = |bind: &&String| {
                let mut others = of_table.iter();
                others.any(|other| one.is_one_column(bind, &other.spec.name.column))
            };
            let Some(bind) = binds.find(moves) else {
                continue;
            };
            return Err(wrong(
                column.spec.name.to_string(),
                format!(
                    "it is bound to {bind}, a protected column, whose values change with every rotation; bind it to columns that never change, bind = [\"…\"], or say bind = \"column\""
                ),
            ));
        }
    }
    Ok(())
}

fn wrong(column: String, problem: String) -> OperationError {
    OperationError::Configuration {
        place: format!("column {column}"),
        problem,
    }
}

impl Resolved<'_> {
    fn name(&self) -> String {
        let (source, table) = (&self.source.name, &self.table.name);
        format!("{source}.{table}.{}", self.column.name)
    }

    fn is_same_column(&self, other: &Self) -> bool {
        let column = |one: &Self| Some(one.shape.column(&one.column.name)?.name.clone());
        let mut heaps = self.shape.heaps.iter();
        self.source.name == other.source.name
            && column(self) == column(other)
            && heaps.any(|heap| other.shape.heaps.contains(heap))
    }

    pub(super) fn is_at(&self, column: &Protected) -> bool {
        column.source.name == self.source.name && column.table.name == self.table.name
    }

    /// Whether the database knows one column by both names.
    fn is_one_column(&self, name: &str, other: &str) -> bool {
        let known = |name| self.shape.column(name).map(|column| &column.name);
        name == other || known(name).is_some_and(|column| Some(column) == known(other))
    }
}
