//! What our updates of a table set off beyond their rows: none of it unless a person said that it may.

use rekey_domain::{Effects, undeclared};
use rekey_sources::TableShape;
use rekey_store::columns::{self, Protected};

use crate::{OperationError, Services};

/// Looks at a column's table, which may have got triggers, rules, publications or foreign keys since it was applied.
///
/// # Errors
/// [`OperationError::Unsaid`] names what was found and what to do.
pub async fn refuse_undeclared_effects(
    services: &Services,
    column: &Protected,
) -> Result<(), OperationError> {
    let source = services.source(&column.source).await?;
    let shape = source.describe(&column.table.relation).await?;
    let undeclared = undeclared(column.table.on_update(), effects(&shape));
    let problem = match undeclared {
        None => tie(services, column, &shape).await?,
        undeclared => undeclared,
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(OperationError::Unsaid {
            table: format!("{}.{}", column.source.name, column.table.name),
            problem,
        }),
    }
}

/// What ties a protected column of the table to another table.
async fn tie(
    services: &Services,
    column: &Protected,
    shape: &TableShape,
) -> Result<Option<String>, OperationError> {
    let mut of_table = columns::all(services.store.db()).await?;
    of_table.retain(|one| one.table.id == column.table.id);
    Ok(of_table.iter().find_map(|one| {
        let name = &one.spec.name.column;
        tied(shape, name).map(|tie| format!("column {name}: {}", would_change_another(tie)))
    }))
}

/// The foreign key that a column is part of.
pub(crate) fn tied<'a>(shape: &'a TableShape, column: &str) -> Option<&'a str> {
    let mut ties = shape.foreign_keys.iter();
    let tie = ties.find(|(tied, _)| shape.column(tied).is_some_and(|tied| tied.name == column));
    tie.map(|(_, name)| name.as_str())
}

/// Why a column that a foreign key ties is not protected.
pub(crate) fn would_change_another(tie: &str) -> String {
    format!(
        "{tie} ties it to another table, whose values would not change with it, or would be changed behind everyone's back; drop the foreign key, or tie the tables by another column"
    )
}

pub(crate) fn effects(shape: &TableShape) -> Effects<'_> {
    Effects {
        update_triggers: &shape.update_triggers,
        always_triggers: &shape.always_triggers,
        own_code: &shape.own_code,
        publications: &shape.publications,
        unidentified: &shape.unidentified,
        suppressible: shape.oid.is_some(),
    }
}
