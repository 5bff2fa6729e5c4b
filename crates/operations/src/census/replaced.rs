//! A table or column on SQLite that is not what it was: a rebuild took all along, or another has the name now and
//! ciphertext is left elsewhere in the file.

use std::collections::HashMap;

use rekey_domain::{Found, KeyId, KeyName};
use rekey_sources::{Source, SourceError};
use rekey_store::columns::{self, Protected};

use crate::{OperationError, Services, look::key_names};

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
    let keys = key_names(services).await?;
    let left = elsewhere(source, &columns[0].source.name, &protected, &keys).await?;
    match (&left[..], error) {
        ([], _) => Ok(known),
        (
            left,
            SourceError::Replaced {
                relation, column, ..
            },
        ) => Err(SourceError::Replaced {
            relation,
            column,
            what: format!(
                "{} holds ciphertext of ours that no declared column covers",
                left.join(", ")
            ),
        }
        .into()),
        (_, error) => Err(error.into()),
    }
}

/// The columns of a SQLite file that hold ciphertext of ours and are not protected.
pub(crate) async fn elsewhere(
    source: &dyn Source,
    name: &str,
    protected: &[Protected],
    keys: &HashMap<KeyId, KeyName>,
) -> Result<Vec<String>, SourceError> {
    let bare = |relation: &str| {
        let bare = relation.strip_prefix("main.").unwrap_or(relation);
        bare.to_ascii_lowercase()
    };
    let is_protected = |relation: &str, column: &str| {
        protected.iter().any(|one| {
            one.source.name == name
                && bare(&one.table.relation) == bare(relation)
                && one.spec.name.column.eq_ignore_ascii_case(column)
        })
    };
    let ours = |(found, _): &(Found, u64)| matches!(found, Found::Key(id) if keys.contains_key(id));
    let mut left: Vec<String> = Vec::new();
    for table in source.candidates().await? {
        let mut columns = table.columns.clone();
        columns.retain(|column| !is_protected(&table.relation, &column.name));
        let sample = source.sample(&table.relation, &columns, u32::MAX).await?;
        for (column, counts) in columns.iter().zip(&sample.counts) {
            let place = format!("{}.{}", table.relation, column.name);
            let found = !sample.whole || counts.iter().any(ours);
            if found && !left.contains(&place) && left.len() < NAMED {
                left.push(place);
            }
        }
    }
    Ok(left)
}
