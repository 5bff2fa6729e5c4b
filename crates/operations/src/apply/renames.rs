//! Columns that the file calls otherwise than the store: protected anew, their values would open under no id.

use rekey_domain::ColumnName;
use rekey_sources::SourceError;
use rekey_store::columns::{self, Protected};

use super::{Looked, Resolved};
use crate::{
    Desired, OperationError, Services,
    look::declares,
    sample_opened::{Sample, Where},
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
        let Some(sample) = self.sample().await? else {
            return Ok(());
        };
        for old in left {
            let (keyring, id) = (&old.spec.keyring, &old.spec.column_id);
            if sample.open(self.services, keyring, id).await? > 0 {
                return Err(self.refused(old, "holds values that are bound to its id"));
            }
        }
        Ok(())
    }

    /// By what the catalogue says: two declarations of one column, one in the store and one in the file.
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
        match source.describe(&old.table.relation).await {
            Ok(there) => Ok(there.is_of_the_same_table(shape)),
            Err(SourceError::NoSuchTable { .. } | SourceError::NotATable { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// None where our role may not read the column: then it was not ours.
    async fn sample(&self) -> Result<Option<Sample>, OperationError> {
        let source = &self.looked.sources[self.new.source.name.as_str()];
        let at = Where {
            relation: &self.new.shape.relation,
            column: &self.new.column.name,
            encoding: self.new.encoding,
            bind_columns: &self.new.bind_columns,
        };
        match Sample::read(&**source, &at).await {
            Ok(sample) => Ok(Some(sample)),
            Err(SourceError::NotAllowed { .. }) => Ok(None),
            Err(error) => Err(error.into()),
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
