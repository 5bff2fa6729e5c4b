//! A canary: the rows of one column go first, then the rotation waits for a person.

use rekey_domain::Canary;
use rekey_operations::OperationError;
use rekey_store::{
    columns::Protected,
    rotations::{Cause, Rotation},
};

use crate::{advance::Advance, steps};

/// The tables that are planned: all, or the one of a canary's column. One statement writes all
/// values of a row (rule 5), so what else of the keyring stands in its rows moves along.
pub fn tables<'a>(rotation: &Rotation, tables: Vec<&'a Protected>) -> Vec<&'a Protected> {
    let Some(only) = rotation.canary().only else {
        return tables;
    };
    let is_its = |column: &&Protected| column.spec.name.shares_rows_with(&only);
    tables.into_iter().filter(is_its).collect()
}

/// The canary is done: the rotation is on hold. Resumed, it plans what has no ranges yet.
pub async fn end(advance: &Advance<'_>) -> Result<(), OperationError> {
    let Canary { only, .. } = advance.rotation.canary();
    let Some(only) = only else {
        return Ok(());
    };
    let why = format!(
        "the canary is done: the rows of {only} are moved; resumed, it moves those of all the other columns"
    );
    steps::pause(advance, Cause::CanaryIsDone, &why).await
}
