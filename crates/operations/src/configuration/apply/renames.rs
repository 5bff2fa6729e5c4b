//! Columns that the file names differently from the store: protected again, their values would open under no id.

use rekey_domain::ColumnName;
use rekey_sources::{Measure, SourceError};
use rekey_store::columns::{self, Protected};

use super::looked::{Looked, Resolved};
use crate::{
    Desired, OperationError, Services,
    sources::{
        look::{declares, describe},
        opening::{ToOpen, open_values},
    },
};

/// Refuses a column that is new by its name and old by its values.
///
/// # Errors
/// [`OperationError::Refused`] names the command that renames it.
pub(super) async fn refuse_renamed(
    services: &Services,
    desired: &Desired,
    looked: &Looked<'_>,
) -> Result<(), OperationError> {
    let stored = columns::all(services.store.db()).await?;
    for new in &looked.resolved {
        let name = new.column_name();
        if stored.iter().any(|old| old.spec.name == name) {
            continue;
        }
        let left = stored
            .iter()
            .filter(|old| old.source.name == name.source && !declares(desired, &old.spec.name));
        let left: Vec<_> = left.collect();
        if !left.is_empty() {
            Renames {
                services,
                looked,
                new,
            }
            .refuse(&left)
            .await?;
        }
    }
    Ok(())
}

struct Renames<'a> {
    services: &'a Services,
    looked: &'a Looked<'a>,
    new: &'a Resolved<'a>,
}

impl Renames<'_> {
    async fn refuse(&self, left: &[&Protected]) -> Result<(), OperationError> {
        for old in left {
            if self.is_one_column(old).await? {
                return Err(self.refused(old, "is the same column"));
            }
        }
        for old in left {
            if self.opens_as(old).await? {
                return Err(self.refused(old, "holds values that are bound to its id"));
            }
        }
        Ok(())
    }

    /// By the catalogue: whether a column of the store and one of the file are the same.
    async fn is_one_column(&self, old: &Protected) -> Result<bool, OperationError> {
        let shape = &self.new.shape;
        let in_table = |name| shape.column(name).map(|column| &column.name);
        if in_table(&old.spec.name.column) != in_table(&self.new.column.name) {
            return Ok(false);
        }
        if old.table.oid.is_some() && old.table.oid == shape.oid {
            return Ok(true);
        }
        let source = &self.looked.sources[self.new.source.name.as_str()];
        match describe(&**source, &old.table.relation).await {
            Ok(there) => Ok(there.is_of_the_same_table(shape)),
            Err(SourceError::NoSuchTable { .. } | SourceError::NotATable { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether values there open under the old column's id. If our role may not read the column, it was not ours.
    async fn opens_as(&self, old: &Protected) -> Result<bool, OperationError> {
        let source = &self.looked.sources[self.new.source.name.as_str()];
        let at = ToOpen {
            column: &self.new.column.name,
            encoding: self.new.encoding,
            bind_columns: &self.new.bind_columns,
            keyring: &old.spec.keyring,
            column_id: &old.spec.column_id,
        };
        let (services, relation) = (self.services, &self.new.shape.relation);
        let opened = open_values(services, &**source, relation, &[at], Measure::Estimate).await;
        match opened.stopped {
            Some(OperationError::Source(SourceError::NotAllowed { .. })) => Ok(false),
            Some(error) => Err(error),
            None => Ok(opened.columns.iter().any(|opening| opening.opened > 0)),
        }
    }

    fn refused(&self, old: &Protected, what: &str) -> OperationError {
        let (new, name, id) = (self.new.column_name(), &old.spec.name, &old.spec.column_id);
        OperationError::Refused(format!(
            "column {new} {what} as {name}, which is protected with the id {id}: declared anew, its values would open under no id. If it was renamed: rekey columns rename {name} {new}, and apply again"
        ))
    }
}

impl Resolved<'_> {
    pub(super) fn column_name(&self) -> ColumnName {
        ColumnName {
            source: self.source.name.clone(),
            table: self.table.name.clone(),
            column: self.column.name.clone(),
        }
    }
}
