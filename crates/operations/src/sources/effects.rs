//! What our updates of a table set off beyond their rows: none of it unless a person said that it may.

use rekey_domain::{Effects, undeclared};
use rekey_sources::TableShape;
use rekey_store::columns::Protected;

use crate::{OperationError, Services};

/// Looks at a column's table, which may have got triggers, rules or publications since it was applied.
///
/// # Errors
/// [`OperationError::Unsaid`] names what was found and what to do.
pub async fn refuse_undeclared_effects(
    services: &Services,
    column: &Protected,
) -> Result<(), OperationError> {
    let source = services.source(&column.source).await?;
    let shape = source.describe(&column.table.relation).await?;
    match undeclared(column.table.on_update(), effects(&shape)) {
        None => Ok(()),
        Some(problem) => Err(OperationError::Unsaid {
            table: format!("{}.{}", column.source.name, column.table.name),
            problem,
        }),
    }
}

pub(crate) fn effects(shape: &TableShape) -> Effects<'_> {
    Effects {
        update_triggers: &shape.update_triggers,
        always_triggers: &shape.always_triggers,
        own_code: &shape.own_code,
        publications: &shape.publications,
        unidentified: &shape.unidentified,
    }
}
