//! A table or column on SQLite that is not what it was: a rebuild took all along, or another has the name now and
//! ciphertext is left elsewhere in the file.

use rekey_sources::{Source, SourceError};
use rekey_store::columns::{self, Protected};

use crate::{OperationError, Services, look::key_names, strays};

/// At most so many places are named.
const NAMED: usize = 5;

/// What the columns are known by from now on, if no ciphertext of ours is left elsewhere. Taken before the
/// look: who changes the table again is found out by the census.
///
/// # Errors
/// The error that it was found out by, with where ciphertext is left.
pub(crate) async fn look(
    services: &Services,
    columns: &[&Protected],
    source: &dyn Source,
    error: SourceError,
) -> Result<Vec<Option<String>>, OperationError> {
    // PostgreSQL has said already where it is.
    if !columns[0].source.url.starts_with("sqlite") {
        return Err(error.into());
    }
    let shape = source.describe(&columns[0].table.relation).await?;
    let names = columns.iter().map(|column| &column.spec.name.column);
    let known = names.map(|name| shape.identity(name)).collect();
    let protected = columns::all(services.store.db()).await?;
    let (name, keys) = (&columns[0].source.name, key_names(services).await?);
    let left = strays::of_ours(source, name, &protected, &keys).await?;
    if left.is_empty() {
        return Ok(known);
    }
    let what = format!(
        "{} holds ciphertext of ours, or values that cannot be read, and no declared column covers it",
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
