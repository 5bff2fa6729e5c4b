//! SQLite tables and columns after a change of the schema, which makes each look like another: either nothing else
//! changed, or another table has the name now and ciphertext is elsewhere in the file.

use std::collections::HashMap;

use rekey_domain::{KeyId, KeyName};
use rekey_sources::{CensusColumn, Counted, PassToShow, Source, SourceError};
use rekey_store::columns::{self, Protected};

use crate::{
    OperationError, Services,
    sources::{
        counting::{ATTEMPTS, counted},
        look::key_names,
        strays,
    },
};

/// At most so many places are named.
const NAMED: usize = 5;

/// A census of columns with their known identities, or with those found by a look. Looks again if the schema changes
/// meanwhile.
pub(super) async fn counted_as_known(
    services: &Services,
    columns: &[&Protected],
    source: &dyn Source,
    wanted: &[CensusColumn],
    to_show: &mut PassToShow,
) -> Result<Vec<Vec<Counted>>, OperationError> {
    let relation = &columns[0].table.relation;
    for _ in 1..ATTEMPTS {
        match counted(source, relation, wanted, Some(to_show)).await {
            Err(error @ SourceError::Replaced { .. }) => {
                to_show.known = look(services, columns, source, error).await?;
            }
            counted => return Ok(counted?),
        }
    }
    Ok(counted(source, relation, wanted, Some(to_show)).await?)
}

/// The new identities of the columns, if no ciphertext of ours is elsewhere. They are read before the look, so that the
/// census notices a table that changes again.
///
/// # Errors
/// The given error, with the places where ciphertext is left.
pub(crate) async fn look(
    services: &Services,
    columns: &[&Protected],
    source: &dyn Source,
    error: SourceError,
) -> Result<Vec<Option<String>>, OperationError> {
    // PostgreSQL numbers columns for good, so they were really replaced; and our role need not be able to read the
    // others.
    if !columns[0].source.url.starts_with("sqlite") {
        return Err(error.into());
    }
    let shape = source.describe(&columns[0].table.relation).await?;
    let names = columns.iter().map(|column| &column.spec.name.column);
    let known = names.map(|name| shape.identity(name)).collect();
    let protected = columns::all(services.store.db()).await?;
    let keys = key_names(services).await?;
    let left = left(source, columns, &protected, &keys).await?;
    if left.is_empty() {
        return Ok(known);
    }
    let what = format!(
        "the schema has changed, and {} holds ciphertext of ours, or values that cannot be read, which no declared column of the keyring covers: declare or delete what is there",
        left[..left.len().min(NAMED)].join(", ")
    );
    Err(match error {
        SourceError::Replaced {
            relation, column, ..
        } => SourceError::Replaced {
            relation,
            column,
            what,
        },
        error => error,
    }
    .into())
}

/// Where ciphertext is left, begun anew where a table or column went under the look.
async fn left(
    source: &dyn Source,
    columns: &[&Protected],
    protected: &[Protected],
    keys: &HashMap<KeyId, KeyName>,
) -> Result<Vec<String>, SourceError> {
    for _ in 1..ATTEMPTS {
        match strays::of_ours(source, columns, protected, &[], keys).await {
            Err(SourceError::NoSuchTable { .. } | SourceError::NoSuchColumn { .. }) => {}
            left => return left,
        }
    }
    strays::of_ours(source, columns, protected, &[], keys).await
}
