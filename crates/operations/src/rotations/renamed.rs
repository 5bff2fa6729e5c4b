//! The command that helps a rotation that does not find a column: one that is protected, or that others are bound to.

use rekey_sources::SourceError;
use rekey_store::{ConnectionTrait, StoreError, columns, rotations::Rotation};

use crate::{OperationError, sources::look::if_bind_was_renamed};

/// The command, in a sentence; none where it is another error, or nobody knows which column it was.
///
/// # Errors
/// [`StoreError`] of the database.
pub(super) async fn helps(
    db: &impl ConnectionTrait,
    rotation: &Rotation,
    error: &OperationError,
) -> Result<Option<String>, StoreError> {
    let OperationError::Source(SourceError::NoSuchColumn {
        relation, column, ..
    }) = error
    else {
        return Ok(None);
    };
    let mut of_table = columns::of_keyring(db, rotation.keyring_id).await?;
    of_table.retain(|one| one.table.relation == *relation);
    if let Some(gone) = of_table.iter().find(|one| one.spec.name.column == *column) {
        let name = &gone.spec.name;
        let (source, table) = (&name.source, &name.table);
        return Ok(Some(format!(
            "If it was renamed: rekey columns rename {name} {source}.{table}.NAME"
        )));
    }
    let mut bound = of_table;
    bound.retain(|one| one.spec.bind_columns.contains(column));
    let names = bound.iter().map(|one| &one.spec.name);
    Ok((!bound.is_empty()).then(|| if_bind_was_renamed(names)))
}
