//! Conflicts that no single column shows: rows that two tables would move, and values bound to columns that move.

use rekey_sources::TableShape;
use rekey_store::{
    Unit,
    columns::{self, Protected},
};

use super::looked::{Looked, Resolved};
use crate::{Desired, OperationError, STORE_SOURCE, Services, sources::whereabouts::is_the_stores};

/// Refuses a column that is declared twice: two plans would move it, and it would be bound to two ids. It may be one
/// table under two names, or a partition or inheriting table beside the table that holds its rows too, in one source or
/// in two that are the same database.
pub(super) fn refuse_twice(looked: &Looked<'_>) -> Result<(), OperationError> {
    let database = |one: &Resolved<'_>| looked.instances.get(one.source.name.as_str());
    for (at, later) in looked.resolved.iter().enumerate() {
        let mut earlier = looked.resolved[..at].iter();
        let same = |first: &&Resolved<'_>| {
            database(first) == database(later) && first.has(&later.shape, &later.column.name)
        };
        let Some(first) = earlier.find(same) else {
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

/// The same for a column of another source in the store that the file no longer names.
pub(super) async fn refuse_protected(
    services: &Services,
    desired: &Desired,
    looked: &Looked<'_>,
) -> Result<(), OperationError> {
    let mut stored = columns::all(services.store.db()).await?;
    let is_named = |name: &String| desired.sources.iter().any(|source| source.name == *name);
    stored.retain(|old| !is_named(&old.source.name) && old.source.name != STORE_SOURCE);
    for new in &looked.resolved {
        let here = &looked.sources[new.source.name.as_str()];
        for old in &stored {
            let url = new.source.url.expose_url();
            if !is_the_stores(&old.source, url, &**here).await? {
                continue;
            }
            let shape = match here.describe(&old.table.relation).await {
                Ok(shape) => shape,
                // What is not there any more is no column of this one.
                Err(error) if error.is_of_every_row() => continue,
                Err(error) => return Err(error.into()),
            };
            if new.has(&shape, &old.spec.name.column) {
                let (name, id) = (&old.spec.name, &old.spec.column_id);
                return Err(wrong(
                    new.name(),
                    format!(
                        "it is protected as {name} with the id {id}, and its values are bound to that: leave the source its name {:?}",
                        old.source.name
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Refuses bind columns that are protected: a value bound to one no longer opens once that one has moved. Asks the
/// store, as a column that the file no longer names is still protected.
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

    /// Whether it is the column called `name` of a table of the same database.
    fn has(&self, shape: &TableShape, name: &str) -> bool {
        let own = self.shape.column(&self.column.name);
        let other = shape.column(name);
        let mut heaps = self.shape.heaps.iter();
        own.map(|own| &own.name) == other.map(|other| &other.name)
            && heaps.any(|heap| shape.heaps.contains(heap))
    }

    pub(super) fn is_at(&self, column: &Protected) -> bool {
        column.source.name == self.source.name && column.table.name == self.table.name
    }

    /// Whether the database knows one column by both names.
    fn is_one_column(&self, name: &str, other: &str) -> bool {
        let known = |one| self.shape.column(one).map(|column| &column.name);
        name == other || known(name).is_some_and(|column| Some(column) == known(other))
    }
}
